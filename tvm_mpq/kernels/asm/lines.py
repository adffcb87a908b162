"""Lines of packed codes to lines of halfwords, for the planar depthwise kernels.

    h[j] = x[j - left], left 0 or 1, in words (h[2i], h[2i+1]); Zx left and right of the map

UXTB16 takes bytes apart into halfwords two apart (sub-byte codes are first masked into bytes);
PKHBT and PKHTB join neighbours, one instruction for each pair of codes. With a column of padding
on the left the pairs are (last, c0) (c1, c2) ..., and the last code waits for the next word.
"""

from __future__ import annotations

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block

_LAST = "r7"
_FREE = ("r2", "r3", "r8", "r9", "r10", "r11", "r12", "lr")


def body(bits: int, left: int) -> Scheduled:
    """One word of codes."""
    codes = 32 // bits
    block: list[Op] = [ops.load("%w", "r5")]
    values = _Halfwords(block, bits)
    for i in _order(bits):
        first, second = 2 * i - left, 2 * i + 1 - left
        if first < 0:
            block.append(ops.pack_bottom_top(f"%h{i}", _LAST, values.place(second)[0]))
        else:
            _join(block, f"%h{i}", values.place(first), values.place(second))
        if bits == 2:
            block.append(ops.store(f"%h{i}", "r4", 4 * i))
        elif i % 2:
            block.append(ops.store_pair(f"%h{i - 1}", f"%h{i}", "r4", 4 * (i - 1)))
    if left:
        block.append(ops.shift_constant("lsr", _LAST, values.place(codes - 1)[0], 16))
    block += [ops.add("r4", "r4", 2 * codes), ops.add("r5", "r5", 4), ops.compare("r5", "r6")]
    return schedule_block(block, _FREE, is_loop=True)


def _order(bits: int) -> list[int]:
    """Words of output, so that few values wait: 2-bit pairs 8 codes apart share their values."""
    return [0, 4, 1, 5, 2, 6, 3, 7] if bits == 2 else list(range(16 // bits))


class _Halfwords:
    """Codes as halves of values, made when they are first asked for."""

    def __init__(self, block: list[Op], bits: int) -> None:
        self._block, self._bits = block, bits
        self._made: set[str] = set()

    def place(self, code: int) -> tuple[str, bool]:
        """The value that holds ``code``, and whether in its high half."""
        fields = 8 // self._bits
        j, byte = code % fields, code // fields
        value = f"%b{j}{byte % 2}"
        if value not in self._made:
            self._made.add(value)
            self._block.append(ops.extend_bytes(value, self._field(j), 8 * (byte % 2)))
        return value, byte >= 2

    def _field(self, j: int) -> str:
        """Field ``j`` of every byte, alone in its byte."""
        bits, field, source = self._bits, f"%f{j}", "%w"
        if bits == 8 or field in self._made:
            return source if bits == 8 else field
        self._made.add(field)
        if j:
            source = f"%s{j}"
            self._block.append(ops.shift_constant("lsr", source, "%w", bits * j))
        self._block.append(ops.and_constant(field, source, ((1 << bits) - 1) * 0x01010101))
        return field


def _join(block: list[Op], to: str, a: tuple[str, bool], b: tuple[str, bool]) -> None:
    """``a`` below ``b``."""
    if not a[1]:
        block.append(ops.pack_bottom_top(to, a[0], b[0], 0 if b[1] else 16))
    elif b[1]:
        block.append(ops.pack_top_bottom(to, b[0], a[0]))
    else:
        block.append(ops.shift_constant("lsr", f"{to}s", a[0], 16))
        block.append(ops.pack_bottom_top(to, f"{to}s", b[0]))


def name_of(bits: int, left: int) -> str:
    """The symbol."""
    return f"mpq_lines_x{bits}_l{left}"


def text(bits: int, left: int) -> str:
    """Rows of one channel."""
    name, block = name_of(bits, left), body(bits, left)
    comment = (
        f"void {name}(void *to, const void *line, int32_t rows, const int32_t *geometry)\n"
        "geometry: bytes of a line, of a row, of an output line; offset, mask and fill of the\n"
        "word in which the border begins; Zx in both halves.\n"
        f"{32 // bits} codes: {block.cycles:g} cycles."
    )
    lines = [
        "push {r0-r11, lr}",
        ".Lrow:",
        "ldr r3, [sp, #12]",
        "ldrd r4, r5, [sp, #0]",
        "ldr r6, [r3, #0]",
        "ldrh r7, [r3, #24]",
        "add r6, r6, r5",
        ".Lword:",
        *block.lines,
        "bne .Lword",
        *(["str r7, [r4]"] if left else []),
        "ldr r3, [sp, #12]",
        "ldrd r0, r1, [sp, #0]",
        "ldrd r8, r9, [r3, #4]",
        "ldrd r10, r11, [r3, #12]",
        "ldrd r12, r2, [r3, #20]",
        "ldr r4, [r0, r10]",
        "add r10, r10, r0",
        "add r0, r0, r9",
        "add r1, r1, r8",
        "and r4, r4, r11",
        "strd r0, r1, [sp, #0]",
        "orr r4, r4, r12",
        "ldr r3, [sp, #8]",
        "strd r4, r2, [r10]",
        "subs r3, r3, #1",
        "str r3, [sp, #8]",
        "bne .Lrow",
        "add sp, sp, #16",
        "pop {r4-r11, pc}",
    ]
    return function(name, comment, lines)
