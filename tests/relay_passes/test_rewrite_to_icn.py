"""RewriteToIcn: integer operators, their printed types, and closeness to the float network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from relay_passes import AnnotateBitwidths, RewriteToIcn
from relay_passes.evaluate import evaluate_float, evaluate_integer
from relay_passes.graph import nodes
from relay_passes.rewrite_to_icn import Quantization
from tests.relay_passes.networks import (
    Sequence,
    op_counts,
    plan_of,
    random_images,
    randomized,
    real_images,
    small_net,
    small_net_annotated,
    small_net_with_ranges,
    with_ranges,
)
from tvm_mpq._tvm_compat import IRModule
from tvm_mpq.errors import UnsupportedOperatorError
from tvm_mpq.specs import InputSpec

pytestmark = pytest.mark.null


def integer(activations: int = 8, weights: int = 8, rounding: str = "nearest") -> IRModule:
    return RewriteToIcn(InputSpec(), rounding, "mse")(small_net_annotated(activations, weights))


def test_operators_become_integer_ones() -> None:
    before = op_counts(small_net_annotated())
    assert op_counts(integer()) == {
        op.replace("mpq.", "mpq.icn_"): count for op, count in before.items()
    }


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_widths_show_in_the_printed_module(bits: int) -> None:
    text = integer(bits, 8).script(show_meta=False)
    assert 'x: R.Tensor((1, 13, 14, 3), dtype="uint8")' in text  # the image, NHWC
    assert f'conv2d_0: R.Tensor((1, 8, 7, 7), dtype="uint{bits}")' in text
    assert f'global_avg_pool_7: R.Tensor((1, 13, 1, 1), dtype="uint{bits}")' in text
    assert 'dense_8: R.Tensor((1, 5, 1, 1), dtype="int32")' in text
    assert '"w_bits": 8' in text and "mpq.logits_scale" in text


def test_attributes_that_kernels_need() -> None:
    stem, _, project, add, _, concat, _, pool, last = nodes(integer(4))
    assert stem.attrs["x_layout"] == "hwc8" and stem.attrs["x_zero_points"] == (128,)
    assert stem.attrs["y_zero_point"] == 0  # a clipped output starts at 0
    assert 0 < project.attrs["y_zero_point"] < 15  # a linear one does not
    assert add.attrs["x_zero_points"] == (project.attrs["y_zero_point"], 0)
    assert add.attrs["nearest"] == 1 and max(add.attrs["m"]) >= 2**30
    assert len(concat.attrs["m"]) == 2
    assert pool.attrs["bq"] == 9 // 2
    assert last.attrs["y_bits"] == 32


@pytest.mark.parametrize(("activations", "weights", "tolerance"), [(8, 8, 0.02), (4, 4, 0.35)])
def test_integer_network_is_close_to_the_float_one(
    activations: int, weights: int, tolerance: float
) -> None:
    mod, images = integer(activations, weights), random_images(8)
    scale = float(mod["main"].attrs["mpq.logits_scale"])
    logits = np.stack([evaluate_integer(mod, image) for image in images]) * scale
    expected = small_net()(real_images(images)).detach().numpy()
    assert np.abs(logits - expected).max() < tolerance * np.abs(expected).max()


def test_every_layer_is_close_in_real_units() -> None:
    mod, image = integer(), random_images(1)
    real: dict[str, np.ndarray] = {}
    codes: dict[str, np.ndarray] = {}
    floats = real_images(image).numpy()
    evaluate_float(small_net_with_ranges(), floats, lambda n, t: real.update({n: t[0].numpy()}))
    evaluate_integer(mod, image[0], lambda n, c: codes.update({n: c}))
    for node in nodes(mod)[:-1]:
        value = (codes[node.name].astype(float) - node.attrs["y_zero_point"]) * node.attrs[
            "y_scale"
        ]
        assert np.abs(value - real[node.name]).max() < 6 * node.attrs["y_scale"], node.name


def test_nearest_is_closer_than_floor() -> None:
    images = random_images(8)
    expected = small_net()(real_images(images)).detach().numpy()
    errors = {}
    for rounding in ("nearest", "floor"):
        mod = integer(4, 8, rounding)
        scale = float(mod["main"].attrs["mpq.logits_scale"])
        logits = np.stack([evaluate_integer(mod, image) for image in images]) * scale
        errors[rounding] = np.abs(logits - expected).mean()
    assert errors["nearest"] < errors["floor"]


def rewritten(model: nn.Module) -> IRModule:
    mod = with_ranges(randomized(model))
    return RewriteToIcn(InputSpec(), "nearest", "mse")(AnnotateBitwidths(plan_of(mod))(mod))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (nn.Conv2d(3, 4, 3), "ends in conv2d"),
        (nn.Sequential(Sequence(torch.relu), nn.ReLU()), "ends in dense"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)), "ends in global_avg_pool"),
    ],
)
def test_network_must_end_in_a_dense_layer(model: nn.Module, found: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=f"{found}.*dense layer without activation"):
        rewritten(model)


@pytest.mark.parametrize(
    "first", [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 3, groups=3)]
)
def test_network_must_start_with_a_convolution(first: nn.Module) -> None:
    model = nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(UnsupportedOperatorError, match="reads the image.*must be a convolution"):
        rewritten(model)


def test_quantizer_of_a_range() -> None:
    assert Quantization.of_range(0.0, 6.0, 8) == Quantization(6 / 255, 0, 8)
    signed = Quantization.of_range(-1.0, 2.0, 2)
    assert signed.scale == 1.0 and signed.zero_point == 1 and signed.dtype == "uint2"
    assert Quantization.of_range(-3.0, 0.0, 4).zero_point == 15
