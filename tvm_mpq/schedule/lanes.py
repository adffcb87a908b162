"""The scheduled form of pointwise convolutions in lanes: every block calls a micro-kernel.

pack_rows   mpq_pack_u*         x -> words P of a strip of pixels, and their sums
core        mpq_channels_u*     for each four channels: weights to words Q, multiplied in lanes
epilogue    mpq_store_lanes*    sums of four channels -> codes, whole words
"""

from __future__ import annotations

from tvm_mpq._tvm_compat import T, tirx
from tvm_mpq.kernels.lanes import block_words, lanes_of
from tvm_mpq.kernels.spec import KernelSpec


def lanes_schedule(spec: KernelSpec) -> tirx.PrimFunc:
    """The PrimFunc of ``gemm_primfunc(spec)`` with its blocks replaced; same parameters."""
    x, y = spec.x, spec.output
    x_shape, x_dtype = x.buffer
    y_shape, _ = y.buffer
    lanes, tile = lanes_of(spec), spec.channel_tile
    channels, k, group = y.channels, spec.padded_reduction, lanes.pixels
    blocks, words = -(-channels // tile), block_words(k, spec.w_bits)
    sizes = [buffer.shape[0] for buffer in spec.scratch]
    band, width = spec.rows, spec.pixels
    pack, core = f"mpq_pack_{spec.variant}_x{x.bits}", f"mpq_channels_{spec.variant}{spec.epilogue}"
    store = f"mpq_store_lanes{y.bits}{spec.epilogue}"

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
        operands = T.sblock_alloc_buffer((sizes[0],), "uint32")
        weights = T.sblock_alloc_buffer((sizes[1],), "uint32")
        side = T.sblock_alloc_buffer((sizes[2],), "int32")
        totals = T.sblock_alloc_buffer((sizes[3],), "uint32")
        acc = T.sblock_alloc_buffer((sizes[4],), "int32")
        for strip, part in T.grid(T.floordiv(rows + (band - 1), band), -(-y.width // width)):
            with T.sblock("pack_rows"):
                v_s, v_t = T.axis.remap("SS", [strip, part])
                T.reads(X[0:x_ring, 0 : x_shape[1]], ICN[0 : spec.icn_words])
                T.writes(operands[0 : sizes[0]], side[0 : sizes[2]], totals[0 : sizes[3]])
                T.evaluate(
                    T.call_extern(
                        "int32",
                        pack,
                        operands.access_ptr("w"),
                        side.access_ptr("w"),
                        totals.access_ptr("w"),
                        ICN.access_ptr("r", offset=spec.icn_words - 2),
                        X.access_ptr("r"),
                        x_ring,
                        y0 + v_s * band,
                        T.min(band, rows - v_s * band),
                        v_t * width,
                        T.min(width, y.width - v_t * width),
                        x.channels,
                        x.line_words,
                        k,
                    )
                )
            for block in T.serial(blocks):
                with T.sblock("core"):
                    v_s, v_t, v_b = T.axis.remap("SSS", [strip, part, block])
                    T.reads(
                        operands[0 : sizes[0]],
                        totals[0 : sizes[3]],
                        W[0 : blocks * words],
                        ICN[0 : spec.icn_words],
                    )
                    T.writes(acc[0 : sizes[4]], weights[0 : sizes[1]])
                    T.evaluate(
                        T.call_extern(
                            "int32",
                            core,
                            operands.access_ptr("r"),
                            W.access_ptr("r", offset=v_b * words),
                            totals.access_ptr("r"),
                            weights.access_ptr("rw"),
                            acc.access_ptr("w"),
                            ICN.access_ptr("r"),
                            channels,
                            v_b * tile,
                            T.min(band, rows - v_s * band) * T.min(width, y.width - v_t * width),
                            k,
                            spec.taps,
                        )
                    )
                with T.sblock("epilogue"):
                    v_s, v_t, v_b = T.axis.remap("SSS", [strip, part, block])
                    T.reads(acc[0 : sizes[4]], side[0 : sizes[2]], ICN[0 : spec.icn_words])
                    T.writes(Y[0:y_ring, 0:channels, 0 : y_shape[2]])
                    T.evaluate(
                        T.call_extern(
                            "int32",
                            store,
                            acc.access_ptr("r"),
                            side.access_ptr("r"),
                            Y.access_ptr("w", offset=v_t * (width // y.codes_per_word)),
                            y_ring,
                            y0 + v_s * band,
                            T.min(band, rows - v_s * band),
                            T.min(width, y.width - v_t * width),
                            y.zero_point,
                            ICN.access_ptr("r"),
                            channels,
                            v_b * tile,
                            y.line_words,
                            T.floordiv(
                                T.min(band, rows - v_s * band) * T.min(width, y.width - v_t * width)
                                + (group - 1),
                                group,
                            )
                            * group,
                            lanes.unit,
                        )
                    )

    return kernel
