"""Global average pool (requantized) and max pool (on codes)."""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tir_common import load_code, placed, saturated


def global_avg_pool_primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """Mean over the map: Phi = sum of (X - Zx) in int32, then ICN with one (Bq, M0, shift)."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer
    per_word = y.codes_per_word
    base = x.zero_point * x.height * x.width

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
        total = T.sblock_alloc_buffer((1,), "int32")
        for row, channel in T.grid(rows, x.channels):
            with T.sblock("pool"):
                v_row = T.axis.spatial(rows, row)
                v_c = T.axis.spatial(x.channels, channel)
                T.reads(X[0:x_ring, 0 : x_shape[1]], ICN[0 : spec.icn_words])
                T.writes(Y[0:y_ring, 0:1, 0 : y_shape[2]])
                total[0] = ICN[0] - base
                for i, j in T.grid(x.height, x.width):
                    total[0] = total[0] + load_code(X, x, T.truncmod(i, x_ring), v_c, j)
                Y[T.truncmod(y0 + v_row, y_ring), 0, v_c // per_word] = T.bitwise_or(
                    T.if_then_else(
                        v_c % per_word == 0,
                        T.uint32(0),
                        Y[T.truncmod(y0 + v_row, y_ring), 0, v_c // per_word],
                    ),
                    placed(
                        saturated(
                            T.shift_right(
                                T.Cast("int64", ICN[1]) * T.Cast("int64", total[0]),
                                T.Cast("int64", ICN[2]),
                            ),
                            y,
                        ),
                        v_c % per_word,
                        y.bits,
                    ),
                )

    return kernel


def max_pool2d_primfunc(spec: KernelSpec) -> tirx.PrimFunc:
    """Maximum of codes; taps beyond the borders do not count (code 0 is the smallest)."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer
    taps_y, taps_x = spec.kernel
    stride_y, stride_x = spec.strides
    top, left = spec.padding[0], spec.padding[1]
    per_word, (lines, codes) = y.codes_per_word, y.lines
    vector = y.layout == "vec"

    def window_code(buffer, ring, row, channel, column):
        inside = T.And(T.And(row >= 0, row < x.height), T.And(column >= 0, column < x.width))
        code = load_code(buffer, x, T.truncmod(row, ring), channel, column)
        return T.if_then_else(inside, code, T.int32(0))

    @T.prim_func(s_tir=True)
    def kernel(
        x_ptr: T.handle,
        x_ring: T.int32,
        y_ring: T.int32,
        y0: T.int32,
        rows: T.int32,
        y_ptr: T.handle,
    ):
        T.func_attr({"tirx.noalias": True})
        X = T.match_buffer(x_ptr, (x_ring, *x_shape[1:]), x_dtype)
        Y = T.match_buffer(y_ptr, (y_ring, *y_shape[1:]), "uint32")
        word = T.sblock_alloc_buffer((1,), "uint32")
        best = T.sblock_alloc_buffer((1,), "int32")
        for row, line, group in T.grid(rows, lines, y_shape[2]):
            with T.sblock("pool"):
                v_row = T.axis.spatial(rows, row)
                v_line = T.axis.spatial(lines, line)
                v_g = T.axis.spatial(y_shape[2], group)
                T.reads(X[0:x_ring, 0 : x_shape[1]])
                T.writes(Y[0:y_ring, 0:lines, 0 : y_shape[2]])
                word[0] = T.uint32(0)
                for j in T.serial(T.min(per_word, codes - v_g * per_word)):
                    best[0] = 0
                    for ky, kx in T.grid(taps_y, taps_x):
                        best[0] = T.max(
                            best[0],
                            window_code(
                                X,
                                x_ring,
                                (y0 + v_row) * stride_y + ky - top,
                                v_g * per_word + j if vector else v_line,
                                kx - left
                                if vector
                                else (v_g * per_word + j) * stride_x + kx - left,
                            ),
                        )
                    word[0] = T.bitwise_or(
                        word[0],
                        placed(T.Cast("uint32", T.min(best[0], T.int32(y.max_code))), j, y.bits),
                    )
                Y[T.truncmod(y0 + v_row, y_ring), v_line, v_g] = word[0]

    return kernel
