"""The scheduled form of 3x3 depthwise convolutions: a band of rows is the call of a micro-kernel.

    mpq_depthwise    for each channel: its lines as halfwords, its taps, sums and codes

A channel stays for a whole band, so that each of its lines is unpacked once and not three times.
"""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels import planar
from tvm_mpq.kernels.spec import KernelSpec


def planar_schedule(spec: KernelSpec) -> tirx.PrimFunc:
    """The PrimFunc of ``depthwise_primfunc(spec)`` with its blocks replaced; same parameters."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer
    stride, band, top = spec.strides[0], spec.rows, spec.padding[0]
    line_words, tap_words = (buffer.shape[0] for buffer in spec.scratch)
    call, layer = planar.call_of(spec)

    @T.prim_func(s_tir=True)
    def kernel(
        x_ptr: T.handle,
        w_ptr: T.handle,
        icn_ptr: T.handle,
        x_ring: T.int32,
        y_ring: T.int32,
        y0: T.int32,
        rows: T.int32,
        y_ptr: T.handle,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.match_buffer(x_ptr, (x_ring, *x_shape[1:]), x_dtype)
        W = T.match_buffer(w_ptr, (spec.weight_words,), "uint32")
        ICN = T.match_buffer(icn_ptr, (spec.icn_words,), "int32")
        Y = T.match_buffer(y_ptr, (y_ring, *y_shape[1:]), "uint32")
        lines = T.sblock_alloc_buffer((line_words,), "uint32")
        taps = T.sblock_alloc_buffer((tap_words,), "uint32")
        for strip in T.serial(T.floordiv(rows + (band - 1), band)):
            with T.sblock("core"):
                v_s = T.axis.spatial(T.floordiv(rows + (band - 1), band), strip)
                T.reads(
                    X[0:x_ring, 0 : x_shape[1]],
                    W[0 : spec.weight_words],
                    ICN[0 : spec.icn_words],
                )
                T.writes(
                    Y[0:y_ring, 0 : y.channels, 0 : y_shape[2]],
                    lines[0:line_words],
                    taps[0:tap_words],
                )
                T.evaluate(
                    T.call_extern(
                        "int32",
                        call,
                        *layer,
                        lines.access_ptr("rw"),
                        taps.access_ptr("rw"),
                        X.access_ptr("r"),
                        x_ring,
                        (y0 + v_s * band) * stride - top,
                        (T.min(band, rows - v_s * band) - 1) * stride + 3,
                        Y.access_ptr("w"),
                        y_ring,
                        y0 + v_s * band,
                        T.min(band, rows - v_s * band),
                        W.access_ptr("r"),
                        ICN.access_ptr("r"),
                    )
                )

    return kernel
