"""From a KernelSpec to its unscheduled PrimFunc and its packed operands."""

from __future__ import annotations

from collections.abc import Callable

from tvm_mpq._tvm_compat import tirx
from tvm_mpq.kernels.dense import dense_primfunc
from tvm_mpq.kernels.depthwise import depthwise_primfunc
from tvm_mpq.kernels.elementwise import add_primfunc, concat_primfunc
from tvm_mpq.kernels.gemm import gemm_primfunc
from tvm_mpq.kernels.pool import (
    global_avg_pool_primfunc,
    global_avg_pool_rows_primfunc,
    max_pool2d_primfunc,
)
from tvm_mpq.kernels.spec import KernelSpec

_BUILDERS: dict[str, Callable[[KernelSpec], tirx.PrimFunc]] = {
    "conv2d": gemm_primfunc,
    "pointwise_conv2d": gemm_primfunc,
    "depthwise_conv2d": depthwise_primfunc,
    "dense": dense_primfunc,
    "global_avg_pool": global_avg_pool_primfunc,
    "global_avg_pool_rows": global_avg_pool_rows_primfunc,
    "max_pool2d": max_pool2d_primfunc,
    "add": add_primfunc,
    "concat": concat_primfunc,
}


def primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """The S-TIR PrimFunc of ``spec``, its symbol set and its kernel name attached.

    Parameters: the inputs, then w and icn where the operator has them, one ring per input, y_ring,
    y0, rows, and the output last.
    """
    function = _BUILDERS[spec.op](spec)
    return function.with_attr("global_symbol", spec.symbol).with_attr("mpq.kernel", spec.name)
