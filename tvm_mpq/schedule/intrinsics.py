"""Tensor intrinsics: the micro-kernels that replace the core block of a convolution.

    gemm    acc[p, o] += sum_k X[p, k] * W[o, k]      4 pixels x 2 channels x the whole K
    dot     acc[o]    += sum_k X[k] * W[o, k]         1 pixel  x 4 channels x the whole K

The whole K lies in one call, so the accumulators stay in registers until it is done.
"""

from __future__ import annotations

from functools import cache

from tvm_mpq._tvm_compat import T, TensorIntrin
from tvm_mpq.kernels.gemm import weight_code
from tvm_mpq.kernels.spec import CHANNEL_TILE, DENSE_TILE, PIXEL_TILE
from tvm_mpq.specs import WORD_BITS


@cache
def gemm_intrinsic(k: int, w_bits: int) -> str:
    """Register (once) and name the intrinsic for ``k`` padded taps and ``w_bits`` weights."""
    pixels, tile, per_word = PIXEL_TILE, CHANNEL_TILE, WORD_BITS // w_bits
    symbol = f"mpq_gemm_x8w{w_bits}_p{pixels}c{tile}"

    @T.prim_func(s_tir=True)
    def description(x_ptr: T.handle, w_ptr: T.handle, acc_ptr: T.handle):
        X = T.match_buffer(x_ptr, (pixels, k), "uint8", offset_factor=1)
        W = T.match_buffer(w_ptr, (tile, k // per_word), "uint32", offset_factor=1)
        ACC = T.match_buffer(acc_ptr, (pixels, tile), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(ACC[0:pixels, 0:tile], X[0:pixels, 0:k], W[0:tile, 0 : k // per_word])
            T.writes(ACC[0:pixels, 0:tile])
            for p, o, i in T.grid(pixels, tile, k):
                with T.sblock("core"):
                    v_p, v_o, v_k = T.axis.remap("SSR", [p, o, i])
                    ACC[v_p, v_o] = ACC[v_p, v_o] + T.Cast("int32", X[v_p, v_k]) * weight_code(
                        W[v_o, v_k // per_word], v_k, w_bits
                    )

    @T.prim_func(s_tir=True)
    def implementation(x_ptr: T.handle, w_ptr: T.handle, acc_ptr: T.handle):
        x_stride = T.int32()
        w_stride = T.int32()
        acc_stride = T.int32()
        X = T.match_buffer(x_ptr, (pixels, k), "uint8", offset_factor=1, strides=[x_stride, 1])
        W = T.match_buffer(
            w_ptr, (tile, k // per_word), "uint32", offset_factor=1, strides=[w_stride, 1]
        )
        ACC = T.match_buffer(
            acc_ptr, (pixels, tile), "int32", offset_factor=1, strides=[acc_stride, 1]
        )
        with T.sblock("root"):
            T.reads(ACC[0:pixels, 0:tile], X[0:pixels, 0:k], W[0:tile, 0 : k // per_word])
            T.writes(ACC[0:pixels, 0:tile])
            T.evaluate(
                T.call_extern(
                    "int32",
                    symbol,
                    X.access_ptr("r"),
                    W.access_ptr("r"),
                    ACC.access_ptr("rw"),
                    k,
                )
            )

    name = f"{symbol}_k{k}"
    TensorIntrin.register(name, description, implementation, override=True)
    return name


@cache
def dot_intrinsic(k: int, w_bits: int) -> str:
    """Register (once) and name the single-pixel intrinsic of dense layers."""
    tile, per_word = DENSE_TILE, WORD_BITS // w_bits
    symbol = f"mpq_dense_w{w_bits}"

    @T.prim_func(s_tir=True)
    def description(x_ptr: T.handle, w_ptr: T.handle, acc_ptr: T.handle):
        X = T.match_buffer(x_ptr, (k,), "uint8", offset_factor=1)
        W = T.match_buffer(w_ptr, (k // per_word, tile), "uint32", offset_factor=1)
        ACC = T.match_buffer(acc_ptr, (tile,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(ACC[0:tile], X[0:k], W[0 : k // per_word, 0:tile])
            T.writes(ACC[0:tile])
            for o, i in T.grid(tile, k):
                with T.sblock("core"):
                    v_o, v_k = T.axis.remap("SR", [o, i])
                    ACC[v_o] = ACC[v_o] + T.Cast("int32", X[v_k]) * weight_code(
                        W[v_k // per_word, v_o], v_k, w_bits
                    )

    @T.prim_func(s_tir=True)
    def implementation(x_ptr: T.handle, w_ptr: T.handle, acc_ptr: T.handle):
        w_stride = T.int32()
        X = T.match_buffer(x_ptr, (k,), "uint8", offset_factor=1)
        W = T.match_buffer(
            w_ptr, (k // per_word, tile), "uint32", offset_factor=1, strides=[w_stride, 1]
        )
        ACC = T.match_buffer(acc_ptr, (tile,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(ACC[0:tile], X[0:k], W[0 : k // per_word, 0:tile])
            T.writes(ACC[0:tile])
            T.evaluate(
                T.call_extern(
                    "int32",
                    symbol,
                    X.access_ptr("r"),
                    W.access_ptr("r"),
                    ACC.access_ptr("rw"),
                    k,
                )
            )

    name = f"{symbol}_k{k}"
    TensorIntrin.register(name, description, implementation, override=True)
    return name
