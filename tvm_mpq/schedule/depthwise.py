"""The scheduled form of 3x3 depthwise convolutions: every block is the call of a micro-kernel.

    pack_rows   mpq_dw_lines*, mpq_dw_taps    one channel of a band of rows as halfwords, its taps
    core        mpq_dw3x3s*_rows*             sums, requantized and stored as whole words

A channel stays for a whole band, so that each of its lines is unpacked once and not three times.
"""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.spec import KernelSpec


def planar_schedule(spec: KernelSpec) -> tirx.PrimFunc:
    """The PrimFunc of ``depthwise_primfunc(spec)`` with its blocks replaced; same parameters."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer
    channels, stride, pitch = y.channels, spec.strides[0], spec.line_pitch
    band, (top, left) = spec.rows, spec.padding[:2]
    span = (y.width - 1) * stride + 3
    line_words, tap_words = (buffer.shape[0] for buffer in spec.scratch)
    core = f"mpq_dw3x3s{stride}_rows{y.bits}_{pitch}"
    zero_x, zero_y = x.zero_point, y.zero_point

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
        for strip, channel in T.grid(T.floordiv(rows + (band - 1), band), channels):
            with T.sblock("pack_rows"):
                v_s, v_c = T.axis.remap("SS", [strip, channel])
                T.reads(
                    X[0:x_ring, 0 : x_shape[1]],
                    W[0 : spec.weight_words],
                    ICN[0 : spec.icn_words],
                )
                T.writes(lines[0:line_words], taps[0:tap_words])
                T.evaluate(
                    T.call_extern(
                        "int32",
                        f"mpq_dw_lines{x.bits}_l{left}",
                        lines.access_ptr("w"),
                        X.access_ptr("r"),
                        x_ring,
                        (y0 + v_s * band) * stride - top,
                        (T.min(band, rows - v_s * band) - 1) * stride + 3,
                        channels,
                        v_c,
                        x.line_words,
                        x.height,
                        x.width,
                        span,
                        zero_x,
                        pitch,
                    )
                )
                T.evaluate(
                    T.call_extern(
                        "int32",
                        "mpq_dw_taps",
                        taps.access_ptr("w"),
                        W.access_ptr("r"),
                        spec.w_bits,
                        ICN.access_ptr("r"),
                        channels,
                        v_c,
                        zero_y,
                    )
                )
            with T.sblock("core"):
                v_s, v_c = T.axis.remap("SS", [strip, channel])
                T.reads(lines[0:line_words], taps[0:tap_words])
                T.writes(Y[0:y_ring, 0:channels, 0 : y_shape[2]])
                T.evaluate(
                    T.call_extern(
                        "int32",
                        core,
                        lines.access_ptr("r"),
                        taps.access_ptr("r"),
                        Y.access_ptr("w"),
                        y_ring,
                        y0 + v_s * band,
                        T.min(band, rows - v_s * band),
                        y.width,
                        zero_y,
                        channels,
                        v_c,
                        y.line_words,
                    )
                )

    return kernel
