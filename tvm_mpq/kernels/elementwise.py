"""Requantized add and concat along channels."""

from __future__ import annotations

from typing import Any

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tir_common import field, placed, saturated


def add_primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """Y = Zy + floor(M1 * (X1 - Z1) + M2 * (X2 - Z2)): one 64-bit sum over a common shift.

    icn words: M1, M2, shift, and 1 when half a code is added (round to nearest).
    Reads a word of each input before it stores the word of Y, so Y may lie on a dying input.
    """
    a, b = spec.inputs
    y = spec.output
    lines, codes = y.lines
    per_word = y.codes_per_word

    def centred(buffer, tensor, slot, line, column):
        word = buffer[slot, line, column // tensor.codes_per_word]
        code = field(word, column % tensor.codes_per_word, tensor.bits)
        return T.Cast("int64", T.Cast("int32", code) - tensor.zero_point)

    def total(buffer_a, buffer_b, icn, slot_a, slot_b, line, column):
        shift = T.Cast("int64", icn[2])
        half = T.shift_left(T.Cast("int64", icn[3]), T.max(shift - T.int64(1), T.int64(0)))
        first = T.Cast("int64", icn[0]) * centred(buffer_a, a, slot_a, line, column)
        second = T.Cast("int64", icn[1]) * centred(buffer_b, b, slot_b, line, column)
        return T.shift_right(first + second + half, shift)

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
        word = T.sblock_alloc_buffer((1,), "uint32")
        for row, line, group in T.grid(rows, lines, y.line_words):
            with T.sblock("add"):
                v_row = T.axis.spatial(rows, row)
                v_line = T.axis.spatial(lines, line)
                v_g = T.axis.spatial(y.line_words, group)
                T.reads(A[0:a_ring, 0:lines], B[0:b_ring, 0:lines], ICN[0:4])
                T.writes(Y[0:y_ring, 0:lines, 0 : y.line_words])
                word[0] = T.uint32(0)
                for j in T.serial(T.min(per_word, codes - v_g * per_word)):
                    word[0] = T.bitwise_or(
                        word[0],
                        placed(
                            saturated(
                                total(
                                    A,
                                    B,
                                    ICN,
                                    T.truncmod(y0 + v_row, a_ring),
                                    T.truncmod(y0 + v_row, b_ring),
                                    v_line,
                                    v_g * per_word + j,
                                ),
                                y,
                            ),
                            j,
                            y.bits,
                        ),
                    )
                Y[T.truncmod(y0 + v_row, y_ring), v_line, v_g] = word[0]

    return kernel


def concat_primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """Two maps side by side along channels, each requantized to the scale of Y.

    icn words: (M0, shift, 1 when half a code is added) of the first, then of the second input.
    """
    a, b = spec.inputs
    y = spec.output
    a_shape, b_shape = a.buffer[0], b.buffer[0]
    lines, codes = y.lines
    per_word = y.codes_per_word
    vector = y.layout == "vec"

    def requantized(buffer, tensor, icn, first, slot, line, column):
        word = buffer[slot, line, column // tensor.codes_per_word]
        code = T.Cast("int32", field(word, column % tensor.codes_per_word, tensor.bits))
        shift = T.Cast("int64", icn[first + 1])
        half = T.shift_left(T.Cast("int64", icn[first + 2]), T.max(shift - T.int64(1), T.int64(0)))
        product = T.Cast("int64", icn[first]) * T.Cast("int64", code - tensor.zero_point)
        return T.shift_right(product + half, shift)

    def source(buffers: tuple[Any, Any], icn, slots, line, column):
        channel = column if vector else line
        first, second = T.min(channel, a.channels - 1), T.max(channel - a.channels, 0)
        place_a, place_b = (
            ((0, first), (0, second)) if vector else ((first, column), (second, column))
        )
        left = requantized(buffers[0], a, icn, 0, slots[0], *place_a)
        right = requantized(buffers[1], b, icn, 3, slots[1], *place_b)
        return T.if_then_else(channel < a.channels, left, right)

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
        T.func_attr({"tirx.noalias": True})
        A = T.match_buffer(a_ptr, (a_ring, *a_shape[1:]), "uint32")
        B = T.match_buffer(b_ptr, (b_ring, *b_shape[1:]), "uint32")
        ICN = T.match_buffer(icn_ptr, (spec.icn_words,), "int32")
        Y = T.match_buffer(y_ptr, (y_ring, lines, y.line_words), "uint32")
        word = T.sblock_alloc_buffer((1,), "uint32")
        for row, line, group in T.grid(rows, lines, y.line_words):
            with T.sblock("concat"):
                v_row = T.axis.spatial(rows, row)
                v_line = T.axis.spatial(lines, line)
                v_g = T.axis.spatial(y.line_words, group)
                T.reads(A[0:a_ring, 0 : a_shape[1]], B[0:b_ring, 0 : b_shape[1]], ICN[0:6])
                T.writes(Y[0:y_ring, 0:lines, 0 : y.line_words])
                word[0] = T.uint32(0)
                for j in T.serial(T.min(per_word, codes - v_g * per_word)):
                    word[0] = T.bitwise_or(
                        word[0],
                        placed(
                            saturated(
                                source(
                                    (A, B),
                                    ICN,
                                    (
                                        T.truncmod(y0 + v_row, a_ring),
                                        T.truncmod(y0 + v_row, b_ring),
                                    ),
                                    v_line,
                                    v_g * per_word + j,
                                ),
                                y,
                            ),
                            j,
                            y.bits,
                        ),
                    )
                Y[T.truncmod(y0 + v_row, y_ring), v_line, v_g] = word[0]

    return kernel
