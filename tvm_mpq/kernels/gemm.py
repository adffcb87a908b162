"""conv2d and pointwise conv2d: pack_rows -> core (tensor intrinsic) -> epilogue.

pack_rows   im2col of a tile of pixels to uint8 operands [pixel][k]; Zx beyond the borders;
            the sum of X per pixel on the way, because
            sum X * (W - Zw) = sum X * W - Zw * sum X
core        acc[pixel][channel] = sum over k of X * W, unsigned codes, whole tiles
epilogue    zero points, ICN, codes collected to whole words before the store
"""

from __future__ import annotations

from typing import Any

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels import lanes
from tvm_mpq.kernels.layout import gemm_position
from tvm_mpq.kernels.pairs import tap_place, weight_fields
from tvm_mpq.kernels.spec import CHANNEL_TILE, KernelSpec
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


def operand_place(spec: KernelSpec, ky: Any, kx: Any, c: Any) -> Any:
    """The place of a tap among the operands of a pixel."""
    if spec.variant == "pairs":
        return tap_place(spec, ky, kx, c)
    return (ky * spec.kernel[1] + kx) * spec.x.channels + c


def channel_weight(spec: KernelSpec, weights: Any, block: Any, o: Any, k: Any) -> Any:
    """Code ``k`` (int32) of channel ``o`` of a block of channels."""
    bits = spec.w_bits
    if spec.lanes is not None:
        word = T.shift_right(
            weights[block, lanes.weight_word(k, o, bits)],
            T.Cast("uint32", lanes.weight_bit(k, o, bits)),
        )
        return T.Cast("int32", T.bitwise_and(word, T.uint32((1 << bits) - 1)))
    if spec.variant != "pairs":
        word = weights[block * CHANNEL_TILE + o, k // (WORD_BITS // bits)]
        return weight_code(word, k, bits)
    code = T.uint32(0)
    for part in weight_fields(k, o, bits):
        shifted = T.shift_right(weights[block, part.word], T.Cast("uint32", part.bit))
        value = T.bitwise_and(shifted, T.uint32((1 << part.width) - 1))
        code = T.bitwise_or(code, T.shift_left(value, T.uint32(part.low)))
    return T.Cast("int32", code)


def weight_code(word: Any, k: Any, bits: int) -> Any:
    """Code ``k`` (int32) of the packed weight word it lies in."""
    return T.Cast("int32", field(word, gemm_position(k, bits), bits))


def gemm_primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """The unscheduled PrimFunc of a convolution over maps (docs: design of the three blocks).

    Parameters of the function: x, w, icn, x_ring, y_ring, y0, rows, y; x_ring and y_ring are the
    rows the buffers hold, y0 the first output row, rows the height of the band.
    """
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer
    taps_y, taps_x = spec.kernel
    stride_y, stride_x = spec.strides
    top, left = spec.padding[0], spec.padding[1]
    channels, k_real, k_words = y.channels, spec.reduction, spec.padded_reduction
    pixels, tile = spec.pixels, spec.channel_tile
    weight_rows = -(-channels // tile) * tile
    tiles = -(-y.width // pixels)
    y_per_word, y_words = y.codes_per_word, y.line_words
    w_rows = weight_rows // tile if spec.variant else weight_rows
    w_shape = (w_rows, spec.weight_words // w_rows)
    groups = max(1, -(-min(pixels, y.width) // y_per_word))

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
        Y = T.match_buffer(y_ptr, (y_ring, *y_shape[1:]), "uint32")
        operands = T.sblock_alloc_buffer((pixels, k_words), "uint8")
        sums = T.sblock_alloc_buffer((pixels,), "int32")
        acc = T.sblock_alloc_buffer((pixels, tile), "int32")
        word = T.sblock_alloc_buffer((1,), "uint32")
        phi = T.sblock_alloc_buffer((1,), "int32")
        for row, strip in T.grid(rows, tiles):
            with T.sblock("pack_rows"):
                v_row = T.axis.spatial(rows, row)
                v_strip = T.axis.spatial(tiles, strip)
                T.reads(X[0:x_ring, 0 : x_shape[1]])
                T.writes(operands[0:pixels, 0:k_words], sums[0:pixels])
                for p in T.serial(pixels):
                    sums[p] = 0
                for p, k in T.grid(pixels, k_words if k_words > k_real else 0):
                    operands[p, k] = T.uint8(0)
                for ky, kx, c in T.grid(taps_y, taps_x, x.channels):
                    for p in T.serial(T.min(pixels, y.width - v_strip * pixels)):
                        operands[p, operand_place(spec, ky, kx, c)] = T.Cast(
                            "uint8",
                            load_padded(
                                X,
                                spec,
                                x_ring,
                                (y0 + v_row) * stride_y + ky - top,
                                c,
                                (v_strip * pixels + p) * stride_x + kx - left,
                            ),
                        )
                        sums[p] = sums[p] + T.Cast(
                            "int32", operands[p, operand_place(spec, ky, kx, c)]
                        )
            for block in T.serial(weight_rows // tile):
                with T.sblock("channels"):
                    v_row = T.axis.spatial(rows, row)
                    v_strip = T.axis.spatial(tiles, strip)
                    v_block = T.axis.spatial(weight_rows // tile, block)
                    T.reads(
                        operands[0:pixels, 0:k_words],
                        sums[0:pixels],
                        W[0 : w_shape[0], 0 : w_shape[1]],
                        ICN[0 : spec.icn_words],
                    )
                    T.writes(Y[0:y_ring, 0:channels, 0:y_words])
                    for p, o, k in T.grid(pixels, tile, k_words):
                        with T.sblock("core"):
                            v_p, v_o, v_k = T.axis.remap("SSR", [p, o, k])
                            with T.init():
                                acc[v_p, v_o] = 0
                            acc[v_p, v_o] = acc[v_p, v_o] + T.Cast(
                                "int32", operands[v_p, v_k]
                            ) * channel_weight(spec, W, v_block, v_o, v_k)
                    for o in T.serial(tile):
                        if v_block * tile + o < channels:
                            for g in T.serial(
                                T.min(groups, y_words - v_strip * pixels // y_per_word)
                            ):
                                # A tile narrower than an output word appends to that word.
                                word[0] = T.if_then_else(
                                    v_strip * pixels % y_per_word == 0,
                                    T.uint32(0),
                                    Y[
                                        T.truncmod(y0 + v_row, y_ring),
                                        v_block * tile + o,
                                        v_strip * pixels // y_per_word + g,
                                    ],
                                )
                                for j in T.serial(
                                    T.min(
                                        T.min(pixels, y_per_word),
                                        y.width - v_strip * pixels - g * y_per_word,
                                    )
                                ):
                                    phi[0] = (
                                        acc[g * y_per_word + j, o]
                                        - sums[g * y_per_word + j]
                                        * icn_zw(ICN, spec, v_block * tile + o)
                                        + icn_bq(ICN, v_block * tile + o)
                                    )
                                    word[0] = T.bitwise_or(
                                        word[0],
                                        placed(
                                            saturated(
                                                requantized(ICN, spec, v_block * tile + o, phi[0]),
                                                y,
                                            ),
                                            v_strip * pixels % y_per_word + j,
                                            y.bits,
                                        ),
                                    )
                                Y[
                                    T.truncmod(y0 + v_row, y_ring),
                                    v_block * tile + o,
                                    v_strip * pixels // y_per_word + g,
                                ] = word[0]

    return kernel
