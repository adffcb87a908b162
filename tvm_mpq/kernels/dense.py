"""Dense layers, and convolutions whose window is the whole map: one output pixel.

pack_rows   the codes of the map, or of the vector, as uint8 operands [k]; their sum
core        acc[channel] = sum over k of X * W for four channels (tensor intrinsic)
epilogue    ICN to codes of a vector, or to int32 logits on one scale
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.gemm import channel_weight, operand_place, weight_code
from tvm_mpq.kernels.spec import CHANNEL_TILE, DENSE_TILE, KernelSpec
from tvm_mpq.kernels.tir_common import (
    icn_bq,
    icn_zw,
    load_padded,
    placed,
    requantized,
    saturated,
)
from tvm_mpq.specs import WORD_BITS


def dense_tile(spec: KernelSpec) -> int:
    """Channels whose weights stand together."""
    return CHANNEL_TILE if spec.variant else DENSE_TILE


def dense_output(spec: KernelSpec) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How an output channel is indexed, and what is stored there for a requantized value."""
    y = spec.output
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

    return index, stored


def dense_primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """The unscheduled PrimFunc; parameters as in ``gemm_primfunc``, band height is always 1."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, y_dtype = y.buffer
    taps_y, taps_x = spec.kernel
    top, left = spec.padding[0], spec.padding[1]
    channels, k_real, k_words = y.channels, spec.reduction, spec.padded_reduction
    bits, per_word = spec.w_bits, WORD_BITS // spec.w_bits
    tile, words = dense_tile(spec), k_words // per_word
    blocks = -(-channels // tile)
    w_shape = (blocks, spec.weight_words // blocks) if spec.variant else (blocks * words, tile)

    def weight(weights, block, o, k):
        """Code ``k`` (int32) of channel ``o`` of a block."""
        if spec.variant:
            return channel_weight(spec, weights, block, o, k)
        return weight_code(weights[block * words + k // per_word, o], k, bits)

    index, stored = dense_output(spec)

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
        W = T.match_buffer(w_ptr, w_shape, "uint32")
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
                for k in T.serial(k_words if k_words > k_real else 0):
                    operands[k] = T.uint8(0)
                for ky, kx, c in T.grid(taps_y, taps_x, x.channels):
                    operands[operand_place(spec, ky, kx, c)] = T.Cast(
                        "uint8", load_padded(X, spec, x_ring, y0 + v_row + ky - top, c, kx - left)
                    )
                    total[0] = total[0] + T.Cast("int32", operands[operand_place(spec, ky, kx, c)])
            for block in T.serial(blocks):
                with T.sblock("channels"):
                    v_row = T.axis.spatial(rows, row)
                    v_block = T.axis.spatial(blocks, block)
                    T.reads(
                        operands[0:k_words],
                        total[0:1],
                        W[0 : w_shape[0], 0 : w_shape[1]],
                        ICN[0 : spec.icn_words],
                    )
                    T.writes(Y[0:y_ring, 0 : y_shape[1]])
                    for o, k in T.grid(tile, k_words):
                        with T.sblock("core"):
                            v_o, v_k = T.axis.remap("SR", [o, k])
                            with T.init():
                                acc[v_o] = 0
                            acc[v_o] = acc[v_o] + T.Cast("int32", operands[v_k]) * weight(
                                W, v_block, v_o, v_k
                            )
                    for o in T.serial(tile):
                        if v_block * tile + o < channels:
                            phi[0] = (
                                acc[o]
                                - total[0] * icn_zw(ICN, spec, v_block * tile + o)
                                + icn_bq(ICN, v_block * tile + o)
                            )
                            Y[index(T.truncmod(y0 + v_row, y_ring), v_block * tile + o)] = stored(
                                requantized(ICN, spec, v_block * tile + o, phi[0]),
                                Y[index(T.truncmod(y0 + v_row, y_ring), v_block * tile + o)],
                                v_block * tile + o,
                            )

    return kernel
