"""The scheduled form of convolutions: every block is the call of a micro-kernel.

    pack_rows   mpq_pack_pairs_*    x -> operands of a strip of pixels, whole rows or part of one
    core        mpq_channels_w*     for each pair of channels: expand weights, multiply (SMLAD)
    epilogue    mpq_store*          sums -> codes, whole words

A strip is as large as scratch allows, because it is what shares each weight: a flash line costs 10
cycles, and expanding a weight 0.75.
"""

from __future__ import annotations

from typing import Any

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.pairs import pair_words
from tvm_mpq.kernels.spec import CHANNEL_TILE, KernelSpec


def strip_schedule(spec: KernelSpec) -> tirx.PrimFunc:
    """The PrimFunc of ``gemm_primfunc(spec)`` with its blocks replaced; same parameters."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer
    channels, k = y.channels, spec.padded_reduction
    blocks, words = -(-channels // CHANNEL_TILE), pair_words(k, spec.w_bits)
    operand_words, side_words, acc_words = (buffer.shape[0] for buffer in spec.scratch)
    band, width = spec.rows, spec.pixels
    tiles = -(-y.width // width)
    core = f"mpq_channels_w{spec.w_bits}{spec.epilogue}"
    store = f"mpq_store{y.bits}{spec.epilogue}"
    pack, geometry = pack_function(spec)

    def padded(pixels: Any) -> Any:
        """Pixels rounded up to what the core takes at a time."""
        return T.floordiv(pixels + 1, 2) * 2

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
        Y = T.match_buffer(y_ptr, (y_ring, *y_shape[1:]), "uint32")
        operands = T.sblock_alloc_buffer((operand_words,), "uint32")
        side = T.sblock_alloc_buffer((side_words,), "int32")
        acc = T.sblock_alloc_buffer((acc_words,), "int32")
        for strip, tile in T.grid(T.floordiv(rows + (band - 1), band), tiles):
            with T.sblock("pack_rows"):
                v_s, v_t = T.axis.remap("SS", [strip, tile])
                T.reads(X[0:x_ring, 0 : x_shape[1]])
                T.writes(operands[0:operand_words])
                T.evaluate(
                    T.call_extern(
                        "int32",
                        pack,
                        operands.access_ptr("w"),
                        X.access_ptr("r"),
                        x_ring,
                        y0 + v_s * band,
                        T.min(band, rows - v_s * band),
                        v_t * width,
                        T.min(width, y.width - v_t * width),
                        *geometry,
                    )
                )
            for block in T.serial(blocks):
                with T.sblock("core"):
                    v_s, v_t, v_b = T.axis.remap("SSS", [strip, tile, block])
                    T.reads(
                        operands[0:operand_words],
                        W[0 : blocks * words],
                        ICN[0 : spec.icn_words],
                    )
                    T.writes(acc[0:acc_words], side[0:side_words])
                    T.evaluate(
                        T.call_extern(
                            "int32",
                            core,
                            operands.access_ptr("r"),
                            W.access_ptr("r", offset=v_b * words),
                            side.access_ptr("rw"),
                            acc.access_ptr("w"),
                            ICN.access_ptr("r"),
                            channels,
                            v_b * CHANNEL_TILE,
                            T.min(band, rows - v_s * band) * T.min(width, y.width - v_t * width),
                            k,
                        )
                    )
                for o in T.serial(CHANNEL_TILE):
                    with T.sblock("epilogue"):
                        v_s, v_t, v_b, v_o = T.axis.remap("SSSS", [strip, tile, block, o])
                        T.where(block * CHANNEL_TILE + o < channels)
                        T.reads(acc[0:acc_words], ICN[0 : spec.icn_words])
                        T.writes(Y[0:y_ring, 0:channels, 0 : y_shape[2]])
                        T.evaluate(
                            T.call_extern(
                                "int32",
                                store,
                                acc.access_ptr(
                                    "r",
                                    offset=v_o
                                    * padded(
                                        T.min(band, rows - v_s * band)
                                        * T.min(width, y.width - v_t * width)
                                    ),
                                ),
                                Y.access_ptr("w", offset=v_t * (width // y.codes_per_word)),
                                y_ring,
                                y0 + v_s * band,
                                T.min(band, rows - v_s * band),
                                T.min(width, y.width - v_t * width),
                                y.zero_point,
                                ICN.access_ptr("r"),
                                channels,
                                v_b * CHANNEL_TILE + v_o,
                                y.line_words,
                            )
                        )

    return kernel


def pack_function(spec: KernelSpec) -> tuple[str, tuple[int, ...]]:
    """The function that packs the operands, and its arguments after the strip's."""
    x, k = spec.x, spec.padded_reduction
    window = (x.height, x.width, *spec.kernel, *spec.strides, *spec.padding[:2], x.zero_point)
    if x.layout == "hwc8":
        return "mpq_pack_pairs_image", (x.channels, k, *window)
    line_words = x.line_words
    if spec.kernel == (1, 1) and spec.strides == (1, 1) and not any(spec.padding):
        return f"mpq_pack_pairs_pw{x.bits}", (x.channels, line_words, k)
    return "mpq_pack_pairs_window", (x.channels, line_words, k, x.bits, *window)
