"""The scheduled form of dense layers whose weights are expanded first: those of 3 bits.

pack_rows   operands of one pixel, in the places that the core's group of two gives it
core        mpq_channels_w3    expand the weights of a pair of channels, multiply (SMLAD)
epilogue    int32 logits, or codes
"""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.dense import dense_output
from tvm_mpq.kernels.gemm import operand_place
from tvm_mpq.kernels.pairs import pair_words
from tvm_mpq.kernels.spec import CHANNEL_TILE, KernelSpec
from tvm_mpq.kernels.tir_common import load_padded, requantized


def dense_pairs_schedule(spec: KernelSpec) -> tirx.PrimFunc:
    """The PrimFunc of ``dense_primfunc(spec)`` with its core replaced; same parameters."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, y_dtype = y.buffer
    taps_y, taps_x = spec.kernel
    top, left = spec.padding[:2]
    channels, k = y.channels, spec.padded_reduction
    blocks, words = -(-channels // CHANNEL_TILE), pair_words(k, spec.w_bits)
    operand_words, side_words, acc_words = (buffer.shape[0] for buffer in spec.scratch)
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
        W = T.match_buffer(w_ptr, (blocks * words,), "uint32")
        ICN = T.match_buffer(icn_ptr, (spec.icn_words,), "int32")
        Y = T.match_buffer(y_ptr, (y_ring, *y_shape[1:]), y_dtype)
        operands = T.sblock_alloc_buffer((operand_words,), "uint32")
        side = T.sblock_alloc_buffer((side_words,), "int32")
        acc = T.sblock_alloc_buffer((acc_words,), "int32")
        for row in T.serial(rows):
            with T.sblock("pack_rows"):
                v_row = T.axis.spatial(rows, row)
                T.reads(X[0:x_ring, 0 : x_shape[1]])
                T.writes(operands[0:operand_words])
                for word in T.serial(operand_words):
                    operands[word] = T.uint32(0)
                for ky, kx, c in T.grid(taps_y, taps_x, x.channels):
                    # Two taps of the first of two pixels make a word; the second pixel stays 0.
                    operands[operand_place(spec, ky, kx, c) // 2 * 2] = T.bitwise_or(
                        operands[operand_place(spec, ky, kx, c) // 2 * 2],
                        T.shift_left(
                            T.Cast(
                                "uint32",
                                load_padded(X, spec, x_ring, y0 + v_row + ky - top, c, kx - left),
                            ),
                            T.Cast("uint32", operand_place(spec, ky, kx, c) % 2 * 16),
                        ),
                    )
            for block in T.serial(blocks):
                with T.sblock("core"):
                    v_r, v_b = T.axis.remap("SS", [row, block])
                    T.reads(
                        operands[0:operand_words],
                        W[0 : blocks * words],
                        ICN[0 : spec.icn_words],
                    )
                    T.writes(acc[0:acc_words], side[0:side_words])
                    T.evaluate(
                        T.call_extern(
                            "int32",
                            f"mpq_channels_w{spec.w_bits}{spec.epilogue}",
                            operands.access_ptr("r"),
                            W.access_ptr("r", offset=v_b * words),
                            side.access_ptr("rw"),
                            acc.access_ptr("w"),
                            ICN.access_ptr("r"),
                            channels,
                            v_b * CHANNEL_TILE,
                            1,
                            k,
                        )
                    )
                for o in T.serial(CHANNEL_TILE):
                    with T.sblock("epilogue"):
                        v_r, v_b, v_o = T.axis.remap("SSS", [row, block, o])
                        T.where(block * CHANNEL_TILE + o < channels)
                        T.reads(acc[0:acc_words], ICN[0 : spec.icn_words])
                        T.writes(Y[0:y_ring, 0 : y_shape[1]])
                        Y[index(T.truncmod(y0 + v_r, y_ring), v_b * CHANNEL_TILE + v_o)] = stored(
                            requantized(
                                ICN,
                                spec,
                                v_b * CHANNEL_TILE + v_o,
                                acc[v_o * 2],
                            ),
                            Y[index(T.truncmod(y0 + v_r, y_ring), v_b * CHANNEL_TILE + v_o)],
                            v_b * CHANNEL_TILE + v_o,
                        )

    return kernel
