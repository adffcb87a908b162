"""Lines of packed codes to lines of halfwords, for the planar depthwise kernels.

    pairs    h[j] = x[j - left] in words (h[2i], h[2i+1]), left 0 or 1
    apart    the same h, even ones in pairs (h[4i], h[4i+2]) at 0, odd ones at ODD_LINE

One AND with a shifted operand takes two codes half a word apart into halfwords; PKHBT and PKHTB
join neighbours, one instruction for each pair of codes. With a column of padding on the left, the
last code waits for the next word. Border rows and what lies right of the last word stay as they are
from channel to channel: they are filled once, and only the two codes right of the map, which may
share a word with codes of the map, are stored again.
"""

from __future__ import annotations

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block
from tvm_mpq.kernels.planar import ODD_LINE, PITCH

WORDS = {8: (1, 2, 4), 4: (1, 2, 4), 2: (1,)}  # words of a pass by x bits
_MASK = "lr"


def body(bits: int, left: int, apart: int, words: int, whole: int) -> Scheduled:
    """``words`` words of codes: a whole line, or a pass of the loop over its words."""
    codes = 32 // bits
    to, line, carry = ("r0", "r1", "r7") if whole else ("r4", "r5", "r7")
    free = ("r8", "r9", "r10", "r11", *(("r4", "r5", "r12") if whole else ("r2", "r3")))
    block: list[Op] = []
    last = carry
    for word in range(words):
        block.append(ops.load(f"%w{word}", line, 4 * word))
        values = _Halfwords(block, bits, f"{word}")
        for count, (i, first, second) in enumerate(_pairs(bits, left, apart)):
            name = f"%h{word}.{count}"
            if first < 0:
                block.append(ops.pack_bottom_top(name, last, values.place(second)[0]))
            else:
                _join(block, name, values.place(first), values.place(second))
            block.append(ops.store(name, to, 2 * codes // (1 + apart) * word + i))
        if left:
            last = f"%last{word}" if word < words - 1 else carry
            block.append(ops.shift_constant("lsr", last, values.place(codes - 1)[0], 16))
    if whole:
        if left:
            end = 2 * codes // (1 + apart) * words
            block += _last_store(carry, to, end, apart)
        # They may lie in any of the words.
        words_of_line = tuple(op for op in block if op.stores)
        for i, right in enumerate(("%right", "%next")):
            block.append(ops.load(right, "sp", 4 * i))
            block.append(ops.store_half_at("r6", to, right, after=words_of_line))
        block += [ops.load("%down", "sp", 8), ops.add(line, line, "%down")]
        block += [ops.compare(line, "r2"), ops.add_wide(to, to, PITCH)]
        if left:
            block.append(ops.move(carry, "r6"))
    else:
        block.append(ops.add(to, to, 2 * codes // (1 + apart) * words))
        block += [ops.add(line, line, 4 * words), ops.compare(line, "r6")]
    return schedule_block(block, (*free, *(() if left else (carry,))), is_loop=True)


def _last_store(carry: str, to: str, end: int, apart: int) -> list[Op]:
    """The code that waited for a next word."""
    if not apart:
        return [ops.store(carry, to, end)]
    return [ops.load("%end", "sp", 12), ops.store_half_at(carry, to, "%end")]


def _pairs(bits: int, left: int, apart: int) -> list[tuple[int, int, int]]:
    """(byte offset, first code, second code) of each word of halfwords; code -1: the last one."""
    codes = 32 // bits
    step = 1 + apart
    found = []
    for half in range(step):
        for i in range(codes // (2 * step)):
            first = 2 * step * i + half - left
            found.append((4 * i + half * ODD_LINE, first, first + step))
    # Codes half a word apart share their values: what waits for them is short this way.
    return sorted(found, key=lambda pair: (pair[1] % (codes // 2), pair[1]))


class _Halfwords:
    """Codes as halves of values, made when they are first asked for."""

    def __init__(self, block: list[Op], bits: int, suffix: str) -> None:
        self._block, self._bits, self._suffix = block, bits, suffix
        self._made: set[str] = set()

    def place(self, code: int) -> tuple[str, bool]:
        """The value that holds ``code``, and whether in its high half."""
        column, is_high = code % (16 // self._bits), code >= 16 // self._bits
        value = f"%b{column}.{self._suffix}"
        if value not in self._made:
            self._made.add(value)
            word = f"%w{self._suffix}"
            if column:
                shift = self._bits * column
                self._block.append(ops.shifted("and", value, _MASK, word, "lsr", shift))
            else:
                self._block.append(ops.logical("and", value, _MASK, word))
        return value, is_high


def _join(block: list[Op], to: str, a: tuple[str, bool], b: tuple[str, bool]) -> None:
    """``a`` below ``b``."""
    if not a[1]:
        block.append(ops.pack_bottom_top(to, a[0], b[0], 0 if b[1] else 16))
    elif b[1]:
        block.append(ops.pack_top_bottom(to, b[0], a[0]))
    else:
        block.append(ops.shift_constant("lsr", f"{to}s", a[0], 16))
        block.append(ops.pack_bottom_top(to, f"{to}s", b[0]))


def name_of(bits: int, left: int, apart: int, words: int, whole: int) -> str:
    """The symbol."""
    return f"mpq_lines_x{bits}_l{left}{'_apart' * apart}_{'of' * whole}{words}"


def text(bits: int, left: int, apart: int, words: int, whole: int) -> str:
    """Rows of one channel."""
    name = name_of(bits, left, apart, words, whole)
    block = body(bits, left, apart, words, whole)
    comment = (
        f"void {name}(void *to, const void *line, int32_t rows, const int32_t *geometry)\n"
        "geometry: bytes of a line, of a row; where the two codes right of the map are; Zx.\n"
        f"{words * 32 // bits} codes: {block.cycles:g} cycles."
    )
    setup = f"mov lr, #{((1 << bits) - 1) * 0x10001:#x}"
    end = 64 // bits * words // (1 + apart)
    lines = _of_whole(block, setup, left, end) if whole else _of_words(block, setup, left, apart)
    return function(name, comment, lines)


def _of_whole(block: Scheduled, setup: str, left: int, end: int) -> list[str]:
    """Straight code for a line; end: where the code goes that waits at its end."""
    return [
        "push {r4-r11, lr}",
        "sub sp, sp, #20",
        "ldr r8, [r3, #4]",
        "ldrd r4, r5, [r3, #8]",
        "ldr r6, [r3, #16]",
        f"mov r9, #{end}",
        "strd r4, r5, [sp, #0]",
        "strd r8, r9, [sp, #8]",
        setup,
        *(["mov r7, r6"] if left else []),
        "mla r2, r2, r8, r1",
        ".Lrow:",
        *block.lines,
        "bne .Lrow",
        "add sp, sp, #20",
        "pop {r4-r11, pc}",
    ]


def _of_words(block: Scheduled, setup: str, left: int, apart: int) -> list[str]:
    """A loop over the words of a line."""
    return [
        "push {r4-r11, lr}",
        "sub sp, sp, #28",
        "ldm r3, {r4, r5, r6, r7, r8}",
        "strd r5, r6, [sp, #4]",
        "strd r7, r8, [sp, #12]",
        "sub r5, r5, r4",
        "str r5, [sp, #0]",
        "str r4, [sp, #20]",
        setup,
        "mov r5, r1",
        ".Lrow:",
        "ldr r6, [sp, #20]",
        "ldr r7, [sp, #16]",
        "str r2, [sp, #24]",
        "mov r4, r0",
        "add r6, r6, r5",
        ".Lword:",
        *block.lines,
        "bne .Lword",
        *([f"str{'h' * apart} r7, [r4]"] if left else []),
        "ldr r6, [sp, #0]",
        "ldrd r8, r9, [sp, #8]",
        "ldr r3, [sp, #16]",
        "ldr r2, [sp, #24]",
        "strh r3, [r0, r8]",
        "strh r3, [r0, r9]",
        "add r5, r5, r6",
        f"add r0, r0, #{PITCH}",
        "subs r2, r2, #1",
        "bne .Lrow",
        "add sp, sp, #28",
        "pop {r4-r11, pc}",
    ]
