"""Depthwise 3x3 from planar lines of halfwords, requantization included.

A line holds x as pairs of halfwords, H[i] = (x[2i], x[2i+1]). With the taps of a window row as
W01 = (w0, w1) and W12 = (w1, w2), SMLAD and its half-selecting forms need no shuffling:

    stride 1   y0 = H0 . W01 + H1.lo * w2        y1 = H0.hi * w0 + H1 . W12
    stride 2   y0 = H0 . W01 + H1.lo * w2        y1 = H1 . W01 + H2.lo * w2

6 multiplies an output (9 MACs). The taps are w - Zw, the start value has Bq and -Zx * sum(w - Zw):
no zero point is left in the loop. Taps and constants are loaded again for each window row, in slots
that multiplies leave free; holding them would take ten registers.
"""

from __future__ import annotations

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block

PITCHES = (256, 1024)  # bytes from line to line: an offset in the load, so it is a constant
_FREE = ("r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
_START, _M0, _SHIFT, _ZERO = 24, 28, 32, 36  # after the six words of taps
_GROUP = 4


def body(stride: int, bits: int, pitch: int) -> Scheduled:
    """One word of outputs."""
    block: list[Op] = []
    codes = 32 // bits
    for group in range(codes // _GROUP):
        _sums(block, group, stride, pitch)
        _codes(block, group, bits)
    block += [ops.load("%end", "sp"), ops.compare("r0", "%end")]
    block.append(ops.add("r0", "r0", 2 * stride * codes))
    block.append(ops.store_next(f"%o{codes - 1}", "r1"))
    return schedule_block(block, _FREE, is_loop=True)


def _sums(block: list[Op], group: int, stride: int, pitch: int) -> None:
    """Twelve taps pairs of four outputs."""
    sums = [f"%acc{_GROUP * group + j}" for j in range(_GROUP)]
    start = f"%start{group}"
    block.append(ops.load(start, "r2", _START))
    for ky in range(3):
        name = f"{group}.{ky}"
        block.append(ops.load(f"%first{name}", "r2", 8 * ky))
        for i, rows in enumerate(_multiplies(stride)):
            offset = pitch * ky + 4 * (group * _GROUP * stride // 2 + i)
            block.append(ops.load(f"%h{name}.{i}", "r0", offset))
            if i == 1:
                block.append(ops.load(f"%last{name}", "r2", 8 * ky + 4))
            for instruction, output, taps in rows:
                first = ky == 0 and taps == "first" and instruction in ("smlad", "smlatb")
                opening = first and not any(op.names[0] == sums[output] for op in block if op.names)
                block.append(
                    ops.multiply_add(
                        instruction,
                        sums[output],
                        f"%h{name}.{i}",
                        f"%{taps}{name}",
                        start if opening else None,
                    )
                )


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
        block.append(ops.multiply_add("smmla", f"%p{j}", f"%acc{j}", m0, zero))
        block.append(ops.shift_register("asr", f"%t{j}", f"%p{j}", shift))
        block.append(ops.saturate(f"%u{j}", f"%t{j}", bits))
        if j:
            before = f"%o{j - 1}" if j > 1 else "%u0"
            block.append(ops.shifted("orr", f"%o{j}", before, f"%u{j}", "lsl", bits * j))


def name_of(stride: int, bits: int, pitch: int) -> str:
    """The symbol."""
    return f"mpq_dw3x3s{stride}_y{bits}_{pitch}"


def text(stride: int, bits: int, pitch: int) -> str:
    """Rows x words of one channel."""
    name, block = name_of(stride, bits, pitch), body(stride, bits, pitch)
    codes = 32 // bits
    comment = (
        f"void {name}(const void *lines, void *y, const void *taps, int32_t words,\n"
        "             int32_t rows, int32_t row_bytes)\n"
        f"taps: 6 words, start, M0, shift - 32, Zy << (shift - 32).\n"
        f"{codes} outputs, {9 * codes} MACs: {block.cycles:g} cycles."
    )
    step = 2 * stride * codes
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #28",
        "ldr r4, [sp, #64]",
        "ldr r5, [sp, #68]",
        f"mov r6, #{step}",
        "mul r6, r6, r3",
        f"sub r6, r6, #{step}",
        "str r4, [sp, #4]",
        "strd r5, r6, [sp, #8]",
        ".Lrow:",
        "ldr r6, [sp, #12]",
        "strd r0, r1, [sp, #16]",
        "add r6, r6, r0",
        "str r6, [sp, #0]",
        ".Lword:",
        *block.lines,
        "bne .Lword",
        "ldrd r0, r1, [sp, #16]",
        "ldrd r3, r4, [sp, #4]",
        f"add r0, r0, #{pitch * stride}",
        "add r1, r1, r4",
        "subs r3, r3, #1",
        "str r3, [sp, #4]",
        "bne .Lrow",
        "add sp, sp, #28",
        "pop {r4-r11, pc}",
    ]
    return function(name, comment, lines)
