"""Depthwise 3x3 in lanes of 16 bits: two pixels of a row times two taps in one SMLAL.

A register A holds the sums of two neighbouring outputs in its halves. With P = (x0, x1) a pair of
pixels and Q = w2 + (w1 << 16), the 64-bit P * Q has three lanes, and P * w0 two more:

    stride 1   y[0] = w0 x[0] + w1 x[1] + w2 x[2]
               (A[g], A[g+1]) += P[g] * Q      A[g+1] += P[g] * w0     A[g] = (y[2g-2], y[2g-1])
    stride 2   even pixels E, odd pixels O:  y[0] = w0 e[0] + w1 o[0] + w2 e[1]
               (A[g], A[g+1]) += E[g] * (w2 + (w0 << 16)) + O[g] * (w1 << 16)
               A[g] = (y[2g-1], y[2g])

3.4 multiplies an output for 9 MACs; SMLAD takes 6. Taps are w - Zw and may be negative: every lane
starts at a bias, the most that negative taps can subtract, so that it stays in 0 .. 65535 and the
lane above sees neither carry nor borrow (kernels/planar.py has the proof).

Requantization: t = lane * 2**up + C, with up = 48 - shift, makes the high half of the high word of
M0 * t the code; PKHTB takes two of them together, USAT16 clamps both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.depthwise import FREE, advance, core_text
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block
from tvm_mpq.kernels.planar import ODD_LINE, PITCH, ROW_OUTPUTS

UNITS = {8: (4, 7, 8, 14, 16), 4: (7, 8, 14, 16), 2: (7, 8, 14, 16)}
_BIAS = 24  # after the six words of taps
CHUNK = 8  # outputs whose sums are in registers together


def body(stride: int, bits: int, outputs: int) -> Scheduled:
    """One unit of outputs."""
    block: list[Op] = []
    chunks = range(0, outputs, CHUNK)
    words = []
    for first in chunks:
        count = min(CHUNK, outputs - first)
        _sums(block, first, count, stride)
        words += codes(block, first, count, bits, lambda j: _place(stride, j), _BIAS + 4)
    if bits == 2:
        block.append(ops.store_next(word_of_2_bits(block, words), "r1"))
    block += next_row(stride) if outputs in ROW_OUTPUTS else advance(2 * outputs)
    return schedule_block(block, FREE, is_loop=True)


def next_row(stride: int) -> list[Op]:
    """The next row, unless this was the last."""
    return [
        *(ops.load("%end", "sp"), ops.compare("r0", "%end"), ops.load("%down", "sp", 4)),
        *(ops.add("r1", "r1", "%down"), ops.add_wide("r0", "r0", PITCH * stride)),
    ]


def _place(stride: int, j: int) -> tuple[int, bool]:
    """The register of output ``j``, and whether in its high half."""
    return (j // 2 + 1, j % 2 == 1) if stride == 1 else ((j + 1) // 2, j % 2 == 0)


def _sums(block: list[Op], first: int, count: int, stride: int) -> None:
    """Registers A of ``count`` outputs from output ``first`` on."""
    # The last register has one output more with stride 1 than with stride 2.
    groups = (count + (stride == 1)) // 2
    bias, begun = f"%bias{first}", set[int]()
    block.append(ops.load(bias, "r2", _BIAS))

    def add(name: str, g: int, p: str, taps: str) -> None:
        """One multiply; a register that it is the first to write starts at the bias."""
        targets = (g, g + 1) if name == "smlal" else (g,)
        start = bias if name == "mla" and g not in begun else None
        for a in targets:
            if a not in begun and start is None:
                block.append(ops.move(f"%a{first}.{a}", bias))
            begun.add(a)
        if name == "smlal":
            low, high = (f"%a{first}.{a}" for a in targets)
            block.append(ops.multiply_add_long(name, low, high, p, taps))
        else:
            block.append(ops.multiply_add(name, f"%a{first}.{g}", p, taps, start))

    for ky in range(3):
        q, other = f"%q{first}.{ky}", f"%w{first}.{ky}"
        block += [ops.load(q, "r2", 8 * ky), ops.load(other, "r2", 8 * ky + 4)]
        for g in range(groups + 1):
            p, odd = f"%p{first}.{ky}.{g}", f"%o{first}.{ky}.{g}"
            offset = PITCH * ky + 2 * first + 4 * g
            if g == groups:
                # Only the low register of the last group has outputs.
                block.append(ops.load(p, "r0", offset))
                add("mla", g, p, q)
                if stride == 2 and count % 2:
                    block.append(ops.load(odd, "r0", offset + ODD_LINE))
                    add("mla", g, odd, other)
                continue
            block.append(ops.load(p, "r0", offset))
            if stride == 1:
                add("mla", g + 1, p, other)
                add("smlal", g, p, q)
            else:
                block.append(ops.load(odd, "r0", offset + ODD_LINE))
                add("smlal", g, p, q)
                add("smlal", g, odd, other)


def codes(
    block: list[Op],
    first: int,
    count: int,
    bits: int,
    place: Callable[[int], tuple[int, bool]],
    at: int,
) -> list[str]:
    """Sums to codes; stores whole words, or returns the value of 8 codes of 2 bits.

    place: the register of an output, and whether in its high half. at: bytes from the taps to the
    constants.
    """
    constants = [f"%{name}{first}" for name in ("scale", "start", "m", "zero")]
    block += [ops.load(name, "r2", at + 4 * i) for i, name in enumerate(constants)]
    size = 4 if bits == 8 else 8
    pending = []
    for begin in range(0, count, size):
        halves = []
        for j in range(begin, min(begin + size // 2, count)):
            two = (j, j + size // 2) if j + size // 2 < count else (j,)
            lanes = [(f"{first}.{k}", f"%a{first}.{place(k)[0]}", place(k)[1]) for k in two]
            both = 2 * [_high_word(block, *lane, constants) for lane in lanes]
            name = f"%h{first}.{j}"
            block.append(ops.pack_top_bottom(f"{name}p", both[1], both[0]))
            block.append(ops.saturate_halves(name, f"{name}p", bits))
            halves.append(name)
        word = halves[0]
        for i, half in enumerate(halves[1:], 1):
            joined = f"%word{first}.{begin}.{i}"
            block.append(ops.shifted("orr", joined, word, half, "lsl", bits * i))
            word = joined
        if bits == 2:
            pending.append(word)
        else:
            block.append(ops.store_next(word, "r1"))
    return pending


def _high_word(block: list[Op], name: str, a: str, is_high: bool, constants: list[str]) -> str:
    """The word whose high half is the output in a half of ``a``."""
    scale, start, m0, zero = constants
    if is_high:
        block.append(ops.shift_constant("lsr", f"%x{name}", a, 16))
    else:
        block.append(ops.low_half(f"%x{name}", a))
    block.append(ops.multiply_add("mla", f"%t{name}", f"%x{name}", scale, start))
    block.append(ops.multiply_add("smmla", f"%y{name}", f"%t{name}", m0, zero))
    return f"%y{name}"


def word_of_2_bits(block: list[Op], eights: list[str]) -> str:
    """Codes 0-3 are in byte 0 and 4-7 in byte 2 of each value."""
    if len(eights) == 1:
        # A row of at most 8 outputs: what lies above them may be anything.
        block.append(ops.shifted("orr", "%word", eights[0], eights[0], "lsr", 8))
        return "%word"
    block.append(ops.pack_bottom_top("%low", eights[0], eights[1]))
    block.append(ops.pack_top_bottom("%high", eights[1], eights[0]))
    block.append(ops.shifted("orr", "%word", "%low", "%high", "lsl", 8))
    return "%word"


def name_of(stride: int, bits: int, outputs: int) -> str:
    """The symbol."""
    return f"mpq_dwlanes3x3s{stride}_y{bits}_{outputs}"


def text(stride: int, bits: int, outputs: int) -> str:
    """``mpq_dwlanes3x3s*_y*_*``."""
    name, block = name_of(stride, bits, outputs), body(stride, bits, outputs)
    taps = "taps: 6 words, bias of a lane in both halves, 2**up, start, M0, Zy << 16."
    if outputs in ROW_OUTPUTS:
        return row_text(name, block, (stride, bits, outputs), taps)
    return core_text(name, block, (outputs, bits, stride), 2 * outputs, taps)


def row_text(
    name: str,
    block: Scheduled,
    shape: tuple[int, int, int],
    taps: str,
    setup: Sequence[str] = (),
) -> str:
    """Rows of one channel; shape: stride, y bits, outputs of a row."""
    stride, bits, outputs = shape
    comment = (
        f"void {name}(const void *lines, void *y, const void *taps, int32_t units,\n"
        "             int32_t rows, int32_t row_bytes)\n"
        f"{taps}\nA row of {outputs}, {9 * outputs} MACs: {block.cycles:g} cycles. units is 1."
    )
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #12",
        "ldrd r4, r5, [sp, #48]",
        "sub r4, r4, #1",
        f"mov r6, #{PITCH * stride}",
        "mla r6, r4, r6, r0",
        f"sub r5, r5, #{-(-outputs * bits // 32) * 4}",
        "strd r6, r5, [sp, #0]",  # the last row; from the end of a row to the next one in y
        *setup,
        ".Lrow:",
        *block.lines,
        "bne .Lrow",
        "add sp, sp, #12",
        "pop {r4-r11, pc}",
    ]
    return function(name, comment, lines)
