"""Requantization of sums to whole words of codes.

    y = clamp(Zy + floor(M0 * phi / 2**shift))     32 <= shift <= 52

SMMLA adds the high word of M0 * phi to Zy << (shift - 32); ASR and USAT finish it. Dropping the
low word first is exact, since floor(floor(v / 2**32) / 2**s) = floor(v / 2**(32 + s)).

The sums of lanes (``from_lanes``) still lack Bq and (c - Zw) * sum of x: one MLA and one ADD.

17 <= shift < 32 (a scale of 1/2 or more, as layers of few taps or coarse weights have): phi is cut
to 16 bits, which changes no code because its product would be far beyond the largest one, and
shifted left by 32 - shift instead; then the high word is the result. Other shifts take the C path.
"""

from __future__ import annotations

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block


def store_body(bits: int, words: int = 1, low: bool = False, from_lanes: bool = False) -> Scheduled:
    """Output words: load, SMMLA, ASR, USAT and one ORR a code."""
    block: list[Op] = []
    codes = 32 // bits
    for j in range(codes * words):
        place = j % codes
        block.append(ops.load(f"%{'t' if from_lanes else 'a'}{j}", "r0", 4 * j))
        if from_lanes:
            block.append(ops.load(f"%x{j}", "r2", 4 * j))
            block.append(ops.multiply_add("mla", f"%m{j}", f"%x{j}", "r8", f"%t{j}"))
            block.append(ops.add(f"%a{j}", f"%m{j}", "r9"))
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
    if from_lanes:
        block.append(ops.add("r2", "r2", 4 * codes * words))
    block.append(ops.subtract("r7", "r7", words))
    free = ("r3", "r10", "r11", "r12", "lr", *(() if from_lanes else ("r2", "r8", "r9")))
    return schedule_block(block, free, is_loop=True)


def store_text(bits: int, low: bool = False) -> str:
    """``mpq_store_y8``, ``_y4``, ``_y2``, and the same for low shifts."""
    name, block = f"mpq_store_y{bits}" + "_low" * low, store_body(bits, 1, low)
    comment = (
        f"void {name}(const int32_t *acc, void *y, const int32_t *icn, int32_t width,\n"
        "             int32_t rows, int32_t stride)\n"
        f"icn: M0, {_parameters(low)}. A word: {block.cycles:g} cycles."
    )
    shift = {8: 2, 4: 3, 2: 4}[bits]
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


def _parameters(low: bool) -> str:
    return "32 - shift, Zy" if low else "shift - 32, Zy << (shift - 32)"


def store_sums_text(bits: int, low: bool = False) -> str:
    """``mpq_store_sums_y8``, ``_y4``, ``_y2``: the same for the sums of lanes."""
    name = f"mpq_store_sums_y{bits}" + "_low" * low
    block = store_body(bits, 1, low, from_lanes=True)
    comment = (
        f"void {name}(const int32_t *acc, void *y, const int32_t *icn, const int32_t *side,\n"
        "             int32_t width, int32_t rows, int32_t stride)\n"
        f"icn: M0, {_parameters(low)}, c - Zw, Bq. A word: {block.cycles:g} cycles."
    )
    shift = {8: 2, 4: 3, 2: 4}[bits]
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #20",
        "ldm r2, {r4, r5, r6, r8, r9}",
        "mov r2, r3",
        "ldr r10, [sp, #56]",
        f"add r10, r10, #{32 // bits - 1}",
        f"lsr r10, r10, #{shift}",
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
