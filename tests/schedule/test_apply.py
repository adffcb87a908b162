"""schedule(): the core becomes a micro-kernel call, and the whole stays what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kernels.harness import conv_spec
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.schedule.apply import schedule
from tvm_mpq.schedule.intrinsics import dot_intrinsic, gemm_intrinsic
from tvm_mpq.specs import TensorSpec

pytestmark = pytest.mark.null

tensor = TensorSpec.of_map


@pytest.mark.parametrize("w_bits", [8, 4, 2])
def test_core_of_a_plain_convolution_is_tensorized(w_bits: int) -> None:
    chosen = conv_spec("conv2d", tensor(5, 6, 7, 8), 4, 8, w_bits, (3, 3))
    spec = replace(chosen, variant="", rows=1, pixels=8)
    before, after = primfunc(spec).script(), schedule(spec, primfunc(spec)).script()
    call = f'T.call_extern("int32", "mpq_gemm_x8w{w_bits}_p4c2"'
    assert call not in before and after.count(call) == 1
    assert f", {spec.padded_reduction})" in after.split(call)[1].splitlines()[0]


def test_dense_uses_the_single_pixel_kernel() -> None:
    spec = conv_spec("dense", tensor(29, 1, 1, 4), 11, 8, 4)
    assert '"mpq_dense_w4"' in schedule(spec, primfunc(spec)).script()


@pytest.mark.parametrize(
    ("bits", "variant", "calls"),
    [
        ((8, 8), "pairs", ["mpq_pack_pairs_pw8", "mpq_channels_w8", "mpq_store8"]),
        ((4, 4), "u14w4", ["mpq_pack_u14w4_x4", "mpq_channels_u14w4", "mpq_store_lanes4"]),
    ],
)
def test_blocks_of_a_pointwise_layer_become_calls(
    bits: tuple[int, int], variant: str, calls: list[str]
) -> None:
    chosen = conv_spec("pointwise_conv2d", tensor(16, 4, 8, bits[0]), 4, bits[0], bits[1])
    spec = replace(chosen, variant=variant)
    after = schedule(spec, primfunc(spec)).script()
    assert [after.count(f'T.call_extern("int32", "{call}"') for call in calls] == [1, 1, 1]


def test_plain_depthwise_window_is_unrolled_without_an_extern() -> None:
    chosen = conv_spec("depthwise_conv2d", tensor(4, 8, 8, 8), 4, 8, 8, (3, 3))
    spec = replace(chosen, variant="", rows=1)
    after = schedule(spec, primfunc(spec)).script()
    assert "call_extern" not in after and after.count("T.unroll(3)") == 2


def test_other_kernels_are_left_alone() -> None:
    spec = conv_spec("max_pool2d", tensor(9, 4, 6, 8), 9, 8, 0, (2, 2), (2, 2))
    function = primfunc(spec)
    assert schedule(spec, function).same_as(function)


def test_intrinsics_are_registered_once_per_length() -> None:
    assert gemm_intrinsic(16, 8) is gemm_intrinsic(16, 8) == "mpq_gemm_x8w8_p4c2_k16"
    assert dot_intrinsic(32, 2) == "mpq_dense_w2_k32"
