"""Depthwise 3x3 at stride 2 from rows of packed codes of 4 and 2 bits, without unpacking them.

One AND with a shifted operand takes two codes half a word apart into the halves of a register,
which is what the lanes of 16 bits want (depthwise_lanes.py): with d codes in half a word,

    P[i] = (x[i], x[i+d])     (y[j], y[j + d/2]) += P[2j] * w0 + P[2j+1] * w1 + P[2j+2] * w2

4.5 multiplies an output instead of 3.4, but a word is used as it is where it was unpacked by 12
instructions before. Only what crosses a word's end costs a shift and a PKHBT. The middle column of
taps goes first: it shares no pairs with the other two, which then need two registers of taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.depthwise import FREE
from tvm_mpq.kernels.asm.depthwise_lanes import CHUNK, codes, next_row, row_text, word_of_2_bits
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import NoScheduleError, Scheduled, schedule_block
from tvm_mpq.kernels.planar import PACKED_BITS, PITCH, ROW_OUTPUTS

_BIAS, _ZX = 36, 56  # after the nine taps; after the constants of the codes
_MASK = "lr"
# Columns of taps, in the order in which they are multiplied; where registers run short, each on its
# own, with words loaded anew.
_ORDERS = (((1,), (0, 2)), ((1,), (0,), (2,)))


class _Line:
    """Pairs of codes of one line, made when they are first asked for."""

    def __init__(self, block: list[Op], bits: int, ky: int, tag: str) -> None:
        self._block, self._bits, self._ky, self._tag = block, bits, ky, tag
        self._distance = 16 // bits
        self._made: set[str] = set()

    def pair(self, code: int, has_second: bool) -> str:
        """Codes ``code`` and ``code`` + d."""
        name, d = f"%c{self._tag}.{code}", self._distance
        if code < 0:
            border = f"%zx{self._tag}"
            self._block.append(ops.load(border, "r2", _ZX))
            self._block.append(ops.pack_bottom_top(name, border, self._low(code + d)))
        elif code % (2 * d) < d:
            return self._low(code)
        elif not has_second:
            self._block.append(ops.shift_constant("lsr", name, self._low(code - d), 16))
        else:
            self._block.append(ops.shift_constant("lsr", f"{name}s", self._low(code - d), 16))
            self._block.append(ops.pack_bottom_top(name, f"{name}s", self._low(code + d)))
        return name

    def _low(self, code: int) -> str:
        """A pair inside a word."""
        name = f"%b{self._tag}.{code}"
        if name not in self._made:
            self._made.add(name)
            word, place = self._word(code // (2 * self._distance)), code % (2 * self._distance)
            self._block.append(
                ops.shifted("and", name, _MASK, word, "lsr", self._bits * place)
                if place
                else ops.logical("and", name, _MASK, word)
            )
        return name

    def _word(self, index: int) -> str:
        name = f"%w{self._tag}.{index}"
        if name not in self._made:
            self._made.add(name)
            self._block.append(ops.load(name, "r0", PITCH * self._ky + 4 * index))
        return name


def _place(bits: int, j: int) -> tuple[int, bool]:
    """The register of output ``j``, and whether in its high half."""
    apart = 8 // bits
    is_high = j % (2 * apart) >= apart
    return j - apart * is_high, is_high


def _sums(
    block: list[Op], first: int, count: int, shape: tuple[int, int], order: Sequence[Sequence[int]]
) -> None:
    """Registers of ``count`` outputs from output ``first`` on. shape: x bits, left."""
    bits, left = shape
    bias, begun = f"%bias{first}", set[int]()
    block.append(ops.load(bias, "r2", _BIAS))
    registers = sorted({_place(bits, j)[0] for j in range(count)})
    for ky in range(3):
        line = _Line(block, bits, ky, f"{first}.{ky}")
        for columns in order:
            if len(order) == 3:
                line = _Line(block, bits, ky, f"{first}.{ky}.{columns[0]}")
            taps = {kx: f"%t{first}.{ky}.{kx}" for kx in columns}
            block += [ops.load(tap, "r2", 12 * ky + 4 * kx) for kx, tap in taps.items()]
            for a in registers:
                for kx, tap in taps.items():
                    pair = line.pair(2 * (first + a) + kx - left, a + 8 // bits < count)
                    start = None if a in begun else bias
                    block.append(ops.multiply_add("mla", f"%a{first}.{a}", pair, tap, start))
                    begun.add(a)


def body(bits: int, left: int, y_bits: int, outputs: int) -> Scheduled:
    """A row."""
    for order in _ORDERS:
        with suppress(NoScheduleError):
            return _body((bits, left), y_bits, outputs, order)
    raise NoScheduleError(f"a row of {outputs} outputs of {bits} bits")


def _body(
    shape: tuple[int, int], y_bits: int, outputs: int, order: Sequence[Sequence[int]]
) -> Scheduled:
    block: list[Op] = []
    words: list[str] = []
    for first in range(0, outputs, CHUNK):
        count = min(CHUNK, outputs - first)
        _sums(block, first, count, shape, order)
        words += codes(block, first, count, y_bits, lambda j: _place(shape[0], j), _BIAS + 4)
    if y_bits == 2:
        block.append(ops.store_next(word_of_2_bits(block, words), "r1"))
    block += next_row(2)
    return schedule_block(block, [name for name in FREE if name != _MASK], is_loop=True)


def name_of(bits: int, left: int, y_bits: int, outputs: int) -> str:
    """The symbol."""
    return f"mpq_dwhalves3x3s2_x{bits}_l{left}_y{y_bits}_{outputs}"


def text(bits: int, left: int, y_bits: int, outputs: int) -> str:
    """``mpq_dwhalves3x3s2_*``."""
    block = body(bits, left, y_bits, outputs)
    mask = f"mov {_MASK}, #{((1 << bits) - 1) * 0x10001:#x}"
    taps = "taps: 9 words, bias of a lane in both halves, 2**up, start, M0, Zy << 16, Zx."
    shape = (2, y_bits, outputs)
    return row_text(name_of(bits, left, y_bits, outputs), block, shape, taps, [mask])


SHAPES = [
    (bits, left, y_bits, outputs)
    for bits in PACKED_BITS
    for left in (0, 1)
    for y_bits in (8, 4, 2)
    for outputs in ROW_OUTPUTS
]
