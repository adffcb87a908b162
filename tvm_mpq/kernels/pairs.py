"""Layout of the SMLAD variant: taps in pairs, output channels in pairs.

Taps   planar maps: (ky, kx, c) with the channels of a tap padded to an even number.
       images: the bytes of a window row in the order (0, 2), (1, 3), (4, 6), ... in which UXTB16
       takes them apart; the rest of a row starts a pair for each byte.
       Both are padded to 8 taps, the unit of the core's loop.
Words  four taps of a channel are bytes k0 k2 k1 k3 of a word (so that bytes 0 and 2, 1 and 3 are
       pairs), and the second channel stands beside the first:
       8 bit   word 2q + o                    4 taps a word
       4 bit   word q, nibble o of each byte
       2 bit   word q / 2, bits 4 (q % 2) + 2 o of each byte
       3 bit   16 taps a unit of three words: their low two bits as above in two words, then one
               word of high bits, bit 2 (q % 4) + o of each byte
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.specs import WORD_BITS

if TYPE_CHECKING:
    from tvm_mpq.kernels.spec import KernelSpec

Codes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

K_UNIT = 8
# Taps expanded at a time: 1 KiB of weights, so that operands get most of the scratch.
K_CHUNK = 256
MAX_IMAGE_SPAN = 64


def tap_place(spec: KernelSpec, ky: Any, kx: Any, c: Any) -> Any:
    """Where tap (ky, kx, c) stands among the padded taps; for integers, arrays and TIR."""
    if spec.x.layout == "hwc8":
        i = kx * spec.x.channels + c
        return ky * _image_row(spec) + i // 4 * 4 + i % 2 * 2 + i % 4 // 2
    return (ky * spec.kernel[1] + kx) * (spec.x.channels + spec.x.channels % 2) + c


def padded_taps(spec: KernelSpec) -> int:
    """Taps of one output, padding included."""
    if spec.x.layout == "hwc8":
        taps = spec.kernel[0] * _image_row(spec)
    else:
        taps = spec.kernel[0] * spec.kernel[1] * (spec.x.channels + spec.x.channels % 2)
    unit = 2 * K_UNIT if spec.w_bits == 3 else K_UNIT
    return -(-taps // unit) * unit


def _image_row(spec: KernelSpec) -> int:
    span = spec.kernel[1] * spec.x.channels
    return span // 4 * 4 + 2 * min(span % 4, 2)


@dataclass(frozen=True)
class Field:
    """Bits [low, low + width) of a code, at ``bit`` of ``word`` of its pair of channels."""

    word: Any
    bit: Any
    low: int
    width: int


def weight_fields(k: Any, channel: Any, bits: int) -> tuple[Field, ...]:
    """Where the code of tap ``k`` of channel 0 or 1 lies; for integers, arrays and TIR."""
    byte, quad = 8 * (k % 4 // 2 + k % 2 * 2), k // 4
    if bits == 3:
        unit = k // 16 * 3
        low = Field(unit + k % 16 // 8, byte + quad % 2 * 4 + 2 * channel, 0, 2)
        return low, Field(unit + 2, byte + quad % 4 * 2 + channel, 2, 1)
    word = {8: quad * 2 + channel, 4: quad, 2: k // 8}[bits]
    bit = {8: byte, 4: byte + 4 * channel, 2: byte + quad % 2 * 4 + 2 * channel}[bits]
    return (Field(word, bit, 0, bits),)


def pair_words(k: int, bits: int) -> int:
    """Words of a pair of channels."""
    return 2 * k * bits // WORD_BITS


def pack_pairs(spec: KernelSpec, codes: Codes) -> Words:
    """Weights O I kh kw -> words [ceil(O / 2), pair_words]."""
    k = padded_taps(spec)
    pairs = -(-codes.shape[0] // 2)
    padded = np.zeros((2 * pairs, k), np.uint32)
    padded[: codes.shape[0], _places(spec).reshape(-1)] = codes.transpose(0, 2, 3, 1).reshape(
        codes.shape[0], -1
    )
    words = np.zeros((pairs, pair_words(k, spec.w_bits)), np.uint32)
    taps = np.arange(k)
    for channel in range(2):
        for field in weight_fields(taps, channel, spec.w_bits):
            part = padded[channel::2] >> np.uint32(field.low) & np.uint32((1 << field.width) - 1)
            shifted = part << field.bit.astype(np.uint32)
            for tap, word in enumerate(field.word.tolist()):
                words[:, word] |= shifted[:, tap]
    return words


def unpack_pairs(spec: KernelSpec, words: Words, shape: tuple[int, ...]) -> Codes:
    """Inverse of ``pack_pairs`` for weights of ``shape``."""
    places = _places(spec).reshape(-1)
    matrix = np.zeros((2 * words.shape[0], len(places)), np.uint8)
    for channel in range(2):
        for field in weight_fields(places, channel, spec.w_bits):
            stored = words[:, field.word] >> field.bit.astype(np.uint32)
            part = stored & np.uint32((1 << field.width) - 1)
            matrix[channel::2] |= (part << np.uint32(field.low)).astype(np.uint8)
    by_tap = matrix[: shape[0]].reshape(shape[0], *shape[2:], shape[1])
    return by_tap.transpose(0, 3, 1, 2)


def _places(spec: KernelSpec) -> npt.NDArray[np.int64]:
    ky, kx, c = np.ogrid[: spec.kernel[0], : spec.kernel[1], : spec.x.channels]
    return np.asarray(tap_place(spec, ky, kx, c))
