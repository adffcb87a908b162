"""Depthwise 3x3 from planar lines of halfwords, requantization included: the SMLAD cores.

A line holds x as pairs of halfwords, H[i] = (x[2i], x[2i+1]). With the taps of a window row as
W01 = (w0, w1) and W12 = (w1, w2), SMLAD and its half-selecting forms need no shuffling:

    stride 1   y0 = H0 . W01 + H1.lo * w2        y1 = H0.hi * w0 + H1 . W12
    stride 2   y0 = H0 . W01 + H1.lo * w2        y1 = H1 . W01 + H2.lo * w2

6 multiplies an output (9 MACs). The taps are w - Zw, the start value has Bq and -Zx * sum(w - Zw):
no zero point is left in the loop. Taps and constants are loaded again for each window row, in slots
that multiplies leave free; holding them would take ten registers.

A unit is what one pass makes of a row: 16 outputs or fewer, so that a row of 14 or 7 is one pass
and its loop is never left by a mispredicted branch.
"""

from __future__ import annotations

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block
from tvm_mpq.kernels.planar import PITCH

UNITS = {8: (4, 8, 16), 4: (8, 16), 2: (8, 16)}  # outputs of a pass by y bits
FREE = ("r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
_START, _M0, _SHIFT, _ZERO = 24, 28, 32, 36  # after the six words of taps
_GROUP = 4


def body(stride: int, bits: int, outputs: int) -> Scheduled:
    """One unit of outputs."""
    block: list[Op] = []
    for group in range(outputs // _GROUP):
        _sums(block, group, stride)
        _codes(block, group, bits)
        last = _GROUP * (group + 1) * bits
        if last % 32 == 0 or group == outputs // _GROUP - 1:
            block.append(ops.store_next(f"%o{_GROUP * group + 3}", "r1"))
    return schedule_block([*block, *advance(2 * stride * outputs)], FREE, is_loop=True)


def advance(step: int) -> list[Op]:
    """The next unit, unless this was the last of its row."""
    return [ops.load("%end", "sp"), ops.compare("r0", "%end"), ops.add("r0", "r0", step)]


def _sums(block: list[Op], group: int, stride: int) -> None:
    """Twelve pairs of taps for four outputs."""
    sums = [f"%acc{_GROUP * group + j}" for j in range(_GROUP)]
    start = f"%start{group}"
    begun: set[str] = set()
    block.append(ops.load(start, "r2", _START))
    for ky in range(3):
        name = f"{group}.{ky}"
        block.append(ops.load(f"%first{name}", "r2", 8 * ky))
        for i, rows in enumerate(_multiplies(stride)):
            offset = PITCH * ky + 4 * (group * _GROUP * stride // 2 + i)
            block.append(ops.load(f"%h{name}.{i}", "r0", offset))
            if i == 1:
                block.append(ops.load(f"%last{name}", "r2", 8 * ky + 4))
            for instruction, output, taps in rows:
                opening = None if sums[output] in begun else start
                begun.add(sums[output])
                operands = (sums[output], f"%h{name}.{i}", f"%{taps}{name}", opening)
                block.append(ops.multiply_add(instruction, *operands))


def _multiplies(stride: int) -> list[list[tuple[str, int, str]]]:
    """For each pair of a line: (instruction, output, taps)."""
    if stride == 1:
        return [
            [("smlad", 0, "first"), ("smlatb", 1, "first")],
            [("smlabt", 0, "last"), ("smlad", 1, "last")]
            + [("smlad", 2, "first"), ("smlatb", 3, "first")],
            [("smlabt", 2, "last"), ("smlad", 3, "last")],
        ]
    rows = []
    for i in range(_GROUP + 1):
        ends = [("smlabt", i - 1, "last")] if i else []
        begins = [("smlad", i, "first")] if i < _GROUP else []
        rows.append(ends + begins)
    return rows


def _codes(block: list[Op], group: int, bits: int) -> None:
    """Sums to codes, as in epilogue.py, and into the word."""
    m0, shift, zero = (f"%{name}{group}" for name in ("m", "s", "z"))
    block += [ops.load(zero, "r2", _ZERO), ops.load(m0, "r2", _M0), ops.load(shift, "r2", _SHIFT)]
    for j in range(_GROUP * group, _GROUP * (group + 1)):
        place = j % (32 // bits)
        block.append(ops.multiply_add("smmla", f"%p{j}", f"%acc{j}", m0, zero))
        block.append(ops.shift_register("asr", f"%t{j}", f"%p{j}", shift))
        block.append(ops.saturate(f"%u{j}", f"%t{j}", bits))
        if place:
            before = f"%o{j - 1}" if place > 1 else f"%u{j - 1}"
            block.append(ops.shifted("orr", f"%o{j}", before, f"%u{j}", "lsl", bits * place))


def name_of(stride: int, bits: int, outputs: int) -> str:
    """The symbol."""
    return f"mpq_dw3x3s{stride}_y{bits}_{outputs}"


def text(stride: int, bits: int, outputs: int) -> str:
    """``mpq_dw3x3s*_y*_*``."""
    return core_text(
        name_of(stride, bits, outputs),
        body(stride, bits, outputs),
        (outputs, bits, stride),
        2 * stride * outputs,
        "taps: 6 words, start, M0, shift - 32, Zy << (shift - 32).",
    )


def core_text(
    name: str, block: Scheduled, shape: tuple[int, int, int], step: int, taps: str
) -> str:
    """Rows x units of one channel; shape: outputs of a unit, y bits, stride; step: bytes of x."""
    outputs, bits, stride = shape
    down = PITCH * stride
    comment = (
        f"void {name}(const void *lines, void *y, const void *taps, int32_t units,\n"
        "             int32_t rows, int32_t row_bytes)\n"
        f"{taps}\n{outputs} outputs, {9 * outputs} MACs: {block.cycles:g} cycles."
    )
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #20",
        "ldrd r4, r5, [sp, #56]",
        f"mov r6, #{step}",
        "mul r7, r3, r6",
        "sub r6, r7, r6",
        "add r6, r6, r0",
        f"rsb r7, r7, #{down}",
        f"mov r8, #{-(-outputs * bits // 32) * 4}",
        "mls r5, r3, r8, r5",
        "sub r4, r4, #1",
        f"mov r8, #{down}",
        "mla r8, r4, r8, r6",
        "strd r6, r8, [sp, #0]",  # the last unit of this row and of the last row
        "strd r7, r5, [sp, #8]",  # from the end of a row to the next one: x, y
        ".Lunit:",
        *block.lines,
        "bne .Lunit",
        "ldr r6, [sp, #0]",
        "ldr r8, [sp, #4]",
        "ldrd r3, r4, [sp, #8]",
        "cmp r6, r8",
        f"add r6, r6, #{down}",
        "add r0, r0, r3",
        "add r1, r1, r4",
        "str r6, [sp, #0]",
        "bne .Lunit",
        "add sp, sp, #20",
        "pop {r4-r11, pc}",
    ]
    return function(name, comment, lines)
