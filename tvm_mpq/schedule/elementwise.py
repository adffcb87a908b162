"""The scheduled form of requantized adds: a row is the call of a micro-kernel."""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.spec import KernelSpec


def add_schedule(spec: KernelSpec) -> tirx.PrimFunc:
    """The PrimFunc of ``add_primfunc(spec)`` with its block replaced; same parameters."""
    a, b = spec.inputs
    y = spec.output
    lines = y.lines[0]

    @T.prim_func(s_tir=True)
    def kernel(
        a_ptr: T.handle,
        b_ptr: T.handle,
        icn_ptr: T.handle,
        a_ring: T.int32,
        b_ring: T.int32,
        y_ring: T.int32,
        y0: T.int32,
        rows: T.int32,
        y_ptr: T.handle,
    ):
        T.func_attr({"tirx.noalias": False})
        A = T.match_buffer(a_ptr, (a_ring, lines, a.line_words), "uint32")
        B = T.match_buffer(b_ptr, (b_ring, lines, b.line_words), "uint32")
        ICN = T.match_buffer(icn_ptr, (spec.icn_words,), "int32")
        Y = T.match_buffer(y_ptr, (y_ring, lines, y.line_words), "uint32")
        for row in T.serial(rows):
            with T.sblock("add"):
                v_row = T.axis.spatial(rows, row)
                T.reads(A[0:a_ring, 0:lines], B[0:b_ring, 0:lines], ICN[0:4])
                T.writes(Y[0:y_ring, 0:lines, 0 : y.line_words])
                T.evaluate(
                    T.call_extern(
                        "int32",
                        f"mpq_add_x{a.bits}x{b.bits}y{y.bits}",
                        A.access_ptr(
                            "r", offset=T.truncmod(y0 + v_row, a_ring) * (lines * a.line_words)
                        ),
                        B.access_ptr(
                            "r", offset=T.truncmod(y0 + v_row, b_ring) * (lines * b.line_words)
                        ),
                        Y.access_ptr(
                            "w", offset=T.truncmod(y0 + v_row, y_ring) * (lines * y.line_words)
                        ),
                        ICN.access_ptr("r"),
                        a.zero_point,
                        b.zero_point,
                        y.zero_point,
                        *_span(spec),
                    )
                )

    return kernel


def _span(spec: KernelSpec) -> tuple[int, int]:
    """Lines of a row and codes of a line; a row is one line where all its words are alike."""
    y = spec.output
    lines, codes = y.lines
    if all(tensor.bits == y.bits for tensor in spec.inputs):
        return 1, lines * y.line_words * y.codes_per_word
    return lines, codes
