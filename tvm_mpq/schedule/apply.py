"""From an unscheduled kernel PrimFunc to the one that becomes C."""

from __future__ import annotations

from tvm_mpq._tvm_compat import IRModule, s_tir, tirx
from tvm_mpq.kernels import planar
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import GEMM_OPS, PIXEL_TILE, KernelSpec
from tvm_mpq.schedule.convolution import strip_schedule
from tvm_mpq.schedule.dense import dense_pairs_schedule
from tvm_mpq.schedule.depthwise import planar_schedule
from tvm_mpq.schedule.elementwise import add_schedule
from tvm_mpq.schedule.intrinsics import dot_intrinsic, gemm_intrinsic
from tvm_mpq.schedule.lanes import lanes_schedule
from tvm_mpq.schedule.pool import POOLS, pool_schedule


def schedule(spec: KernelSpec, function: tirx.PrimFunc | None = None) -> tirx.PrimFunc:
    """``function`` with its core block tensorized, or its reduction initialized ahead of it.

    ``function``: the PrimFunc of ``spec``, which is made where it is needed when None.

    Before --> after, for a pointwise convolution:

        for p, o, k: acc[p, o] += X[p, k] * W[o, k]
        --> for p, o: acc[p, o] = 0;  for p / 4: mpq_gemm_x8w4_p4c2(&X, &W, &acc, K)
    """
    whole = _whole(spec)
    if whole is not None:
        return whole.with_attr("global_symbol", spec.symbol)
    function = primfunc(spec) if function is None else function
    if spec.op not in (*GEMM_OPS, "depthwise_conv2d"):
        return function
    name = spec.symbol
    sch = s_tir.Schedule(IRModule({name: function}))
    core = sch.get_sblock("core", name)
    if spec.op == "depthwise_conv2d":
        pixel, window_row, window_column = sch.get_loops(core)[-3:]
        # A window of one tap has no reduction loop left to peel the initialization from.
        sch.decompose_reduction(core, window_row)
        sch.unroll(window_row)
        sch.unroll(window_column)
    elif spec.op == "dense":
        channel, _ = sch.get_loops(core)[-2:]
        sch.decompose_reduction(core, channel)
        sch.tensorize(channel, dot_intrinsic(spec.padded_reduction, spec.w_bits))
    else:
        pixel, _, _ = sch.get_loops(core)[-3:]
        outer, inner = sch.split(pixel, [None, PIXEL_TILE])
        sch.decompose_reduction(core, outer)
        sch.tensorize(inner, gemm_intrinsic(spec.padded_reduction, spec.w_bits))
    return sch.mod[name]


def _whole(spec: KernelSpec) -> tirx.PrimFunc | None:
    """The PrimFunc of kernels whose every block is the call of a micro-kernel."""
    if spec.lanes is not None:
        return lanes_schedule(spec)
    if spec.variant == "pairs":
        return dense_pairs_schedule(spec) if spec.op == "dense" else strip_schedule(spec)
    if spec.variant in planar.VARIANTS:
        return planar_schedule(spec)
    if spec.op == "add":
        return add_schedule(spec)
    # A pooled vector is one line of all channels, which the micro-kernel does not read.
    return pool_schedule(spec) if spec.op in POOLS and spec.x.layout == "hcw" else None
