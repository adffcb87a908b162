"""The values that travel between rooms: inputs, tensors, layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tvm_mpq.errors import InvalidValueError

WIDTHS = (8, 4, 2)
# Weights of pointwise and dense layers may have 3 bits as well, where a search is allowed to.
WEIGHT_WIDTHS = (8, 4, 3, 2)
THREE_BIT_OPS = ("pointwise_conv2d", "dense")
# Bits of the multipliers M0 of a layer's requantization; 16 saves two bytes of flash a channel.
MULTIPLIER_WIDTHS = (32, 16)
# Scale, zero point and offset of the usual ranges of images.
INPUT_RANGES = {
    "-1,1": (2.0 / 255.0, 128, 1.0 / 255.0),
    "0,1": (1.0 / 255.0, 0, 0.0),
    "0,255": (1.0, 0, 0.0),
}
WORD_BITS = 32
WORD_BYTES = 4


def check_width(field: str, bits: int, allowed: tuple[int, ...] = WIDTHS) -> int:
    """``bits`` if it is one of ``allowed``; else InvalidValueError naming ``field``."""
    if bits not in allowed:
        raise InvalidValueError(f"{field}: {bits} bits; allowed are {listed(allowed)}")
    return bits


def listed(values: Sequence[object], last: str = "and") -> str:
    """``8, 4 and 2``."""
    return f"{', '.join(map(str, values[:-1]))} {last} {values[-1]}"


def weight_widths(op: str, widths: Sequence[int] = WEIGHT_WIDTHS) -> tuple[int, ...]:
    """Those of ``widths`` that the weights of an operator may have."""
    return tuple(bits for bits in widths if bits in WIDTHS or op in THREE_BIT_OPS)


def words_per_line(codes: int, bits: int) -> int:
    """32-bit words of a line of ``codes`` codes of ``bits`` bits, padded to a whole word."""
    return -(-codes * bits // WORD_BITS)


@dataclass(frozen=True)
class InputSpec:
    """How an input code becomes a real number: real = scale * (code - zero_point) + offset.

    Attributes
    ----------
    scale, offset: real units; zero_point: code, 0 to 255.
    resize: how the command line brings an image to the network's size,
        ``"whole"`` or ``"crop:<fraction>"`` of the short side.
    """

    scale: float = 2.0 / 255.0
    zero_point: int = 128
    offset: float = 1.0 / 255.0
    resize: str = "whole"

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise InvalidValueError(f"InputSpec.scale: {self.scale}; expected a positive number")
        if not 0 <= self.zero_point <= 255:
            raise InvalidValueError(f"InputSpec.zero_point: {self.zero_point}; expected 0 to 255")
        if not math.isfinite(self.offset):
            raise InvalidValueError(f"InputSpec.offset: {self.offset}; expected a finite number")
        parse_resize(self.resize)

    @staticmethod
    def from_range(text: str, resize: str = "whole") -> InputSpec:
        """The input of images in ``"-1,1"``, ``"0,1"`` or ``"0,255"``."""
        if text not in INPUT_RANGES:
            raise InvalidValueError(f"input range {text!r}: allowed are {listed([*INPUT_RANGES])}")
        scale, zero_point, offset = INPUT_RANGES[text]
        return InputSpec(scale, zero_point, offset, resize)

    def to_json(self) -> dict[str, Any]:
        """A JSON object of the fields."""
        return asdict(self)


def parse_resize(text: str) -> float:
    """The fraction of the short side that is kept; 0 stands for the whole image."""
    if text == "whole":
        return 0.0
    kind, _, number = text.partition(":")
    try:
        fraction = float(number)
    except ValueError:
        fraction = math.nan
    if kind != "crop" or not 0 < fraction <= 1:
        raise InvalidValueError(
            f"resize {text!r}: allowed are 'whole' and 'crop:FRACTION' with 0 < FRACTION <= 1"
        )
    return fraction


@dataclass(frozen=True)
class LayerSpec:
    """One layer as the bit search and the planner see it.

    ``x`` and ``y`` name activation tensors; layers that share a name share its width.
    ``x_elements`` may differ between layers of one tensor name: the classifier reads the pooled
    vector, which has the width of the map it was pooled from.

    Attributes
    ----------
    op: ``conv2d``, ``depthwise_conv2d``, ``pointwise_conv2d``, ``dense`` or a weightless operator.
    weight_elements: 0 for weightless operators. macs: multiply-accumulates of one inference.
    """

    name: str
    op: str
    x: tuple[str, ...]
    y: str
    x_elements: tuple[int, ...]
    y_elements: int
    weight_elements: int = 0
    out_channels: int = 0
    macs: int = 0

    def __post_init__(self) -> None:
        if len(self.x) != len(self.x_elements) or not self.x:
            raise InvalidValueError(
                f"layer {self.name}: {len(self.x)} inputs and {len(self.x_elements)} input sizes;"
                " expected one size for each of at least one input"
            )
        counts = (*self.x_elements, self.y_elements)
        if min(counts) <= 0 or self.weight_elements < 0:
            raise InvalidValueError(
                f"layer {self.name}: element counts {counts}; expected positive numbers"
            )


LAYOUTS = ("hwc8", "hcw", "vec", "logits")


@dataclass(frozen=True)
class TensorSpec:
    """A feature map in memory.

    Layouts: ``hwc8`` interleaved uint8, the network input only; ``hcw`` row-planar, a row holds one
    line per channel, W codes packed at ``bits`` bits, each line padded to a 32-bit word; ``vec``
    one line of C packed codes (H = W = 1); ``logits`` C int32 on one scale (H = W = 1).
    Code j of a word is bits [j*Q, (j+1)*Q).

    Attributes
    ----------
    bits: 8, 4 or 2 (logits: 32). zero_point: the code of real 0, 0 to 2**bits - 1.
    """

    channels: int
    height: int
    width: int
    bits: int
    zero_point: int = 0
    layout: str = "hcw"

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1:
            raise InvalidValueError(
                f"TensorSpec: shape {(self.channels, self.height, self.width)}; expected positive"
            )
        if self.layout not in LAYOUTS:
            raise InvalidValueError(f"TensorSpec.layout: {self.layout!r}; allowed are {LAYOUTS}")
        if self.layout in ("vec", "logits") and (self.height, self.width) != (1, 1):
            raise InvalidValueError(
                f"TensorSpec: layout {self.layout} needs a 1x1 map, found"
                f" {self.height}x{self.width}"
            )
        if self.layout != "logits":
            check_width("TensorSpec.bits", self.bits)
            if not 0 <= self.zero_point < 1 << self.bits:
                raise InvalidValueError(
                    f"TensorSpec.zero_point: {self.zero_point}; allowed are 0 to {self.max_code}"
                )

    @staticmethod
    def of_map(
        channels: int, height: int, width: int, bits: int, zero_point: int = 0
    ) -> TensorSpec:
        """A quantized map in the layout its shape asks for: ``vec`` if 1x1, else ``hcw``."""
        layout = "vec" if (height, width) == (1, 1) else "hcw"
        return TensorSpec(channels, height, width, bits, zero_point, layout)

    @property
    def codes_per_word(self) -> int:
        """Codes in a 32-bit word."""
        return WORD_BITS // self.bits

    @property
    def lines(self) -> tuple[int, int]:
        """(lines per row, codes per line)."""
        return (1, self.channels) if self.layout == "vec" else (self.channels, self.width)

    @property
    def line_words(self) -> int:
        """32-bit words per line."""
        return words_per_line(self.lines[1], self.bits)

    @property
    def buffer(self) -> tuple[tuple[int, ...], str]:
        """(shape, dtype) of the buffer; the first extent counts rows."""
        if self.layout == "hwc8":
            return (self.height, self.width * self.channels), "uint8"
        if self.layout == "logits":
            return (1, self.channels), "int32"
        return (self.height, self.lines[0], self.line_words), "uint32"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, padding included."""
        shape, dtype = self.buffer
        return math.prod(shape[1:]) * (1 if dtype == "uint8" else WORD_BYTES)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole map, padding included."""
        return self.height * self.row_bytes

    @property
    def max_code(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1
