"""The planar 3x3 depthwise kernels: what they apply to, and the proof that no lane overflows.

Two families work on lines of halfwords (asm/depthwise.py, asm/depthwise_lanes.py), of which the
second takes short rows at stride 2 as packed codes (asm/depthwise_halves.py):

    planar   SMLAD, any widths
    lanes    SMLAL, two outputs in the 16-bit halves of a register. A lane holds sums of
             x * (w - Zw) over at most 9 taps, plus a bias that keeps it from falling below 0:
             it needs (2**x_bits - 1) * sum |w - Zw| < 2**16, and |w - Zw| < 2**w_bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_mpq.kernels.spec import KernelSpec

PITCH = 512  # bytes from line to line: an offset in the load, so it is a constant
ODD_LINE = 256  # where a line's odd pixels are, when stride 2 has them apart
READ_AHEAD = 8  # words that a core may read past the last line
TAP_WORDS = 16  # taps and constants of a channel
ROW_OUTPUTS = (7, 14)  # of a pass of the lanes that is a row
PACKED_BITS = (4, 2)  # of x that the lanes can take at stride 2 as they are, without unpacking
_LANE_BITS = 16
_TAPS = 9
VARIANTS = ("planar", "lanes")


def lane_bound(spec: KernelSpec) -> int:
    """The largest value that a lane can reach, for any weights and zero points."""
    return spec.x.max_code * _TAPS * ((1 << spec.w_bits) - 1)


def is_in_lanes(spec: KernelSpec) -> bool:
    """Whether no lane can overflow: all widths but 8 x 8."""
    return lane_bound(spec) < 1 << _LANE_BITS


def applies(spec: KernelSpec) -> bool:
    """3x3, stride 1 or 2, borders of at most one column left and two right, lines that fit."""
    x, y = spec.x, spec.output
    return (
        spec.kernel == (3, 3)
        and spec.strides in ((1, 1), (2, 2))
        and spec.padding[1] <= 1
        and spec.padding[3] <= 2
        and y.layout == x.layout == "hcw"
        and 2 * (spec.padding[1] + x.line_words * x.codes_per_word + 2) <= PITCH
        and 2 * ((y.width - 1) * spec.strides[1] + 3) <= PITCH
    )


def call_of(spec: KernelSpec) -> tuple[str, tuple[int, ...]]:
    """The macro that names the kernels of ``spec``, and the layer as its first arguments."""
    x, y, stride = spec.x, spec.output, spec.strides[0]
    unit, (words, whole) = _unit(spec), _pass_words(spec)
    apart = int(spec.variant == "lanes" and stride == 2)
    macro = f"MPQ_DW_{spec.variant.upper()}" + "_APART" * apart + "_OF" * whole
    if _is_packed(spec):
        macro, words = "MPQ_DW_HALVES", x.line_words
    names = (stride, x.bits, spec.w_bits, y.bits, unit, spec.padding[1], words)
    units = -(-y.width // unit)
    shape = (units, y.channels, x.height, x.width, x.line_words, y.width, y.line_words)
    return macro + spec.epilogue.upper(), (*names, *shape, x.zero_point, y.zero_point)


def _is_packed(spec: KernelSpec) -> bool:
    """Whether the lanes take the rows of x as they are: a row's words hold twice its outputs."""
    x, outputs = spec.x, spec.output.width
    return (
        spec.variant == "lanes"
        and spec.strides == (2, 2)
        and x.bits in PACKED_BITS
        and outputs in ROW_OUTPUTS
        and x.line_words == -(-2 * outputs // x.codes_per_word)
    )


def _unit(spec: KernelSpec) -> int:
    """Outputs of a pass of the core: a short row, or as many as divide the words of a row."""
    y = spec.output
    if spec.variant == "lanes" and y.width in ROW_OUTPUTS:
        return y.width
    if y.bits == 2:
        return 8 if y.width <= 8 else 16
    codes = y.line_words * y.codes_per_word
    return next(unit for unit in (16, 8, 4) if codes % unit == 0)


def _pass_words(spec: KernelSpec) -> tuple[int, int]:
    """Words that are unpacked in a pass, and whether they are the line."""
    words = spec.x.line_words
    passes = (1,) if spec.x.bits == 2 else (4, 2, 1)
    one = next(one for one in passes if words % one == 0)
    return one, int(one == words)
