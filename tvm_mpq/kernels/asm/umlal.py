"""Cores on UMLAL: several pixels and two channels in the lanes of one multiply.

    P = sum of x_i << (i * s), one word for each tap and group of I pixels, packed beforehand
    Q = w_0 | w_1 << (I * s), cut out of the flash word by one AND with a rotated operand
    P * Q has the 2 * I products in lanes of s bits; UMLAL adds all of them

A pass takes A words P for each Q: 2 A registers of sums, two pointers and the mask leave five for
operands at A = 3. A segment of taps that cannot overflow a lane (proven from the weights when they
are packed) ends with its lanes added to int32 sums in memory, which start as Bq - Zw * sum x.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block
from tvm_mpq.kernels.lanes import LANES, Lanes

UNROLL = 8
_SUMS = ("r4", "r5", "r6", "r7", "r8", "r9")
_TEMPORARIES = ("r3", "r10", "r11", "r12", "lr")
_SHAPES = (3, 2, 1)


@dataclass(frozen=True)
class _Pass:
    lanes: Lanes
    words: int  # A

    @property
    def free(self) -> tuple[str, ...]:
        return (*_TEMPORARIES, *_SUMS[2 * self.words :])

    @property
    def name(self) -> str:
        return f"mpq_core_{self.lanes.name}_a{self.words}"


def body(lanes: Lanes, words: int) -> Scheduled:
    """Eight taps; the first operands of the next eight are loaded at its end."""
    one = _Pass(lanes, words)
    carried = [f"%p{a}" for a in range(min(words, 2))]
    pins = dict(zip(carried, ("r10", "r11"), strict=False))
    block: list[Op] = []
    per_word = 16 // lanes.w_bits
    for k in range(UNROLL):
        if k % per_word == 0:
            block.append(ops.load(f"%w{k // per_word}", "r1", 4 * (k // per_word)))
        for a in range(words):
            if k or f"%p{a}" not in pins:
                block.append(ops.load(f"%p{a}.{k}", "r0", 4 * (words * k + a)))
        turn = 2 * lanes.w_bits * (k % per_word)
        source = f"%w{k // per_word}"
        if turn:
            block.append(ops.shifted("and", f"%q{k}", "r2", source, "ror", turn))
        else:
            block.append(ops.logical("and", f"%q{k}", "r2", source))
        for a in range(words):
            low, high = _SUMS[2 * a : 2 * a + 2]
            block.append(ops.multiply_add_long("umlal", low, high, f"%p{a}.{k}", f"%q{k}"))
    for value, pin in pins.items():
        offset = 4 * (words * UNROLL + int(value[2:]))
        block.append(ops.load(f"{value}.{UNROLL}", "r0", offset, pin=pin))
    block += [ops.add("r1", "r1", UNROLL * lanes.w_bits // 4), ops.load("%end", "sp")]
    block += [ops.compare("r1", "%end"), ops.add("r0", "r0", 4 * words * UNROLL)]
    return schedule_block(
        block,
        one.free,
        live_in={f"{value}.0": pin for value, pin in pins.items()},
        live_out=[f"{value}.{UNROLL}" for value in pins],
        is_loop=True,
    )


def spill(lanes: Lanes, words: int) -> Scheduled:
    """Lanes to sums in memory: r3 points to channel 0, r12 to channel 1."""
    block: list[Op] = []
    for a in range(words):
        low, high = _SUMS[2 * a : 2 * a + 2]
        for o, base in enumerate(("r3", "r12")):
            for i in range(lanes.pixels):
                name = f"{a}.{o}.{i}"
                offset = 4 * (lanes.pixels * a + i)
                block.append(ops.load(f"%old{name}", base, offset))
                _lane(block, f"%lane{name}", low, high, (o * lanes.pixels + i) * lanes.bits, lanes)
                block.append(ops.add(f"%new{name}", f"%old{name}", f"%lane{name}"))
                block.append(ops.store(f"%new{name}", base, offset))
    return schedule_block(block, ("r10", "r11", "lr", *_SUMS[2 * words :]))


def _lane(block: list[Op], to: str, low: str, high: str, bit: int, lanes: Lanes) -> None:
    width = lanes.bits
    if bit + width <= 32:
        block.append(ops.field_of(to, low, bit, width))
    elif bit >= 32:
        block.append(ops.field_of(to, high, bit - 32, width))
    else:
        block.append(ops.shift_constant("lsr", f"{to}a", low, bit))
        block.append(ops.shifted("orr", f"{to}b", f"{to}a", high, "lsl", 32 - bit))
        block.append(ops.field_of(to, f"{to}b", 0, width))


def text(lanes: Lanes, words: int) -> str:
    """Groups of ``words`` P words x all taps x 2 channels."""
    one, block = _Pass(lanes, words), body(lanes, words)
    macs = UNROLL * words * lanes.pixels * 2
    comment = (
        f"void {one.name}(const void *x, const void *w, int32_t *acc, int32_t groups,\n"
        "    int32_t channel_bytes, int32_t weight_bytes, int32_t segment_bytes)\n"
        f"{macs} MACs: {block.cycles:g} cycles."
    )
    mask = lanes.mask
    sums = _SUMS[: 2 * words]
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #20",
        "str r1, [sp, #4]",
        "str r2, [sp, #8]",
        "str r3, [sp, #12]",
        "ldr r4, [sp, #60]",
        "add r4, r4, r1",
        "str r4, [sp, #16]",
        f"movw r2, #{mask & 0xFFFF}",
        f"movt r2, #{mask >> 16}",
        ".Lgroup:",
        "ldr r1, [sp, #4]",
        ".Lsegment:",
        "ldr r12, [sp, #64]",
        "ldr lr, [sp, #16]",
        "add r12, r12, r1",
        "cmp r12, lr",
        "it hi",
        "movhi r12, lr",
        "str r12, [sp, #0]",
        *(f"mov {r}, #0" for r in sums),
        "ldr r10, [r0]",
        *(["ldr r11, [r0, #4]"] if words > 1 else []),
        ".Ltaps:",
        *block.lines,
        "bne .Ltaps",
        "ldr r3, [sp, #8]",
        "ldr r12, [sp, #56]",
        "add r12, r12, r3",
        *spill(lanes, words).lines,
        "ldr lr, [sp, #16]",
        "cmp r1, lr",
        "bne .Lsegment",
        f"add r3, r3, #{4 * words * lanes.pixels}",
        "str r3, [sp, #8]",
        "ldr r12, [sp, #12]",
        "subs r12, r12, #1",
        "str r12, [sp, #12]",
        "bne .Lgroup",
        "add sp, sp, #20",
        "pop {r4-r11, pc}",
    ]
    return function(one.name, comment, lines)


def all_texts() -> dict[str, str]:
    """File name -> text, for every arrangement of lanes and size of a pass."""
    return {
        f"{_Pass(lanes, words).name}.S": text(lanes, words) for lanes in LANES for words in _SHAPES
    }
