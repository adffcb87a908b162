"""SelectKernels, PackOperands, LegalizeToTir: from operators on codes to call_tir of kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import relay_passes
from relay_passes.evaluate import evaluate_integer
from relay_passes.graph import nodes
from tests.relay_passes.networks import (
    Sequence,
    op_counts,
    plan_of,
    random_images,
    randomized,
    small_net_annotated,
    with_ranges,
)
from tvm_mpq._tvm_compat import IRModule, constant_array, relax, tvm
from tvm_mpq.errors import DoesNotFitError
from tvm_mpq.kernels.layout import pack_map, unpack_map
from tvm_mpq.kernels.pack import unpack_weights
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.specs import InputSpec
from tvm_mpq.target import Target

TARGET = Target("stm32h7")
LLVM = tvm.target.Target({"kind": "llvm", "opt-level": 0})


def integer(model: nn.Module | None = None, activations: int = 8, weights: int = 8) -> IRModule:
    """The integer network of ``model``, or of SmallNet."""
    if model is None:
        annotated = small_net_annotated(activations, weights)
    else:
        mod = with_ranges(randomized(model))
        annotated = relay_passes.AnnotateBitwidths(plan_of(mod, activations, weights))(mod)
    return relay_passes.RewriteToIcn(InputSpec(), "nearest", "mse")(annotated)


def packed(mod: IRModule) -> IRModule:
    return relay_passes.PackOperands()(relay_passes.SelectKernels(TARGET)(mod))


@pytest.mark.null
def test_chosen_kernels_of_small_net() -> None:
    selected = relay_passes.SelectKernels(TARGET)(integer(None, 4, 2))
    assert op_counts(selected) == op_counts(integer(None, 4, 2))
    assert {node.name: node.attrs["kernel"] for node in nodes(selected)} == {
        "conv2d_0": "conv3x3s2_x8w2y4_p4c2r7_pairs",
        "depthwise_conv2d_1": "dw3x3s1_x4w2y4_r7_lanes",
        "conv2d_2": "pw_x4w2y4_p3c4r7k8_umlal10",
        "add_3": "add_x4x4y4",
        "conv2d_4": "pw_x4w2y4_p3c4r7k8_umlal10",
        "concat_5": "concat_x4x4y4",
        "max_pool2d_6": "maxpool3x3s2_x4y4",
        "global_avg_pool_7": "gap_x4y4",
        "dense_8": "fc_x4w2y32_c4_smlad",
    }
    assert nodes(selected)[6].attrs["window"] == (3, 3)


@pytest.mark.null
def test_no_kernel_within_the_scratch_limit() -> None:
    tight = Target("stm32h7", scratch=64)
    with pytest.raises(DoesNotFitError, match=r"layer conv2d_0: kernel conv3x3s2.*-scratch=160"):
        relay_passes.SelectKernels(tight)(integer())


@pytest.mark.null
def test_packing_gives_buffers_and_keeps_every_weight() -> None:
    mod = integer(None, 4, 2)
    after = packed(mod)
    assert op_counts(after) == {"mpq.kernel": 9}
    text = after.script(show_meta=False)
    assert 'x: R.Tensor((13, 42), dtype="uint8")' in text
    assert 'conv2d_0: R.Tensor((7, 8, 1), dtype="uint32")' in text
    for old, new in zip(nodes(mod), nodes(after), strict=True):
        spec = KernelSpec.from_json(new.attrs["spec"])
        if spec.w_bits:
            codes, words = constant_array(old.args[1]), constant_array(new.args[1])
            assert words.size == spec.weight_words
            assert np.array_equal(unpack_weights(spec, words, codes.shape), codes)
            assert constant_array(new.args[2]).size == spec.icn_words


@pytest.mark.null
def test_legalized_calls_whole_tensors_and_shares_kernels() -> None:
    twice = Sequence(lambda x: torch.cat([x, x], 1), 16)
    mod = relay_passes.LegalizeToTir()(packed(integer(twice)))
    assert op_counts(mod) == {"call_tir": 4}
    text = mod["main"].script()
    assert "(x, metadata" in text and ", 13, 13, 0, 13)" in text  # x_ring, y_ring, y0, rows
    same = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    shared = relay_passes.LegalizeToTir()(packed(integer(same)))
    functions = [var.name_hint for var, _ in shared.functions_items()]
    assert sum(name.startswith("mpq_pw_x8w8y8") for name in functions) == 2  # image, and map twice
    assert op_counts(shared) == {"call_tir": 5}


def run_in_vm(mod: IRModule, image: np.ndarray) -> np.ndarray:
    """int32 logits of the legalized module in TVM's virtual machine, through LLVM."""
    chosen = packed(mod)
    first, last = (KernelSpec.from_json(nodes(chosen)[i].attrs["spec"]) for i in (0, -1))
    executable = relax.build(relay_passes.LegalizeToTir()(chosen), LLVM)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    result = machine["main"](tvm.runtime.tensor(pack_map(image, first.x)))
    return unpack_map(result.numpy(), last.output)


class VectorConcat(nn.Module):
    """Concat of pooled vectors, whose codes share words."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 7, 3, padding=1), nn.Conv2d(7, 6, 1)
        self.classifier = nn.Linear(13, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.a(x))
        pooled = [a.mean((2, 3), keepdim=True), self.b(a).mean((2, 3), keepdim=True)]
        return self.classifier(torch.cat(pooled, 1).flatten(1))


class OnePixel(nn.Module):
    """A plain convolution with padding and a depthwise one that end in a 1x1 map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, 7, 1), nn.Conv2d(6, 9, 3, 2, 1)
        self.c, self.classifier = nn.Conv2d(9, 9, 3, 1, 1, groups=9), nn.Linear(9, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))))
        return self.classifier(y.flatten(1))


def flattened() -> nn.Module:
    """Dense layers over a whole map, one after the other."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, 4), nn.ReLU6(), nn.Flatten(), nn.Linear(45, 9), nn.ReLU(),
        nn.Linear(9, 3),
    )  # fmt: skip


@pytest.mark.cc
@pytest.mark.parametrize(
    ("make", "activations", "weights"),
    [
        (None, 8, 4),
        (None, 4, 2),
        (None, 2, 8),
        (VectorConcat, 2, 8),
        (OnePixel, 4, 8),
        (flattened, 4, 4),
    ],
)
def test_virtual_machine_equals_numpy(
    make: Callable[[], nn.Module] | None, activations: int, weights: int
) -> None:
    mod = integer(make() if make else None, activations, weights)
    for image in random_images(2, seed=9):
        assert run_in_vm(mod, image).tolist() == evaluate_integer(mod, image).tolist()
