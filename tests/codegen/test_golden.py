"""The C of a dozen kernels, as text: a change of the generator shows as a diff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.kernels.harness import conv_spec
from tvm_mpq.codegen.plain_c import kernel_source
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.schedule.apply import schedule
from tvm_mpq.specs import TensorSpec

pytestmark = pytest.mark.null

tensor = TensorSpec.of_map
SAME = (1, 1, 1, 1)
SPECS = {
    "conv_image": conv_spec(
        "conv2d", TensorSpec(3, 9, 11, 8, 128, "hwc8"), 8, 4, 8, (3, 3), (2, 2), (0, 0, 1, 1)
    ),
    "conv": conv_spec("conv2d", tensor(5, 6, 7, 4, 3), 4, 2, 2, (3, 3), (1, 1), SAME),
    "pw_x8w8y8": conv_spec("pointwise_conv2d", tensor(16, 8, 8, 8), 8, 8, 8),
    "pw_x4w4y4": conv_spec("pointwise_conv2d", tensor(16, 8, 8, 4), 8, 4, 4),
    "pw_tail": conv_spec("pointwise_conv2d", tensor(13, 3, 7, 2, 1), 5, 4, 8, zy=2),
    "pw_strided": conv_spec("pointwise_conv2d", tensor(8, 8, 8, 8), 4, 8, 4, strides=(2, 2)),
    "dw": conv_spec("depthwise_conv2d", tensor(4, 8, 8, 8), 4, 8, 8, (3, 3), (1, 1), SAME),
    "dw_strided": conv_spec(
        "depthwise_conv2d", tensor(4, 8, 8, 4, 3), 4, 2, 4, (3, 3), (2, 2), (0, 0, 1, 1)
    ),
    "dw_vector": conv_spec("depthwise_conv2d", tensor(9, 3, 3, 8), 9, 4, 8, (3, 3)),
    "dw_m16": replace(
        conv_spec("depthwise_conv2d", tensor(4, 8, 8, 8), 4, 8, 8, (3, 3), (1, 1), SAME),
        multiplier_bits=16,
    ),
    "dw_vector_m16": replace(
        conv_spec("depthwise_conv2d", tensor(9, 3, 3, 8), 9, 4, 8, (3, 3)), multiplier_bits=16
    ),
    "fc": conv_spec("dense", tensor(29, 1, 1, 4), 11, 8, 4),
    "fc_logits": KernelSpec(
        "dense", (tensor(19, 1, 1, 8),), TensorSpec(7, 1, 1, 32, 0, "logits"), 8
    ),
    "gap": KernelSpec("global_avg_pool", (tensor(9, 3, 5, 4, 1),), tensor(9, 1, 1, 4, 1)),
    "maxpool": conv_spec("max_pool2d", tensor(3, 8, 11, 4), 3, 4, 0, (3, 3), (2, 2), SAME),
    "add": KernelSpec("add", (tensor(3, 4, 9, 8, 7), tensor(3, 4, 9, 4)), tensor(3, 4, 9, 4, 1)),
    "concat": KernelSpec("concat", (tensor(2, 4, 9, 8), tensor(3, 4, 9, 4)), tensor(5, 4, 9, 8)),
    "concat_vectors": KernelSpec(
        "concat", (tensor(5, 1, 1, 8), tensor(3, 1, 1, 4)), tensor(8, 1, 1, 4)
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_kernel_text(name: str, golden: Callable[[str, str], None]) -> None:
    spec = SPECS[name]
    golden(f"{name}.c", kernel_source(spec, schedule(spec, primfunc(spec))))


def test_generating_twice_gives_the_same_text() -> None:
    spec = SPECS["conv"]
    texts = {kernel_source(spec, schedule(spec, primfunc(spec))) for _ in range(2)}
    assert len(texts) == 1
