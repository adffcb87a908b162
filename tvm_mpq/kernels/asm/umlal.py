"""Cores on UMLAL: several pixels and two channels in the lanes of one multiply.

    P = sum of x_i << x_places[i]: one word for each tap and group of I pixels, packed beforehand
    Q = w_0 | w_1 << w_places[1]: cut out of flash once for all pixels of a strip, into DTCM
    P * Q has the 2 * I products in lanes; UMLAL adds all of them

A pass takes two words P and two words Q: eight registers of sums, two pointers and the four
operands are all there are, and every cycle issues one UMLAL and one load. Cutting Q out in the
loop would need a mask and a fifth operand, and shares each load of P with one multiply, not two.
A segment of taps that cannot overflow a lane (lanes.py) starts at b - c * sum x, and ends with its
lanes stored as int32 sums, or added to those of the segments before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block
from tvm_mpq.kernels.lanes import LANES, Lanes

PART = 8  # taps; an iteration takes four parts and can be entered at each
_PARTS = 4
_SUMS = tuple(f"r{i}" for i in range(4, 12))
_TEMPORARIES = ("r2", "r3", "r12", "lr")
# (word P, word Q) of the multiplies of an even and of an odd tap.
_TURNS = (((0, 0), (0, 1), (1, 1), (1, 0)), ((0, 1), (0, 0), (1, 0), (1, 1)))
_PINS = dict(zip(("%p0", "%q0", "%q1", "%p1"), _TEMPORARIES, strict=True))
# mpq_lanes_t of mpq_micro_kernels.h, a word each; the first five change on the way.
_FIELDS = (
    *("groups", "acc", "sums", "sums_now", "first_now", "weights", "end", "segment", "skip"),
    *(
        "pitch",
        "channel",
        "first",
        "resume",
        "suspend",
        "minus0",
        "minus1",
        "low0",
        "high0",
        "low1",
        "high1",
    ),
    *("centre0", "centre1"),
)
_AT = {name: 4 * i for i, name in enumerate(_FIELDS)}


def _sums(p: int, q: int, words: int) -> tuple[str, str]:
    first = 2 * (words * q + p)
    return _SUMS[first], _SUMS[first + 1]


def _carried(words: int) -> dict[str, str]:
    """Operands that the end of an iteration loads for the next."""
    return {name: pin for name, pin in _PINS.items() if words == 2 or name != "%p1"}


def _loads(tap: int, words: int, pinned: bool = False) -> Iterator[Op]:
    """P and Q of a tap, in the order in which their registers become free."""
    order = ["%p0", "%q0", "%q1", "%p1"] if tap % 2 == 0 else ["%p0", "%q1", "%q0", "%p1"]
    for name in (name for name in order if name in _carried(words)):
        number = int(name[2:])
        base, place = ("r0", 4 * (words * tap + number))
        if name.startswith("%q"):
            base, place = ("r1", 4 * (2 * tap + number))
        yield ops.load(f"{name}.{tap}", base, place, pin=_PINS[name] if pinned else None)


@cache
def part(words: int, first: int) -> Scheduled:
    """Eight taps from ``first`` (0, 8, 16, 24) on; the last part counts the iteration.

    Every other tap takes its multiplies in the opposite order, so that an operand is free three
    multiplies before its successor is needed.
    """
    block: list[Op] = []
    for tap in range(first, first + PART):
        block += [op for op in _loads(tap, words) if tap > first]
        for p, q in _TURNS[tap % 2][: 2 * words]:
            low, high = _sums(p, q, words)
            block.append(ops.multiply_add_long("umlal", low, high, f"%p{p}.{tap}", f"%q{q}.{tap}"))
    block += _loads(first + PART, words, pinned=True)
    if first + PART == _PARTS * PART:
        block += [ops.load("%end", "sp"), ops.compare("r1", "%end")]
        block.append(ops.add("r0", "r0", 4 * words * _PARTS * PART))
        block.append(ops.add("r1", "r1", 8 * _PARTS * PART))
    carried = _carried(words)
    return schedule_block(
        block,
        (*_TEMPORARIES, *_SUMS[4 * words :]),
        live_in={f"{name}.{first}": pin for name, pin in carried.items()},
        live_out=[f"{name}.{first + PART}" for name in carried],
        is_loop=True,
    )


@cache
def start(words: int, place: int = 0) -> Scheduled:
    """Sums to b - Q(c) * sum P, and the first operands; r12: mpq_lanes_t.

    2**32 - Q(c) multiplies the sum, which leaves it to be taken from the high word.
    place: of the second pixel, where sum P takes more than a word.
    """
    block = [ops.load("%at", "%plan", _AT["sums_now"])]
    for p in range(words):
        block += _total(p, words, place)
    for q in range(2):
        for p in range(words):
            low, high = _sums(p, q, words)
            block.append(ops.load(low, "%plan", _AT[f"low{q}"]))
            block.append(ops.load(high, "%plan", _AT[f"high{q}"]))
        block.append(ops.load(f"%minus{q}", "%plan", _AT[f"minus{q}"]))
        for p in range(words):
            low, high = _sums(p, q, words)
            block.append(ops.multiply_add_long("umlal", low, high, f"%sum{p}", f"%minus{q}"))
            block.append(ops.subtract(high, high, f"%sum{p}"))
    if place:
        block += _high_totals(words, place)
    block += _loads(0, words, pinned=True)
    return schedule_block(
        block,
        (*_TEMPORARIES, *_SUMS[4 * words :]),
        live_in={"%plan": "r12"},
        live_out=[f"{name}.0" for name in _carried(words)],
    )


def _total(p: int, words: int, place: int) -> Iterator[Op]:
    """The sum of words P as ``%sum{p}``: its low word, where two pixels' sums are halfwords."""
    if not place:
        yield ops.load(f"%sum{p}", "%at", 4 * p)
        return
    spare = _sums(words - 1, 1, words)[1]  # not started yet
    yield ops.load(f"%both{p}", "%at", 4 * p)
    yield ops.shift_constant("lsr", spare, f"%both{p}", 16)
    yield ops.field_of(f"%first{p}", f"%both{p}", 0, 16)
    yield ops.shifted("orr", f"%sum{p}", f"%first{p}", spare, "lsl", place)


def _high_totals(words: int, place: int) -> Iterator[Op]:
    """Takes Q(c) times the high words of the sums of words P."""
    yield ops.load("%again", "%plan", _AT["sums_now"])
    for p in range(words):
        yield ops.load(f"%halves{p}", "%again", 4 * p)
        yield ops.shift_constant("lsr", f"%top{p}", f"%halves{p}", 48 - place)
        for q in range(2):
            yield ops.load(f"%c{p}{q}", "%plan", _AT[f"centre{q}"])
            high = _sums(p, q, words)[1]
            yield ops.multiply_add("mls", high, f"%c{p}{q}", f"%top{p}", high)


@cache
def spill(lanes: Lanes, words: int, first: bool) -> Scheduled:
    """Lanes to sums in memory: r2 points to channel 0, r3 holds the bytes between channels."""
    block: list[Op] = []
    for channel in range(4):
        q, j = divmod(channel, 2)
        for p in range(words):
            low, high = _sums(p, q, words)
            for i in range(lanes.pixels):
                name = f"{channel}.{p}.{i}"
                offset = 4 * (lanes.pixels * p + i)
                if not first:
                    block.append(ops.load(f"%old{name}", "r2", offset))
                _lane(block, f"%lane{name}", low, high, lanes.bit(i, j), lanes)
                if not first:
                    block.append(ops.add(f"%new{name}", f"%old{name}", f"%lane{name}"))
                block.append(ops.store(f"%{'lane' if first else 'new'}{name}", "r2", offset))
        if channel < 3:
            block.append(ops.add("r2", "r2", "r3"))
    return schedule_block(block, ("r0", "r1", "r12", "lr", *_SUMS[4 * words :]))


def _lane(block: list[Op], to: str, low: str, high: str, bit: int, lanes: Lanes) -> None:
    width = lanes.width(bit)
    if bit + width == 64:
        block.append(ops.shift_constant("lsr", to, high, bit - 32))
    elif bit + width <= 32:
        block.append(ops.field_of(to, low, bit, width))
    elif bit >= 32:
        block.append(ops.field_of(to, high, bit - 32, width))
    else:
        block.append(ops.shift_constant("lsr", f"{to}a", low, bit))
        block.append(ops.shifted("orr", f"{to}b", f"{to}a", high, "lsl", 32 - bit))
        block.append(ops.field_of(to, f"{to}b", 0, width))


def name_of(lanes: Lanes, words: int) -> str:
    """``mpq_core_u14w4_a2``, ``..._a1``."""
    return f"mpq_core_{lanes.name}_a{words}"


def core_text(lanes: Lanes, words: int) -> str:
    """Groups of ``words`` P words x the taps of a chunk x 4 channels."""
    cycles = sum(part(words, PART * i).cycles for i in range(_PARTS))
    macs = _PARTS * PART * words * lanes.pixels * 4
    comment = (
        f"void {name_of(lanes, words)}(const void *x, mpq_lanes_t *plan)\n"
        f"{macs} MACs: {cycles:g} cycles."
    )
    lines = [
        "push {r4-r11, lr}",
        "sub sp, sp, #12",
        "str r1, [sp, #4]",
        "mov r12, r1",
        ".Lgroup:",
        f"ldr r2, [r12, #{_AT['sums']}]",
        f"ldr r3, [r12, #{_AT['first']}]",
        f"ldr r1, [r12, #{_AT['weights']}]",
        f"str r2, [r12, #{_AT['sums_now']}]",
        f"str r3, [r12, #{_AT['first_now']}]",
        ".Lsegment:",
        f"ldr r2, [r12, #{_AT['segment']}]",
        f"ldr r3, [r12, #{_AT['end']}]",
        "add r2, r2, r1",
        "cmp r2, r3",
        "it hi",
        "movhi r2, r3",
        "sub r3, r2, r1",
        f"sub r2, r2, #{8 * _PARTS * PART}",
        "lsls r3, r3, #25",  # carry: 16 taps more than whole iterations; negative: 8
        "str r2, [sp, #0]",
        f"ldr r2, [r12, #{_AT['resume']}]",
        "cbz r2, .Lstart",
        *_rows(words, "ldm"),
        "ldr r2, [r0]",
        "ldr r3, [r1]",
        *(["ldr lr, [r0, #4]"] if words == 2 else []),
        "ldr r12, [r1, #4]",
        "b .Lready",
        ".Lstart:",
        *start(words, lanes.x_places[1] if lanes.wide_sums else 0).lines,
        ".Lready:",
        *_loop(words),
        *_segment_end(lanes, words),
        *_group_end(lanes, words),
    ]
    return function(name_of(lanes, words), comment, lines)


def _loop(words: int) -> list[str]:
    """All taps of a segment; the flags tell where to enter."""
    lines = ["bcs .Lsixteen", "bpl .Ltaps", *_enter(words, 3), ".Lsixteen:", "bmi .Ltwenty_four"]
    lines += [*_enter(words, 2), ".Ltwenty_four:", *_enter(words, 1), ".Ltaps:"]
    for i in range(_PARTS):
        lines += [*([f".Lpart{i}:"] if i else []), *part(words, PART * i).lines]
    return [*lines, "bne .Ltaps"]


def _enter(words: int, number: int) -> list[str]:
    taps = PART * number
    return [f"sub r0, r0, #{4 * words * taps}", f"sub r1, r1, #{8 * taps}", f"b .Lpart{number}"]


def _rows(words: int, name: str) -> list[str]:
    """Lanes as they are, in the places of the first two channels of these pixels."""
    middle, last = 3 + 2 * words, 3 + 4 * words
    return [
        f"ldr r2, [r12, #{_AT['acc']}]",
        f"ldr r3, [r12, #{_AT['channel']}]",
        "add r3, r3, r2",
        f"{name} r2, {{r4-r{middle}}}",
        f"{name} r3, {{r{middle + 1}-r{last}}}",
    ]


def _segment_end(lanes: Lanes, words: int) -> list[str]:
    return [
        "ldr r12, [sp, #4]",
        "str r0, [sp, #8]",
        f"ldr r2, [r12, #{_AT['suspend']}]",
        "cbz r2, .Lspill",
        *_rows(words, "stm"),
        "b .Lspilled",
        ".Lspill:",
        f"ldr r2, [r12, #{_AT['acc']}]",
        f"ldr r3, [r12, #{_AT['channel']}]",
        f"ldr lr, [r12, #{_AT['first_now']}]",
        "cmp lr, #0",
        "beq .Ladd",
        *spill(lanes, words, True).lines,
        "b .Lspilled",
        ".Ladd:",
        *spill(lanes, words, False).lines,
        ".Lspilled:",
        "ldr r12, [sp, #4]",
        "ldr r1, [sp, #0]",
        "mov r2, #0",
        f"ldr r3, [r12, #{_AT['end']}]",
        f"add r1, r1, #{8 * _PARTS * PART}",
        f"str r2, [r12, #{_AT['first_now']}]",
        f"ldr r2, [r12, #{_AT['sums_now']}]",
        f"ldr lr, [r12, #{_AT['pitch']}]",
        "ldr r0, [sp, #8]",
        "add r2, r2, lr",
        "cmp r1, r3",
        f"str r2, [r12, #{_AT['sums_now']}]",
        "bne .Lsegment",
    ]


def _group_end(lanes: Lanes, words: int) -> list[str]:
    return [
        f"ldr r2, [r12, #{_AT['acc']}]",
        f"ldr r3, [r12, #{_AT['sums']}]",
        f"ldr r1, [r12, #{_AT['skip']}]",
        f"ldr lr, [r12, #{_AT['groups']}]",
        f"add r2, r2, #{4 * words * lanes.pixels}",
        f"add r3, r3, #{4 * words}",
        "add r0, r0, r1",
        "subs lr, lr, #1",
        f"str r2, [r12, #{_AT['acc']}]",
        f"str r3, [r12, #{_AT['sums']}]",
        f"str lr, [r12, #{_AT['groups']}]",
        "bne .Lgroup",
        "add sp, sp, #12",
        "pop {r4-r11, pc}",
    ]


def expand_name(lanes: Lanes) -> str:
    """``mpq_expand_lanes_w4``; the arrangements of 2-bit weights share one."""
    return f"mpq_expand_lanes_w{lanes.w_bits}"


@cache
def expand_body(lanes: Lanes) -> Scheduled:
    """Eight taps of four channels: an AND with a rotated word, or UXTB16, for each Q."""
    block: list[Op] = []
    per_word = 16 // lanes.w_bits
    for k in range(PART):
        for pair in range(2):
            number = k // per_word * 2 + pair
            if k % per_word == 0:
                block.append(ops.load(f"%w{number}", "r0", 4 * number))
            name = f"%q{k}.{pair}"
            block.append(_cut(name, f"%w{number}", lanes, k % per_word))
            block.append(ops.store(name, "r1", 8 * k + 4 * pair))
    block += [ops.add("r0", "r0", 4 * PART * lanes.w_bits // 8), ops.add("r1", "r1", 8 * PART)]
    block.append(ops.compare("r1", "r2"))
    free = ("r4", "r5", "r6", "r7", "r12", "lr")
    return schedule_block(block, free, is_loop=True)


def _cut(to: str, word: str, lanes: Lanes, k: int) -> Op:
    if lanes.w_bits == 8:
        return ops.extend_bytes(to, word, 8 * k)
    if k == 0:
        return ops.logical("and", to, "r3", word)
    return ops.shifted("and", to, "r3", word, "ror", 2 * lanes.w_bits * k)


def expand_text(lanes: Lanes) -> str:
    """Packed words of four channels -> [taps][2] words Q."""
    name, block = expand_name(lanes), expand_body(lanes)
    comment = f"void {name}(const void *w, void *q, int32_t taps)\n"
    comment += f"32 weights: {block.cycles:g} cycles."
    mask = lanes.mask
    lines = [
        "push {r4-r7, lr}",
        "add r2, r1, r2, lsl #3",
        *([f"movw r3, #{mask & 0xFFFF}", f"movt r3, #{mask >> 16}"] if lanes.w_bits < 8 else []),
        ".Lexpand:",
        *block.lines,
        "bne .Lexpand",
        "pop {r4-r7, pc}",
    ]
    return function(name, comment, lines)


def generators() -> dict[str, Callable[[], str]]:
    """File name -> what makes its text, for every arrangement of lanes and size of a pass."""
    cores = product(LANES, (2, 1))
    return {
        **{f"{name_of(one, words)}.S": partial(core_text, one, words) for one, words in cores},
        **{f"{expand_name(lanes)}.S": partial(expand_text, lanes) for lanes in LANES},
    }
