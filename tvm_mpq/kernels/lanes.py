"""Arrangements of lanes for UMLAL, their packed weights, and the proof that no lane overflows.

Weights   the codes of (k, channel 0) and (k, channel 1) stand so that a rotation brings them to the
          two ends of the word, where one mask cuts both out: place (2k + j * (n - 1)) mod n of the
          n codes of a word, ROR by 2k codes. Flash keeps w_bits a weight.
Segments  the largest multiple of 8 taps for which (2**x_bits - 1) * (sum of the codes) of every
          channel stays below 2**s. It travels as the last word of the requantization parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import AccumulatorOverflowError
from tvm_mpq.specs import WORD_BITS

if TYPE_CHECKING:
    from tvm_mpq.kernels.spec import KernelSpec

Codes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

K_UNIT = 8


@dataclass(frozen=True)
class Lanes:
    """``pixels`` (I) x 2 lanes of ``bits`` (s) bits, for weights of ``w_bits``."""

    pixels: int
    bits: int
    w_bits: int

    @property
    def name(self) -> str:
        """For example ``u14w4``."""
        return f"u{self.bits}w{self.w_bits}"

    @property
    def mask(self) -> int:
        """The two ends of a word."""
        low = (1 << self.w_bits) - 1
        return low | low << self.pixels * self.bits


# By (x bits, w bits); the second channel must end at bit 31.
U14W4, U15W2, U10W2 = Lanes(2, 14, 4), Lanes(2, 15, 2), Lanes(3, 10, 2)
LANES = (U14W4, U15W2, U10W2)
BY_WIDTHS = {(4, 4): U14W4, (2, 4): U14W4, (8, 2): U15W2, (4, 2): U10W2, (2, 2): U10W2}


def lanes_of(spec: KernelSpec) -> Lanes:
    """The arrangement that ``spec.variant`` names."""
    return next(lanes for lanes in LANES if lanes.name == spec.variant)


def weight_word(k: Any, bits: int) -> Any:
    """The word of tap ``k`` of a pair of channels."""
    return k // (WORD_BITS // (2 * bits))


def weight_bit(k: Any, channel: Any, bits: int) -> Any:
    """Its lowest bit."""
    codes = WORD_BITS // bits
    return (2 * k + (codes - 1) * channel) % codes * bits


def pack_lanes(spec: KernelSpec, codes: Codes) -> Words:
    """Weights O I 1 1 -> words [ceil(O / 2), K * 2 * bits / 32]."""
    k, bits = spec.padded_reduction, spec.w_bits
    pairs = -(-codes.shape[0] // 2)
    padded = np.zeros((2 * pairs, k), np.uint32)
    padded[: codes.shape[0], : codes.shape[1]] = codes.reshape(codes.shape[0], -1)
    words = np.zeros((pairs, 2 * k * bits // WORD_BITS), np.uint32)
    taps = np.arange(k)
    for channel in range(2):
        shifted = padded[channel::2] << weight_bit(taps, channel, bits).astype(np.uint32)
        for tap, word in enumerate(weight_word(taps, bits).tolist()):
            words[:, word] |= shifted[:, tap]
    return words


def unpack_lanes(spec: KernelSpec, words: Words, shape: tuple[int, ...]) -> Codes:
    """Inverse of ``pack_lanes``."""
    taps, mask = np.arange(shape[1]), np.uint32((1 << spec.w_bits) - 1)
    matrix = np.zeros((2 * words.shape[0], shape[1]), np.uint8)
    for channel in range(2):
        bit = weight_bit(taps, channel, spec.w_bits).astype(np.uint32)
        matrix[channel::2] = words[:, weight_word(taps, spec.w_bits)] >> bit & mask
    return matrix[: shape[0]].reshape(shape)


def segment_taps(spec: KernelSpec, codes: Codes) -> int:
    """Taps between spills, a multiple of 8, proven for these very weights."""
    k = spec.padded_reduction
    limit = (1 << lanes_of(spec).bits) - 1
    padded = np.zeros((codes.shape[0], k), np.int64)
    padded[:, : codes.shape[1]] = codes.reshape(codes.shape[0], -1)
    before = np.concatenate([np.zeros((len(padded), 1), np.int64), padded.cumsum(axis=1)], axis=1)
    for count in range(-(-k // K_UNIT), 0, -1):
        ends = np.minimum(np.arange(0, k + count * K_UNIT, count * K_UNIT), k)
        if spec.x.max_code * int(np.diff(before[:, ends], axis=1).max()) <= limit:
            return count * K_UNIT
    raise AccumulatorOverflowError(
        f"kernel {spec.name}: {K_UNIT} products can exceed a lane of {lanes_of(spec).bits} bits"
    )
