"""Packed layouts: numpy packers and their inverses.

hcw / vec lines    code j of a word is bits [j*Q, (j+1)*Q), lines padded to a word
depthwise weights  one stream, code c*kh*kw + ky*kw + kx, padded to a word
dense weights      as gemm weights, word k of four channels side by side
gemm weights       a line of K codes per output channel, K order (ky, kx, c), zero-filled;
                   inside a word the codes stand so that one mask yields two halfwords that
                   meet the two halfwords of UXTB16 of the uint8 operands:

    8 bit   k0 k1 k2 k3                       (natural order)
    4 bit   k0 k1 k4 k5 k2 k3 k6 k7           AND 0x000F000F -> (k0, k2), >> 4 -> (k1, k3), ...
    2 bit   k0 k1 k4 k5 k8 k9 k12 k13 k2 k3 k6 k7 k10 k11 k14 k15
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tvm_mpq.specs import WORD_BITS, TensorSpec, words_per_line

Codes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]


def pack_lines(codes: Codes, bits: int) -> Words:
    """Pack the last axis: codes [..., n] -> words [..., ceil(n * bits / 32)]."""
    per_word = WORD_BITS // bits
    words = words_per_line(codes.shape[-1], bits)
    padded = np.zeros((*codes.shape[:-1], words * per_word), np.uint32)
    padded[..., : codes.shape[-1]] = codes
    shifts = (np.arange(per_word) * bits).astype(np.uint32)
    grouped = padded.reshape(*codes.shape[:-1], words, per_word) << shifts
    return np.bitwise_or.reduce(grouped, axis=-1).astype(np.uint32)


def unpack_lines(words: Words, count: int, bits: int) -> Codes:
    """Inverse of ``pack_lines``: words [..., m] -> the first ``count`` codes of each line."""
    shifts = (np.arange(WORD_BITS // bits) * bits).astype(np.uint32)
    codes = (words[..., None] >> shifts) & np.uint32((1 << bits) - 1)
    return codes.reshape(*words.shape[:-1], -1)[..., :count].astype(np.uint8)


def pack_map(codes: Codes, tensor: TensorSpec) -> npt.NDArray[np.generic]:
    """Codes [C, H, W] -> the buffer of ``tensor``. For ``hwc8`` codes are [H, W, C]."""
    shape, dtype = tensor.buffer
    if tensor.layout == "hwc8":
        return np.ascontiguousarray(codes, np.uint8).reshape(shape)
    rows = codes.reshape(1, 1, -1) if tensor.layout == "vec" else codes.transpose(1, 0, 2)
    return pack_lines(rows, tensor.bits).reshape(shape).astype(dtype)


def unpack_map(buffer: npt.NDArray[np.generic], tensor: TensorSpec) -> npt.NDArray[np.generic]:
    """The buffer of ``tensor`` -> codes [C, H, W] (logits: int32 [C]); pad codes are dropped."""
    if tensor.layout == "logits":
        return buffer.reshape(-1)
    words = buffer.reshape(tensor.buffer[0]).astype(np.uint32)
    rows = unpack_lines(words, tensor.lines[1], tensor.bits)
    if tensor.layout == "vec":
        return rows.reshape(tensor.channels, 1, 1)
    return rows.transpose(1, 0, 2)


def gemm_position(k: int, bits: int) -> int:
    """The place in its word of code ``k`` of a gemm weight line."""
    per_word = WORD_BITS // bits
    return ((k % 4) // 2) * (per_word // 2) + ((k % per_word) // 4) * 2 + k % 2


def pack_gemm_weights(codes: Codes, bits: int, channel_tile: int) -> Words:
    """Weights O I kh kw (or O I) -> words [ceil(O / tile) * tile, ceil(K * bits / 32)]."""
    by_tap = codes.reshape(codes.shape[0], codes.shape[1], -1).transpose(0, 2, 1)
    matrix = by_tap.reshape(codes.shape[0], -1)
    per_word = WORD_BITS // bits
    rows = -(-matrix.shape[0] // channel_tile) * channel_tile
    padded = np.zeros((rows, words_per_line(matrix.shape[1], bits) * per_word), np.uint8)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return pack_lines(padded[:, _gemm_order(padded.shape[1], bits)], bits)


def unpack_gemm_weights(words: Words, shape: tuple[int, ...], bits: int) -> Codes:
    """Inverse of ``pack_gemm_weights`` for weights of ``shape`` (O I kh kw or O I)."""
    stored = unpack_lines(words, words.shape[1] * (WORD_BITS // bits), bits)
    matrix = np.empty_like(stored)
    matrix[:, _gemm_order(stored.shape[1], bits)] = stored
    taps = int(np.prod(shape[2:], dtype=np.int64))
    valid = matrix[: shape[0], : shape[1] * taps].reshape(shape[0], taps, shape[1])
    return valid.transpose(0, 2, 1).reshape(shape)


def pack_dense_weights(codes: Codes, bits: int, channel_tile: int, k_unit: int) -> Words:
    """The same lines, padded to ``k_unit`` codes, and word k of the channels of a tile together.

    -> words [ceil(O / tile) * K * bits / 32, tile].
    """
    lines = pack_gemm_weights(codes, bits, channel_tile)
    unit = k_unit * bits // WORD_BITS
    padded = np.pad(lines, ((0, 0), (0, -lines.shape[1] % unit)))
    tiles = padded.reshape(-1, channel_tile, padded.shape[1])
    return np.ascontiguousarray(tiles.transpose(0, 2, 1)).reshape(-1, channel_tile)


def unpack_dense_weights(words: Words, shape: tuple[int, ...], bits: int) -> Codes:
    """Inverse of ``pack_dense_weights`` for weights of ``shape``."""
    tile = words.shape[1]
    tiles = words.reshape(-(-shape[0] // tile), -1, tile).transpose(0, 2, 1)
    return unpack_gemm_weights(tiles.reshape(-1, tiles.shape[2]), shape, bits)


def _gemm_order(count: int, bits: int) -> npt.NDArray[np.int64]:
    """order[place] = k: which code stands at each place of a line of ``count`` codes."""
    per_word = WORD_BITS // bits
    inverse = np.array([gemm_position(k, bits) for k in range(per_word)])
    order = np.empty(per_word, np.int64)
    order[inverse] = np.arange(per_word)
    return (np.arange(count) // per_word) * per_word + np.tile(order, count // per_word)


def pack_depthwise_weights(codes: Codes, bits: int) -> Words:
    """Weights O 1 kh kw -> one stream of words [ceil(O * kh * kw * bits / 32)]."""
    return pack_lines(codes.reshape(-1), bits)
