"""The scheduled forms of global average pools: the call of a micro-kernel that adds whole words."""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.spec import KernelSpec

POOLS = ("global_avg_pool", "global_avg_pool_rows")


def pool_schedule(spec: KernelSpec) -> tirx.PrimFunc:
    """The PrimFunc of ``spec`` with its blocks replaced; same parameters."""
    return _rows_pool(spec) if spec.op == "global_avg_pool_rows" else _whole_pool(spec)


def _constants(spec: KernelSpec) -> tuple[int, ...]:
    x, y = spec.x, spec.output
    base = x.zero_point * x.height * x.width
    return (x.channels, x.height, x.width, x.line_words, y.bits, base, y.zero_point)


def _whole_pool(spec: KernelSpec) -> tirx.PrimFunc:
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer

    @T.prim_func(s_tir=True)
    def kernel(
        x_ptr: T.handle,
        icn_ptr: T.handle,
        x_ring: T.int32,
        y_ring: T.int32,
        y0: T.int32,
        rows: T.int32,
        y_ptr: T.handle,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.match_buffer(x_ptr, (x_ring, *x_shape[1:]), x_dtype)
        ICN = T.match_buffer(icn_ptr, (spec.icn_words,), "int32")
        Y = T.match_buffer(y_ptr, (y_ring, *y_shape[1:]), "uint32")
        for row in T.serial(rows):
            with T.sblock("pool"):
                v_row = T.axis.spatial(rows, row)
                T.reads(X[0:x_ring, 0 : x_shape[1]], ICN[0 : spec.icn_words])
                T.writes(Y[0:y_ring, 0:1, 0 : y_shape[2]])
                T.evaluate(
                    T.call_extern(
                        "int32",
                        f"mpq_pool_x{x.bits}",
                        X.access_ptr("r"),
                        x_ring,
                        Y.access_ptr("w", offset=T.truncmod(y0 + v_row, y_ring) * y_shape[2]),
                        ICN.access_ptr("r"),
                        *_constants(spec),
                    )
                )

    return kernel


def _rows_pool(spec: KernelSpec) -> tirx.PrimFunc:
    x = spec.x
    x_shape, x_dtype = x.buffer

    @T.prim_func(s_tir=True)
    def kernel(
        x_ptr: T.handle,
        icn_ptr: T.handle,
        x_ring: T.int32,
        y_ring: T.int32,
        y0: T.int32,
        rows: T.int32,
        y_ptr: T.handle,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.match_buffer(x_ptr, (x_ring, *x_shape[1:]), x_dtype)
        ICN = T.match_buffer(icn_ptr, (spec.icn_words,), "int32")
        Y = T.match_buffer(y_ptr, (y_ring * x.channels,), "uint32")
        with T.sblock("pool"):
            T.reads(X[0:x_ring, 0 : x_shape[1]], ICN[0 : spec.icn_words])
            T.writes(Y[0 : x.channels])
            T.evaluate(
                T.call_extern(
                    "int32",
                    f"mpq_pool_rows_x{x.bits}",
                    X.access_ptr("r"),
                    x_ring,
                    y0,
                    rows,
                    Y.access_ptr("rw"),
                    ICN.access_ptr("r"),
                    *_constants(spec),
                )
            )

    return kernel
