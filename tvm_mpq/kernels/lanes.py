"""Arrangements of lanes for UMLAL, their packed weights, and the proof that no lane overflows.

Operands  P = sum of x_i << x_places[i], pixels at one tap; Q = w_0 | w_1 << w_places[1], channels.
Weights   four channels a block: the words of channels 0, 1 and of 2, 3 alternate. Inside a word of
          4- or 2-bit codes, (k, channel 0) and (k, channel 1) stand so that a rotation brings them
          to the two ends, where one mask cuts both out: place (2k + j * (n - 1)) mod n of the n
          codes, ROR by 2k codes. 8-bit codes are bytes k0 k1 of one channel, k0 k1 of the other,
          as UXTB16 takes them apart. Flash keeps w_bits a weight.
Centres   sum x * w = sum x * (w - c) + c * sum x. The first term reaches far less than the whole,
          and the sums of x are known before the multiplies: a lane starts at b - c * sum x, and
          ends in 0 .. 2**s - 1 if b covers the negative terms. What it does in between wraps and
          unwraps. c is the median of a channel's codes, b a byte of the lane's upper bits.
Segments  equal parts of K, multiples of 8 taps, as long as these very weights prove. c, b, the
          length and the count travel with the requantization parameters. Where scratch has no room
          for all words Q, a segment ends with each part of them, unless one holds the whole of K:
          its lanes then wait for the next part as they are.
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
Int64 = npt.NDArray[np.int64]

K_UNIT = 8
CHANNELS = 4  # of a block: two words Q


@dataclass(frozen=True)
class Lanes:
    """Bits of the pixels in P and of two channels in Q, for weights of ``w_bits``."""

    name: str
    x_places: tuple[int, ...]
    w_places: tuple[int, int]
    w_bits: int

    @property
    def pixels(self) -> int:
        """I: pixels of a word P."""
        return len(self.x_places)

    def bit(self, pixel: int, channel: int) -> int:
        """Where the lane of a pixel and a channel (0 or 1) begins."""
        return self.x_places[pixel] + self.w_places[channel]

    def width(self, bit: int) -> int:
        """Bits from ``bit`` to the next lane."""
        places = sorted(x + w for x in self.x_places for w in self.w_places)
        return [*places[1:], 64][places.index(bit)] - bit

    @property
    def bits(self) -> int:
        """s: the narrowest lane."""
        return min(self.width(x + w) for x in self.x_places for w in self.w_places)

    @property
    def mask(self) -> int:
        """What one AND keeps of a word of weights; not for 8 bit."""
        low = (1 << self.w_bits) - 1
        return low | low << self.w_places[1]

    @property
    def unit(self) -> int:
        """Steps of a lane's start value b."""
        return 1 << (self.bits - 8)

    @property
    def wide_sums(self) -> bool:
        """Whether a sum of words P takes more than 32 bits; then it is a halfword a pixel."""
        return self.x_places[-1] > 20

    def longest_segment(self, max_code: int) -> int:
        """Taps whose words P, of codes up to ``max_code``, have a sum that fits its word."""
        if self.wide_sums:
            return int((2**16 - 1) // max_code)
        return int((2**32 - 1) // (max_code * sum(1 << place for place in self.x_places)))


# By (x bits, w bits); with an AND the second channel must end at bit 31.
U14W4, U15W2 = Lanes("u14w4", (0, 14), (0, 28), 4), Lanes("u15w2", (0, 15), (0, 30), 2)
U10W2, U14W8 = Lanes("u10w2", (0, 10, 20), (0, 30), 2), Lanes("u14w8", (0, 30), (0, 16), 8)
LANES = (U14W4, U15W2, U10W2, U14W8)
BY_WIDTHS = {
    **{(4, 4): (U14W4,), (2, 4): (U14W4,), (8, 2): (U15W2,)},
    **{(4, 2): (U10W2, U15W2), (2, 2): (U10W2,), (2, 8): (U14W8,)},
}


def lanes_of(spec: KernelSpec) -> Lanes:
    """The arrangement that ``spec.variant`` names."""
    return next(lanes for lanes in LANES if lanes.name == spec.variant)


def weight_word(k: Any, channel: Any, bits: int) -> Any:
    """The word of tap ``k`` of a channel (0 to 3) in its block."""
    return k // (WORD_BITS // (2 * bits)) * 2 + channel // 2


def weight_bit(k: Any, channel: Any, bits: int) -> Any:
    """Its lowest bit."""
    if bits == 8:
        return k % 2 * 8 + channel % 2 * 16
    codes = WORD_BITS // bits
    return (2 * k + (codes - 1) * (channel % 2)) % codes * bits


def block_words(k: int, bits: int) -> int:
    """Words of a block of channels."""
    return CHANNELS * k * bits // WORD_BITS


def pack_lanes(spec: KernelSpec, codes: Codes) -> Words:
    """Weights O I 1 1 -> words [ceil(O / 4), K * 4 * bits / 32]."""
    k, bits = spec.padded_reduction, spec.w_bits
    blocks = -(-codes.shape[0] // CHANNELS)
    padded = np.zeros((CHANNELS * blocks, k), np.uint32)
    padded[: codes.shape[0], : codes.shape[1]] = codes.reshape(codes.shape[0], -1)
    words = np.zeros((blocks, block_words(k, bits)), np.uint32)
    taps = np.arange(k)
    for channel in range(CHANNELS):
        shifted = padded[channel::CHANNELS] << weight_bit(taps, channel, bits).astype(np.uint32)
        for tap, word in enumerate(weight_word(taps, channel, bits).tolist()):
            words[:, word] |= shifted[:, tap]
    return words


def unpack_lanes(spec: KernelSpec, words: Words, shape: tuple[int, ...]) -> Codes:
    """Inverse of ``pack_lanes``."""
    taps, mask = np.arange(shape[1]), np.uint32((1 << spec.w_bits) - 1)
    matrix = np.zeros((CHANNELS * words.shape[0], shape[1]), np.uint8)
    for channel in range(CHANNELS):
        bit = weight_bit(taps, channel, spec.w_bits).astype(np.uint32)
        stored = words[:, weight_word(taps, channel, spec.w_bits)]
        matrix[channel::CHANNELS] = stored >> bit & mask
    return matrix[: shape[0]].reshape(shape)


@dataclass(frozen=True)
class Segments:
    """Proven for the weights of a layer: ``taps`` of each of ``count`` segments; c and b."""

    taps: int
    count: int
    centres: Int64
    starts: Int64  # in units of Lanes.unit


def most_segments(spec: KernelSpec) -> int:
    """Segments that every weights of a layer can do with."""
    lanes = lanes_of(spec)
    product = spec.x.max_code * ((1 << lanes.w_bits) - 1)
    taps = ((1 << lanes.bits) - 1 - lanes.unit) // product
    return -(-spec.padded_reduction // max(min(taps // K_UNIT * K_UNIT, spec.taps), K_UNIT))


def segments_of(spec: KernelSpec, codes: Codes, zw: Codes) -> Segments:
    """The fewest segments for these weights; c is Zw where that needs no more of them.

    Raises AccumulatorOverflowError where even the shortest one could leave its lane.
    """
    k = spec.padded_reduction
    matrix = codes.reshape(codes.shape[0], -1).astype(np.int64)
    # A pair of zeros would make Q(c) 0, and 2**32 - Q(c) is 2**32 then.
    centres = np.maximum(np.median(matrix, axis=1).astype(np.int64), 1)
    zeros = zw.astype(np.int64)
    both = np.zeros(len(zeros), bool)
    both[:-1:2] = (zeros[:-1:2] == 0) & (zeros[1::2] == 0)
    zeros[both] = 1
    longest = lanes_of(spec).longest_segment(spec.x.max_code)
    for count in range(-(-k // longest), k // K_UNIT + 1):
        taps = -(-k // (count * K_UNIT)) * K_UNIT
        if taps > longest or (count > 1 and taps > spec.taps):
            continue
        from_zero, from_centre = (_starts(spec, matrix, c, taps) for c in (zeros, centres))
        chosen = np.where(from_zero >= 0, zeros, centres)
        starts = np.where(from_zero >= 0, from_zero, from_centre)
        if (starts >= 0).all():
            return Segments(taps, -(-k // taps), chosen, starts)
    raise AccumulatorOverflowError(
        f"kernel {spec.name}: {K_UNIT} products can exceed a lane of {lanes_of(spec).bits} bits"
    )


def _starts(spec: KernelSpec, matrix: Int64, centres: Int64, taps: int) -> Int64:
    """b of each channel, so that 0 <= b + sum x * (w - c) < 2**s for all x in every segment; or -1.

    Units of ``Lanes.unit``.
    """
    lanes, terms = lanes_of(spec), matrix - centres[:, None]
    cuts = np.arange(0, matrix.shape[1], taps)
    below = spec.x.max_code * np.add.reduceat(np.maximum(-terms, 0), cuts, axis=1).max(axis=1)
    above = spec.x.max_code * np.add.reduceat(np.maximum(terms, 0), cuts, axis=1).max(axis=1)
    starts = -(-below // lanes.unit)
    fits = (starts < 256) & (starts * lanes.unit + above < 1 << lanes.bits)
    return np.where(fits, starts, -1)
