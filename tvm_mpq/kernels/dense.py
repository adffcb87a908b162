"""Dense layers, and convolutions whose window is the whole map: one output pixel.

pack_rows   the codes of the map, or of the vector, as uint8 operands [k]; their sum
core        acc[channel] = sum over k of X * W for four channels (tensor intrinsic)
epilogue    ICN to codes of a vector, or to int32 logits on one scale
"""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.gemm import weight_code
from tvm_mpq.kernels.spec import DENSE_TILE, KernelSpec
from tvm_mpq.kernels.tir_common import (
    icn_bq,
    icn_zw,
    load_padded,
    placed,
    requantized,
    saturated,
)
from tvm_mpq.specs import WORD_BITS


def dense_primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """The unscheduled PrimFunc; parameters as in ``gemm_primfunc``, band height is always 1."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, y_dtype = y.buffer
    taps_y, taps_x = spec.kernel
    top, left = spec.padding[0], spec.padding[1]
    channels, k_real, k_words = y.channels, spec.reduction, spec.padded_reduction
    bits, per_word = spec.w_bits, WORD_BITS // spec.w_bits
    tile, words = DENSE_TILE, k_words // per_word
    blocks = -(-channels // tile)

    logits = y.layout == "logits"
    y_per_word = 1 if logits else y.codes_per_word

    def index(slot, channel):
        """Where the output of ``channel`` is stored: its own int32, or a word it shares."""
        return (slot, channel) if logits else (slot, 0, channel // y_per_word)

    def stored(value, before, channel):
        """The logit, or the word with the code appended to what ``before`` holds."""
        if logits:
            return T.Cast("int32", value)
        place = channel % y_per_word
        started = T.if_then_else(place == 0, T.uint32(0), before)
        return T.bitwise_or(started, placed(saturated(value, y), place, y.bits))

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
        W = T.match_buffer(w_ptr, (blocks * words, tile), "uint32")
        ICN = T.match_buffer(icn_ptr, (spec.icn_words,), "int32")
        Y = T.match_buffer(y_ptr, (y_ring, *y_shape[1:]), y_dtype)
        operands = T.sblock_alloc_buffer((k_words,), "uint8")
        acc = T.sblock_alloc_buffer((tile,), "int32")
        total = T.sblock_alloc_buffer((1,), "int32")
        phi = T.sblock_alloc_buffer((1,), "int32")
        for row in T.serial(rows):
            with T.sblock("pack_rows"):
                v_row = T.axis.spatial(rows, row)
                T.reads(X[0:x_ring, 0 : x_shape[1]])
                T.writes(operands[0:k_words], total[0:1])
                total[0] = 0
                for k in T.serial(k_words - k_real):
                    operands[k_real + k] = T.uint8(0)
                for ky, kx, c in T.grid(taps_y, taps_x, x.channels):
                    operands[(ky * taps_x + kx) * x.channels + c] = T.Cast(
                        "uint8", load_padded(X, spec, x_ring, y0 + v_row + ky - top, c, kx - left)
                    )
                    total[0] = total[0] + T.Cast(
                        "int32", operands[(ky * taps_x + kx) * x.channels + c]
                    )
            for block in T.serial(blocks):
                with T.sblock("channels"):
                    v_row = T.axis.spatial(rows, row)
                    v_block = T.axis.spatial(blocks, block)
                    T.reads(
                        operands[0:k_words],
                        total[0:1],
                        W[0 : blocks * words, 0:tile],
                        ICN[0 : spec.icn_words],
                    )
                    T.writes(Y[0:y_ring, 0 : y_shape[1]])
                    for o, k in T.grid(tile, k_words):
                        with T.sblock("core"):
                            v_o, v_k = T.axis.remap("SR", [o, k])
                            with T.init():
                                acc[v_o] = 0
                            acc[v_o] = acc[v_o] + T.Cast("int32", operands[v_k]) * weight_code(
                                W[v_block * words + v_k // per_word, v_o], v_k, bits
                            )
                    for o in T.serial(tile):
                        if v_block * tile + o < channels:
                            phi[0] = (
                                acc[o]
                                - total[0] * icn_zw(ICN, channels, v_block * tile + o)
                                + icn_bq(ICN, v_block * tile + o)
                            )
                            Y[index(T.truncmod(y0 + v_row, y_ring), v_block * tile + o)] = stored(
                                requantized(ICN, channels, v_block * tile + o, phi[0]),
                                Y[index(T.truncmod(y0 + v_row, y_ring), v_block * tile + o)],
                                v_block * tile + o,
                            )

    return kernel
