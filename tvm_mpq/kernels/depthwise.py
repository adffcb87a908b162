"""Depthwise conv2d: one channel line at a time.

pack_rows   the input lines under the window as uint8 codes, Zx beyond the borders;
            the taps as int16 W - Zw, so that the inner loop has no zero point
core        acc[pixel] = sum over the window of X * (W - Zw)
epilogue    ICN, codes collected to whole words before the store
"""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tir_common import (
    field,
    icn_bq,
    icn_zw,
    load_padded,
    placed,
    requantized,
    saturated,
)
from tvm_mpq.specs import WORD_BITS


def depthwise_primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """The unscheduled PrimFunc; parameters as in ``gemm_primfunc``."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer
    taps_y, taps_x = spec.kernel
    stride_y, stride_x = spec.strides
    top, left = spec.padding[0], spec.padding[1]
    channels, width, per_word = y.channels, y.width, y.codes_per_word
    span = (width - 1) * stride_x + taps_x
    bits, w_per_word = spec.w_bits, WORD_BITS // spec.w_bits
    window = taps_y * taps_x
    vector = y.layout == "vec"

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
        lines = T.sblock_alloc_buffer((taps_y, span), "uint8")
        taps = T.sblock_alloc_buffer((taps_y, taps_x), "int16")
        acc = T.sblock_alloc_buffer((width,), "int32")
        word = T.sblock_alloc_buffer((1,), "uint32")
        phi = T.sblock_alloc_buffer((1,), "int32")
        for row, channel in T.grid(rows, channels):
            with T.sblock("pack_rows"):
                v_row = T.axis.spatial(rows, row)
                v_c = T.axis.spatial(channels, channel)
                T.reads(X[0:x_ring, 0 : x_shape[1]], W[0 : spec.weight_words])
                T.writes(lines[0:taps_y, 0:span], taps[0:taps_y, 0:taps_x])
                for ky, kx in T.grid(taps_y, taps_x):
                    taps[ky, kx] = T.Cast(
                        "int16",
                        T.Cast(
                            "int32",
                            field(
                                W[(v_c * window + ky * taps_x + kx) // w_per_word],
                                (v_c * window + ky * taps_x + kx) % w_per_word,
                                bits,
                            ),
                        )
                        - icn_zw(ICN, spec, v_c),
                    )
                for ky, column in T.grid(taps_y, span):
                    lines[ky, column] = T.Cast(
                        "uint8",
                        load_padded(
                            X,
                            spec,
                            x_ring,
                            (y0 + v_row) * stride_y + ky - top,
                            v_c,
                            column - left,
                        ),
                    )
            for p, ky, kx in T.grid(width, taps_y, taps_x):
                with T.sblock("core"):
                    v_p, v_ky, v_kx = T.axis.remap("SRR", [p, ky, kx])
                    with T.init():
                        acc[v_p] = 0
                    acc[v_p] = acc[v_p] + T.Cast(
                        "int32", lines[v_ky, v_p * stride_x + v_kx]
                    ) * T.Cast("int32", taps[v_ky, v_kx])
            with T.sblock("epilogue"):
                v_row = T.axis.spatial(rows, row)
                v_c = T.axis.spatial(channels, channel)
                T.reads(acc[0:width], ICN[0 : spec.icn_words])
                T.writes(Y[0:y_ring, 0 : y_shape[1], 0 : y_shape[2]])
                for g in T.serial(-(-width // per_word)):
                    word[0] = T.uint32(0)
                    for j in T.serial(T.min(per_word, width - g * per_word)):
                        phi[0] = acc[g * per_word + j] + icn_bq(ICN, v_c)
                        word[0] = T.bitwise_or(
                            word[0],
                            placed(saturated(requantized(ICN, spec, v_c, phi[0]), y), j, y.bits),
                        )
                    if T.bool(vector):
                        # A 1x1 map is one line of C codes: append to the channel's word.
                        Y[0, 0, v_c // per_word] = T.bitwise_or(
                            T.if_then_else(
                                v_c % per_word == 0, T.uint32(0), Y[0, 0, v_c // per_word]
                            ),
                            placed(word[0], v_c % per_word, y.bits),
                        )
                    else:
                        Y[T.truncmod(y0 + v_row, y_ring), v_c, g] = word[0]

    return kernel
