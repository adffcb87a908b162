"""The values that travel between rooms: inputs, tensors, layers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from tvm_mpq.errors import InvalidValueError

WIDTHS = (8, 4, 2)
WORD_BITS = 32
WORD_BYTES = 4


def check_width(field: str, bits: int) -> int:
    """``bits`` if it is 8, 4 or 2; else InvalidValueError naming ``field``."""
    if bits not in WIDTHS:
        raise InvalidValueError(f"{field}: {bits} bits; allowed are 8, 4 and 2")
    return bits


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
        parse_resize(self.resize)

    @staticmethod
    def from_range(text: str, resize: str = "whole") -> InputSpec:
        """The input of images in ``"-1,1"`` or ``"0,1"``."""
        known = {"-1,1": (2.0 / 255.0, 128, 1.0 / 255.0), "0,1": (1.0 / 255.0, 0, 0.0)}
        if text not in known:
            raise InvalidValueError(f"input range {text!r}: allowed are {' and '.join(known)}")
        scale, zero_point, offset = known[text]
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
