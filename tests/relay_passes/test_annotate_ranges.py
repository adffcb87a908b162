"""AnnotateRanges: what is attached, and the calibration data it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from relay_passes import AnnotateRanges
from relay_passes.graph import nodes
from tests.relay_passes.networks import (
    SHAPE,
    fused,
    op_counts,
    random_images,
    real_images,
    small_net,
    small_net_with_ranges,
)
from tvm_mpq.errors import CalibrationError, MpqError
from tvm_mpq.images import to_real
from tvm_mpq.specs import InputSpec

pytestmark = pytest.mark.null


def test_every_block_but_pools_gets_ranges() -> None:
    mod = small_net_with_ranges()
    assert op_counts(mod) == op_counts(fused(small_net()))
    with_ranges = {node.name for node in nodes(mod) if "y_ranges" in node.attrs}
    assert {node.name for node in nodes(mod)} - with_ranges == {"max_pool2d_6", "global_avg_pool_7"}
    for node in nodes(mod):
        if node.name in with_ranges:
            lows, highs = node.attrs["y_ranges"][::2], node.attrs["y_ranges"][1::2]
            assert len(lows) == 3 and max(lows) <= 0 < min(highs)


def test_max_method_gives_the_extremes_of_torch() -> None:
    images = random_images(20, seed=4)  # more than two batches
    mod = AnnotateRanges(images, InputSpec(), "max")(fused(small_net()))
    logits = small_net()(real_images(images)).detach()
    low, high = nodes(mod)[-1].attrs["y_ranges"][:2]
    assert low == pytest.approx(min(0.0, float(logits.min())), abs=1e-5)
    assert high == pytest.approx(float(logits.max()), abs=1e-5)


def test_means_of_the_inputs_go_to_layers_with_weights() -> None:
    stem = nodes(small_net_with_ranges())[0]
    expected = real_images(random_images(8)).mean((0, 2, 3)).tolist()
    assert stem.attrs["x_means"] == pytest.approx(expected, abs=1e-5)
    assert "x_means" not in nodes(small_net_with_ranges())[3].attrs  # the add


def test_to_real_is_the_input_spec() -> None:
    images = np.array([[[[0], [255]]]], np.uint8)
    assert to_real(images, InputSpec()).reshape(-1) == pytest.approx([-1.0, 1.0], abs=1e-6)
    zero_one = InputSpec.from_range("0,1")
    assert to_real(images, zero_one).reshape(-1) == pytest.approx([0.0, 1.0], abs=1e-6)
    assert to_real(random_images(2), zero_one).shape == (2, 3, *SHAPE[:2])


WANTED = r"uint8 \[N, 13, 14, 3\]"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, f"no images; .*{WANTED}"),
        (random_images(2)[:0], f"no images; .*{WANTED}"),
        (random_images(2).astype(np.float32), rf"float32 \[2, 13, 14, 3\]; expected {WANTED}"),
        (random_images(2).transpose(0, 3, 1, 2), rf"\[2, 3, 13, 14\]; expected {WANTED}"),
        (random_images(1)[0], rf"\[13, 14, 3\]; expected {WANTED}"),
    ],
)
def test_bad_images(images: np.ndarray, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        AnnotateRanges(images, InputSpec(), "mse")(fused(small_net()))


def test_unknown_method() -> None:
    with pytest.raises(MpqError, match="'median'.*mse and max"):
        AnnotateRanges(random_images(1), InputSpec(), "median")(fused(small_net()))


def test_activations_that_overflow() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).eval()
    with torch.no_grad():
        model[0].weight.fill_(1e30)
        model[1].weight.fill_(1e30)
    with pytest.raises(CalibrationError, match="output of conv2d_0 is NaN or infinite"):
        AnnotateRanges(random_images(1), InputSpec(), "mse")(fused(model))
