"""Requantization of sums to whole words of codes.

    y = clamp(Zy + floor(M0 * phi / 2**shift))     32 <= shift <= 52

SMMLA adds the high word of M0 * phi to Zy << (shift - 32); ASR and USAT finish it. Dropping the
low word first is exact, since floor(floor(v / 2**32) / 2**s) = floor(v / 2**(32 + s)).

The sums of lanes still lack Bq and (c - Zw) * sum of x: one ADD, and one MLA unless c is Zw.

17 <= shift < 32 (a scale of 1/2 or more, as layers of few taps or coarse weights have): phi is cut
to 16 bits, which changes no code because its product would be far beyond the largest one, and
shifted left by 32 - shift instead; then the high word is the result. Other shifts take the C path.
"""

from __future__ import annotations

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block


def store_body(bits: int, words: int = 1, low: bool = False, adds: str = "") -> Scheduled:
    """Output words: load, SMMLA, ASR, USAT and one ORR a code.

    adds: "bq", what a sum still lacks is in r9; "side", and r8 times the word at r2.
    """
    block: list[Op] = []
    codes = 32 // bits
    for j in range(codes * words):
        place = j % codes
        block += _phi(j, adds)
        if low:
            block.append(ops.saturate(f"%c{j}", f"%a{j}", 16, "ssat"))
            block.append(ops.shift_register("lsl", f"%l{j}", f"%c{j}", "r5"))
            block.append(ops.multiply_add("smmla", f"%s{j}", f"%l{j}", "r4", "r6"))
        else:
            block.append(ops.multiply_add("smmla", f"%p{j}", f"%a{j}", "r4", "r6"))
            block.append(ops.shift_register("asr", f"%s{j}", f"%p{j}", "r5"))
        block.append(ops.saturate(f"%u{j}", f"%s{j}", bits))
        if place:
            before = f"%o{j - 1}" if place > 1 else f"%u{j - 1}"
            block.append(ops.shifted("orr", f"%o{j}", before, f"%u{j}", "lsl", bits * place))
        if place == codes - 1:
            block.append(ops.store_next(f"%o{j}", "r1"))
    block.append(ops.add("r0", "r0", 4 * codes * words))
    if adds == "side":
        block.append(ops.add("r2", "r2", 4 * codes * words))
    block.append(ops.subtract("r7", "r7", words))
    free = {"": ("r2", "r8", "r9"), "bq": ("r2",), "side": ()}[adds]
    return schedule_block(block, ("r3", "r10", "r11", "r12", "lr", *free), is_loop=True)


def _phi(j: int, adds: str) -> list[Op]:
    """Sum ``j`` with what it lacks, as ``%a``."""
    if not adds:
        return [ops.load(f"%a{j}", "r0", 4 * j)]
    found = [ops.load(f"%t{j}", "r0", 4 * j)]
    if adds == "side":
        found.append(ops.load(f"%x{j}", "r2", 4 * j))
        found.append(ops.multiply_add("mla", f"%m{j}", f"%x{j}", "r8", f"%t{j}"))
    return [*found, ops.add(f"%a{j}", f"%{'m' if adds == 'side' else 't'}{j}", "r9")]


_LOG_CODES = {8: 2, 4: 3, 2: 4}  # log2 of the codes of a word


def _parameters(low: bool) -> str:
    return "32 - shift, Zy" if low else "shift - 32, Zy << (shift - 32)"


def store_text(bits: int, low: bool = False) -> str:
    """``mpq_store_y8``, ``_y4``, ``_y2``, and the same for low shifts."""
    name, block = f"mpq_store_y{bits}" + "_low" * low, store_body(bits, 1, low)
    comment = (
        f"void {name}(const int32_t *acc, void *y, const int32_t *icn, int32_t width,\n"
        "             int32_t rows, int32_t stride)\n"
        f"icn: M0, {_parameters(low)}. A word: {block.cycles:g} cycles."
    )
    shift = _LOG_CODES[bits]
    # Two words are a row of 14: a loop of pairs is not left by a mispredicted branch.
    pairs = []
    if bits == 4:
        pairs = ["tst r7, #1", "bne .Lword", ".Lpair:", *store_body(bits, 2, low).lines]
        pairs += ["cmp r7, #0", "bne .Lpair", "b .Lend"]
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #28",
        "ldm r2, {r4, r5, r6}",
        "ldr r8, [sp, #64]",
        "ldr r9, [sp, #68]",
        f"add r10, r3, #{32 // bits - 1}",
        f"lsr r10, r10, #{shift}",
        "str r3, [sp, #0]",
        "str r8, [sp, #4]",
        "str r9, [sp, #8]",
        "str r10, [sp, #12]",
        ".Lrow:",
        "ldr r7, [sp, #12]",
        "strd r0, r1, [sp, #16]",
        *pairs,
        ".Lword:",
        *block.lines,
        "cmp r7, #0",
        "bne .Lword",
        ".Lend:",
        "ldrd r0, r1, [sp, #16]",
        "ldrd r2, r8, [sp, #0]",
        "ldr r9, [sp, #8]",
        "add r0, r0, r2, lsl #2",
        "add r1, r1, r9",
        "subs r8, r8, #1",
        "str r8, [sp, #4]",
        "bne .Lrow",
        "add sp, sp, #28",
        "pop {r4-r11, pc}",
    ]
    return function(name, comment, lines)


def store_sums_text(bits: int) -> str:
    """``mpq_store_sums_y8_low``, ...: low shifts of one channel of lanes."""
    name, block = f"mpq_store_sums_y{bits}_low", store_body(bits, 1, True, "side")
    comment = (
        f"void {name}(const int32_t *acc, void *y, const int32_t *icn, const int32_t *side,\n"
        "             int32_t width, int32_t rows, int32_t stride)\n"
        f"icn: M0, {_parameters(True)}, c - Zw, Bq. A word: {block.cycles:g} cycles."
    )
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #20",
        "ldm r2, {r4, r5, r6, r8, r9}",
        "mov r2, r3",
        "ldr r10, [sp, #56]",
        f"add r10, r10, #{32 // bits - 1}",
        f"lsr r10, r10, #{_LOG_CODES[bits]}",
        "str r10, [sp, #0]",
        ".Lrow:",
        "ldr r7, [sp, #0]",
        "strd r0, r1, [sp, #4]",
        "str r2, [sp, #12]",
        ".Lword:",
        *block.lines,
        "cmp r7, #0",
        "bne .Lword",
        "ldrd r0, r1, [sp, #4]",
        "ldr r2, [sp, #12]",
        "ldrd r3, r10, [sp, #56]",
        "ldr r11, [sp, #64]",
        "add r0, r0, r3, lsl #2",
        "add r2, r2, r3, lsl #2",
        "add r1, r1, r11",
        "subs r10, r10, #1",
        "str r10, [sp, #60]",
        "bne .Lrow",
        "add sp, sp, #20",
        "pop {r4-r11, pc}",
    ]
    return function(name, comment, lines)


# mpq_store_t of mpq_micro_kernels.h, a word each; the first seven move from channel to channel.
_FIELDS = (
    *("acc", "y", "bq", "m0", "zeros", "centres", "channels", "side", "unit", "zy", "words"),
    *("rows", "skip", "y_skip", "line", "pitch"),
)
_AT = {name: 4 * i for i, name in enumerate(_FIELDS)}


def store_block_text(bits: int, narrow: bool = False) -> str:
    """``mpq_store_block_y8``, ...: every row of up to four channels of lanes, shifts 32 to 52.

    narrow: ``_m16``, where the shift and Zw lie below 16 bits of M0.
    """
    name = f"mpq_store_block_y{bits}" + "_m16" * narrow
    cycles = [store_body(bits, 1, False, adds).cycles for adds in ("bq", "side")]
    comment = (
        f"void {name}(mpq_store_t *block)\n"
        f"A word: {cycles[0]:g} cycles where c is Zw, else {cycles[1]:g}."
    )
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #8",
        "str r0, [sp, #0]",
        "mov r12, r0",
        ".Lchannel:",
        *(_narrow_parameters() if narrow else _wide_parameters()),
        *_parameters_of_a_channel(),
        "cmp r8, #0",
        "bne .Lrow_side",
        *_rows(bits, "bq"),
        "b .Lnext",
        *_rows(bits, "side"),
        ".Lnext:",
        f"ldr r3, [r12, #{_AT['channels']}]",
        "subs r3, r3, #1",
        f"str r3, [r12, #{_AT['channels']}]",
        "bne .Lchannel",
        "add sp, sp, #8",
        "pop {r4-r11, pc}",
    ]
    return function(name, comment, lines)


def _rows(bits: int, adds: str) -> list[str]:
    """All rows of a channel; leaves the block's address in r12."""
    return [
        f".Lrow_{adds}:",
        f"ldr r7, [r12, #{_AT['words']}]",
        *_row(bits, adds),
        f".Lend_{adds}:",
        "ldr r12, [sp, #0]",
        "ldr r11, [sp, #4]",
        f"ldr r3, [r12, #{_AT['skip']}]",
        f"ldr r10, [r12, #{_AT['y_skip']}]",
        "subs r11, r11, #1",
        "add r0, r0, r3",
        *(["add r2, r2, r3"] if adds == "side" else []),
        "add r1, r1, r10",
        "str r11, [sp, #4]",
        f"bne .Lrow_{adds}",
    ]


def _row(bits: int, adds: str) -> list[str]:
    """An odd word first, then pairs; 16 codes of 2 bits are a loop of their own."""
    word, pairs = f".Lword_{adds}", f".Lpairs_{adds}"
    if bits == 2:
        return [f"{word}:", *store_body(2, 1, False, adds).lines, "cmp r7, #0", f"bne {word}"]
    return [
        "tst r7, #1",
        f"beq {pairs}",
        *store_body(bits, 1, False, adds).lines,
        "cmp r7, #0",
        f"beq .Lend_{adds}",
        f"{pairs}:",
        *store_body(bits, 2, False, adds).lines,
        "cmp r7, #0",
        f"bne {pairs}",
    ]


def _wide_parameters() -> list[str]:
    """Bq, M0, (shift, Zw) and (c, b / unit) of a channel from their packed words."""
    return [
        f"ldr r10, [r12, #{_AT['bq']}]",
        f"ldr r11, [r12, #{_AT['m0']}]",
        "ldr r9, [r10], #4",
        "ldr r4, [r11], #4",
        f"str r10, [r12, #{_AT['bq']}]",
        f"str r11, [r12, #{_AT['m0']}]",
        f"ldr r10, [r12, #{_AT['zeros']}]",
        f"ldr r11, [r12, #{_AT['centres']}]",
        "ldrh r5, [r10], #2",
        "ldrh r8, [r11], #2",
        f"str r10, [r12, #{_AT['zeros']}]",
        f"str r11, [r12, #{_AT['centres']}]",
    ]


def _narrow_parameters() -> list[str]:
    """The same where one word holds M0, Zw and the shift."""
    return [
        f"ldr r11, [r12, #{_AT['m0']}]",
        f"ldr r10, [r12, #{_AT['bq']}]",
        "ldr r4, [r11], #4",
        "ldr r9, [r10], #4",
        f"str r11, [r12, #{_AT['m0']}]",
        f"ldr r11, [r12, #{_AT['centres']}]",
        f"str r10, [r12, #{_AT['bq']}]",
        "uxth r5, r4",
        "ldrh r8, [r11], #2",
        "bfc r4, #0, #16",
        f"str r11, [r12, #{_AT['centres']}]",
    ]


def _parameters_of_a_channel() -> list[str]:
    """shift - 32, Zy << (shift - 32), c - Zw and Bq - segments * b; the rows of the channel."""
    return [
        f"ldr r7, [r12, #{_AT['unit']}]",
        "lsr r3, r8, #8",
        f"ldr r6, [r12, #{_AT['zy']}]",
        "lsr r2, r5, #8",
        "mls r9, r3, r7, r9",
        "uxtb r5, r5",
        "uxtb r8, r8",
        f"ldr r0, [r12, #{_AT['acc']}]",
        "sub r5, r5, #32",
        f"ldr r1, [r12, #{_AT['y']}]",
        "sub r8, r8, r2",
        f"ldr r10, [r12, #{_AT['pitch']}]",
        "lsl r6, r6, r5",
        f"ldr r11, [r12, #{_AT['line']}]",
        "add r10, r0, r10",
        f"ldr r2, [r12, #{_AT['side']}]",
        "add r11, r1, r11",
        f"ldr r3, [r12, #{_AT['rows']}]",
        f"str r10, [r12, #{_AT['acc']}]",
        f"str r11, [r12, #{_AT['y']}]",
        "str r3, [sp, #4]",
    ]
