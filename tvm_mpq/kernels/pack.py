"""Packed operands of a kernel, and the proof that its accumulators cannot overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import AccumulatorOverflowError, InvalidValueError
from tvm_mpq.kernels.lanes import Segments, lanes_of, pack_lanes, segments_of, unpack_lanes
from tvm_mpq.kernels.layout import (
    pack_dense_weights,
    pack_depthwise_weights,
    pack_gemm_weights,
    unpack_dense_weights,
    unpack_gemm_weights,
    unpack_lines,
)
from tvm_mpq.kernels.pairs import pack_pairs, unpack_pairs
from tvm_mpq.kernels.reference import AddParams, RescaleParams
from tvm_mpq.kernels.spec import CHANNEL_TILE, DENSE_TILE, DENSE_UNIT, KernelSpec
from tvm_mpq.quant.icn import IcnParams

Codes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Int32 = npt.NDArray[np.int32]


def pack_weights(spec: KernelSpec, codes: Codes) -> Words:
    """Canonical codes (O I kh kw, dense O I) -> the packed words of ``spec``."""
    if spec.op == "depthwise_conv2d":
        return pack_depthwise_weights(codes, spec.w_bits)
    if spec.variant == "pairs":
        return pack_pairs(spec, codes)
    if spec.op == "dense":
        return pack_dense_weights(codes, spec.w_bits, DENSE_TILE, DENSE_UNIT)
    if spec.lanes is not None:
        return pack_lanes(spec, codes)
    return pack_gemm_weights(codes, spec.w_bits, CHANNEL_TILE)


def unpack_weights(spec: KernelSpec, words: Words, shape: tuple[int, ...]) -> Codes:
    """Inverse of ``pack_weights``."""
    if spec.op == "depthwise_conv2d":
        return unpack_lines(words, int(np.prod(shape)), spec.w_bits).reshape(shape)
    if spec.variant == "pairs":
        return unpack_pairs(spec, words, shape)
    if spec.op == "dense":
        return unpack_dense_weights(words, shape, spec.w_bits)
    if spec.lanes is not None:
        return unpack_lanes(spec, words, shape)
    return unpack_gemm_weights(words, shape, spec.w_bits)


def pack_icn(spec: KernelSpec, icn: IcnParams, codes: Codes) -> Int32:
    """Requantization parameters as int32 words, in one of two forms.

        multiplier_bits 32    Bq[C], M0[C], then (shift, Zw) halfwords
        multiplier_bits 16    Bq[C], then a word a channel: shift, Zw, the high half of M0

    Lanes add (c, b) halfwords, the taps of a segment and the number of segments (lanes.py).
    -Zx * sum(W - Zw) is folded into Bq: the kernels multiply raw codes and feed Zx at borders.

    Raises AccumulatorOverflowError when a partial sum of the kernel could leave int32,
    InvalidValueError for an M0 of more than 16 bits where 16 are kept.
    """
    centred = codes.reshape(codes.shape[0], -1).astype(np.int64) - icn.zw.astype(np.int64)[:, None]
    bq = icn.bq.astype(np.int64) - spec.x.zero_point * centred.sum(axis=1)
    segments = None if spec.lanes is None else segments_of(spec, codes, icn.zw)
    _prove_partial_sums(spec, icn, codes, bq, segments)
    parts = [bq.astype(np.int32), *_multipliers(spec, icn)]
    if segments is not None:
        parts.append(_halfwords(segments.centres, segments.starts, 4))
        parts.append(np.array([segments.taps, segments.count], np.int32))
    return np.concatenate(parts)


def _multipliers(spec: KernelSpec, icn: IcnParams) -> list[Int32]:
    """M0, shift and Zw of every channel."""
    halves = _halfwords(icn.shift, icn.zw)
    if spec.multiplier_bits == 32:
        return [icn.m0, halves]
    wide = np.flatnonzero(icn.m0 & 0xFFFF)
    if wide.size:
        raise InvalidValueError(
            f"kernel {spec.name}, output channel {wide[0]}: M0 is {icn.m0[wide[0]]}; allowed are"
            " multiples of 65536, which quant.icn.decompose gives for 16 bits"
        )
    return [icn.m0 | halves.view(np.uint16)[: len(icn.m0)].astype(np.int32)]


def _halfwords(low: npt.NDArray[Any], high: npt.NDArray[Any], unit: int = 2) -> Int32:
    """Two bytes for each channel, two channels a word, zeros up to a multiple of ``unit``."""
    halves = np.zeros(-(-len(low) // unit) * unit, np.uint16)
    halves[: len(low)] = low.astype(np.uint16) | (high.astype(np.uint16) << 8)
    return halves.view(np.int32)


def pack_add(params: AddParams) -> Int32:
    """M1, M2, shift, nearest."""
    return np.array([*params.m, params.shift, params.nearest], np.int32)


def pack_concat(params: tuple[RescaleParams, RescaleParams]) -> Int32:
    """(M0, shift, nearest) of each input."""
    return np.array([v for p in params for v in (p.m0, p.shift, p.nearest)], np.int32)


def pack_pool(bq: int, m0: int, shift: int) -> Int32:
    """Bq, M0, shift."""
    return np.array([bq, m0, shift], np.int32)


def _prove_partial_sums(
    spec: KernelSpec,
    icn: IcnParams,
    codes: Codes,
    bq: npt.NDArray[np.int64],
    segments: Segments | None,
) -> None:
    """Bound sum X*W, Zw * sum X and their difference with Bq over every prefix of the sum.

    Of lanes: b and the lanes of all segments, (c - Zw) * sum X, and Bq.
    """
    flat = codes.reshape(codes.shape[0], -1).astype(np.int64)
    largest_x = spec.x.max_code
    if spec.op == "depthwise_conv2d":
        sums = largest_x * np.abs(flat - icn.zw.astype(np.int64)[:, None]).sum(axis=1)
        bound = sums + np.abs(bq)
    elif segments is not None:
        sums = largest_x * flat.shape[1] * np.abs(segments.centres - icn.zw.astype(np.int64))
        bound = sums + np.abs(bq) + 2 * segments.count * (1 << lanes_of(spec).bits)
    else:
        products = largest_x * flat.sum(axis=1)
        zero_points = largest_x * flat.shape[1] * icn.zw.astype(np.int64)
        bound = np.maximum(products, zero_points) + np.abs(bq)
    worst = int(np.argmax(bound))
    if bound[worst] >= 2**31:
        raise AccumulatorOverflowError(
            f"kernel {spec.name}, output channel {worst}: an int32 partial sum can reach"
            f" {bound[worst]}, allowed is below 2147483648; use fewer bits for its input or weights"
        )
