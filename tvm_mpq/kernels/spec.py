"""KernelSpec: one record that gives a kernel's name, symbol, scratch and packed sizes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import convert, parse_json
from tvm_mpq.kernels import lanes, pairs, planar
from tvm_mpq.specs import (
    MULTIPLIER_WIDTHS,
    WORD_BITS,
    TensorSpec,
    check_width,
    weight_widths,
)

PIXEL_TILE = 4
CHANNEL_TILE = 2
DENSE_TILE, DENSE_UNIT = 4, 16  # channels and taps of a pass of the dense core
GEMM_OPS = ("conv2d", "pointwise_conv2d", "dense")
_SHORT = {
    "conv2d": "conv",
    "pointwise_conv2d": "pw",
    "depthwise_conv2d": "dw",
    "dense": "fc",
    "global_avg_pool": "gap",
    "global_avg_pool_rows": "gaprows",
    "max_pool2d": "maxpool",
    "add": "add",
    "concat": "concat",
}
_WEIGHTLESS_ICN_WORDS = {"add": 4, "concat": 6, "global_avg_pool": 3, "global_avg_pool_rows": 3}
_WINDOWLESS = ("add", "concat", "global_avg_pool", "global_avg_pool_rows")
_BYTES = {"uint8": 1, "int16": 2, "int32": 4, "uint32": 4}
# Words that a core may read past its operands, and a store past its sums.
_READ_AHEAD, _STORE_AHEAD = 4, 16


@dataclass(frozen=True)
class ScratchBuffer:
    """One kernel-local buffer in DTCM. ``dtype`` is uint8, int16, int32 or uint32."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes, padded to a word."""
        return -(-math.prod(self.shape) * _BYTES[self.dtype] // 4) * 4


@dataclass(frozen=True)
class KernelSpec:
    """Everything that is constant inside one kernel.

    Attributes
    ----------
    op: one of conv2d, pointwise_conv2d, depthwise_conv2d, dense, global_avg_pool, max_pool2d, add,
        concat; or global_avg_pool_rows, which codegen puts in the place of global_avg_pool to pool
        rows as they come. w_bits: 0 for weightless operators.
    kernel, strides: (y, x). padding: (top, left, bottom, right) in pixels.
    pixels: gemm only, the pixels of a row that are packed, multiplied and stored together.
    rows: output rows that are packed, multiplied and stored together.
    taps: lanes only, how many taps of the weights are expanded at a time.
    variant: the family of micro-kernels; "" is the plain one, which does every shape.
    multiplier_bits: of M0; 16 share a word with Zw and the shift (pack.py).
    """

    op: str
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    w_bits: int = 0
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pixels: int = 0
    rows: int = 1
    taps: int = 0
    variant: str = ""
    multiplier_bits: int = 32

    def __post_init__(self) -> None:
        if self.op not in _SHORT:
            raise InvalidValueError(f"KernelSpec.op: {self.op!r}; allowed are {', '.join(_SHORT)}")
        if self.w_bits:
            check_width("KernelSpec.w_bits", self.w_bits, weight_widths(self.op))
        allowed = MULTIPLIER_WIDTHS if self.w_bits else (32,)
        check_width("KernelSpec.multiplier_bits", self.multiplier_bits, allowed)

    @property
    def x(self) -> TensorSpec:
        """The first (for most kernels the only) input."""
        return self.inputs[0]

    def to_json(self) -> str:
        """The spec as one line of JSON, as it travels in attributes of the module."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> KernelSpec:
        """Inverse of ``to_json``."""
        return convert(parse_json(text, "kernel"), KernelSpec, "kernel")

    @property
    def reduction(self) -> int:
        """K: real taps of one output, kernel height x width x input channels."""
        return self.kernel[0] * self.kernel[1] * self.x.channels

    @property
    def padded_reduction(self) -> int:
        """K rounded up to what the kernel's loop takes at a time."""
        if self.variant == "pairs":
            return pairs.padded_taps(self)
        if self.lanes is not None:
            return -(-self.reduction // lanes.K_UNIT) * lanes.K_UNIT
        unit = DENSE_UNIT if self.op == "dense" else WORD_BITS // self.w_bits
        return -(-self.reduction // unit) * unit

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole layer."""
        if not self.w_bits:
            return 0
        pixels = self.output.height * self.output.width * self.output.channels
        depthwise = self.op == "depthwise_conv2d"
        return pixels * (self.kernel[0] * self.kernel[1] if depthwise else self.reduction)

    @property
    def name(self) -> str:
        """The specification without the shapes, for example ``pw_x8w4y8_p4c2_smlad``."""
        bits = "".join(f"x{tensor.bits}" for tensor in self.inputs)
        bits += f"w{self.w_bits}" if self.w_bits else ""
        parts = [_SHORT[self.op] + self._window, f"{bits}y{self.output.bits}", self._variant]
        return "_".join(part for part in parts if part) + self.epilogue

    @property
    def epilogue(self) -> str:
        """The form of the requantization parameters, as names of kernels and C functions end."""
        return "" if self.multiplier_bits == 32 else f"_m{self.multiplier_bits}"

    @property
    def _window(self) -> str:
        """What the shapes of input and output leave open; empty in the usual cases."""
        size = f"{self.kernel[0]}x{self.kernel[1]}"
        steps = dict.fromkeys(self.strides)
        stride = "s" + "x".join(map(str, self.strides if len(steps) > 1 else steps))
        if self.op == "dense":
            return "" if self.kernel == (self.x.height, self.x.width) else size
        if self.op == "pointwise_conv2d":
            return "" if self.strides == (1, 1) else stride
        return "" if self.op in _WINDOWLESS else size + stride

    @property
    def _variant(self) -> str:
        if self.op == "dense":
            return f"c{self.channel_tile}_{self.variant or 'smlad'}"
        if self.lanes is not None:
            tile = f"p{self.lanes.pixels}c{self.channel_tile}r{self.rows}k{self.taps}"
            return f"{tile}_umlal{self.lanes.bits}"
        if self.variant == "pairs":
            return f"p{PIXEL_TILE}c{CHANNEL_TILE}r{self.rows}_pairs"
        if self.op in GEMM_OPS:
            return f"p{PIXEL_TILE}c{CHANNEL_TILE}_smlad"
        if self.variant in planar.VARIANTS:
            return f"r{self.rows}_{self.variant}"
        return "r1" if self.op == "depthwise_conv2d" else ""

    @property
    def symbol(self) -> str:
        """The C symbol: the name and every shape constant, unique per generated function."""
        x, y = self.x, self.output
        parts = [self.name, f"{x.layout}{x.height}x{x.width}x{x.channels}"]
        parts += [f"{t.channels}" for t in self.inputs[1:]]
        parts += [f"{y.layout}{y.height}x{y.width}x{y.channels}"]
        if any(self.padding):
            parts.append("p" + "_".join(map(str, self.padding)))
        zero_points = [t.zero_point for t in (*self.inputs, y)]
        if any(zero_points):
            parts.append("z" + "_".join(map(str, zero_points)))
        return "mpq_" + "_".join(parts)

    @property
    def strip_pixels(self) -> int:
        """Output pixels that share one pass over the weights."""
        return self.rows * (1 if self.op == "dense" else self.pixels)

    @property
    def channel_tile(self) -> int:
        """Output channels that share one pass over the operands."""
        if self.op == "dense" and not self.variant:
            return DENSE_TILE
        return CHANNEL_TILE if self.lanes is None else lanes.CHANNELS

    @property
    def lanes(self) -> lanes.Lanes | None:
        """The arrangement of lanes, where the variant names one."""
        return next((one for one in lanes.LANES if one.name == self.variant), None)

    @property
    def scratch(self) -> tuple[ScratchBuffer, ...]:
        """The kernel's buffers in scratch memory, in their order."""
        if self.op == "dense" and not self.variant:
            return (
                ScratchBuffer("operands", (self.padded_reduction,), "uint8"),
                ScratchBuffer("acc", (DENSE_TILE,), "int32"),
            )
        if self.lanes is not None:
            words = -(-self.strip_pixels // self.lanes.pixels)
            pixels = words * self.lanes.pixels
            ahead = self.output.codes_per_word
            totals = words * lanes.most_segments(self)
            return (
                ScratchBuffer("operands", (words * self.padded_reduction + 2,), "uint32"),
                ScratchBuffer("weights", (2 * self.taps + 2,), "uint32"),
                ScratchBuffer("side", (pixels + ahead,), "int32"),
                ScratchBuffer("totals", (totals,), "uint32"),
                ScratchBuffer("acc", (self.channel_tile * pixels + ahead,), "int32"),
            )
        if self.variant == "pairs":
            chunk = min(self.padded_reduction, pairs.K_CHUNK)
            even = -(-self.strip_pixels // 2) * 2
            return (
                ScratchBuffer("operands", (even * self.padded_reduction // 2,), "uint32"),
                ScratchBuffer("side", (chunk + _READ_AHEAD,), "int32"),
                ScratchBuffer("acc", (CHANNEL_TILE * even + _STORE_AHEAD,), "int32"),
            )
        if self.op in GEMM_OPS:
            return (
                ScratchBuffer("operands", (self.pixels, self.padded_reduction), "uint8"),
                ScratchBuffer("sums", (self.pixels,), "int32"),
                ScratchBuffer("acc", (self.pixels, CHANNEL_TILE), "int32"),
            )
        if self.variant in planar.VARIANTS:
            lines = (self.rows - 1) * self.strides[0] + self.kernel[0]
            return (
                ScratchBuffer("lines", (lines * planar.PITCH // 4 + planar.READ_AHEAD,), "uint32"),
                ScratchBuffer("taps", (planar.TAP_WORDS,), "uint32"),
            )
        if self.op == "depthwise_conv2d":
            span = (self.output.width - 1) * self.strides[1] + self.kernel[1]
            return (
                ScratchBuffer("lines", (self.kernel[0], span), "uint8"),
                ScratchBuffer("taps", self.kernel, "int16"),
                ScratchBuffer("acc", (self.output.width,), "int32"),
            )
        return ()

    @property
    def scratch_bytes(self) -> int:
        """Bytes of DTCM the kernel needs while it runs."""
        return sum(buffer.nbytes for buffer in self.scratch)

    @property
    def weight_words(self) -> int:
        """32-bit words of the packed weights."""
        if not self.w_bits:
            return 0
        if self.op == "depthwise_conv2d":
            taps = self.kernel[0] * self.kernel[1] * self.output.channels
            return -(-taps * self.w_bits // WORD_BITS)
        blocks = -(-self.output.channels // self.channel_tile)
        return blocks * (self.channel_tile * self.padded_reduction * self.w_bits // WORD_BITS)

    @property
    def icn_words(self) -> int:
        """32-bit words of the packed requantization parameters."""
        if self.w_bits:
            halves = -(-self.output.channels // 2) if self.multiplier_bits == 32 else 0
            centres = 0 if self.lanes is None else 2 * -(-self.output.channels // 4) + 2
            return 2 * self.output.channels + halves + centres
        return _WEIGHTLESS_ICN_WORDS.get(self.op, 0)
