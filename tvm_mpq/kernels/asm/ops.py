"""Instructions with named operands, and how the pipeline sees each of them.

A name that starts with ``%`` is a value that the scheduler gives a register; any other name is a
register. The classes of timing are those of emulator/decode.py; a test assembles and decodes every
constructor here and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tvm_mpq.emulator.isa import FLAGS, Instruction, Kind, Latency, Operand, Result, Stage, Use


@dataclass(frozen=True, eq=False)
class Op:
    """One instruction.

    Attributes
    ----------
    text: assembly with ``{name}`` for each operand, in the order of ``names``.
    reads: (name, stage, use) of each source. writes: (name, latency) of each result.
    after: instructions that must come first, besides those whose results are read.
    deadline: the multiply slot (in cycles from the start of the block) that waits for it.
    pin: the register that a result must get (a value that lives across the loop's end).
    """

    text: str
    names: tuple[str, ...]
    kind: Kind
    reads: tuple[tuple[str, Stage, Use], ...] = ()
    writes: tuple[tuple[str, Latency], ...] = ()
    shifts: bool = False
    early: bool = False
    alone: bool = False
    occupancy: int = 1
    base: str | None = None
    offset: int | None = None
    pin: str | None = None
    after: tuple[Op, ...] = ()
    loads: int = 0
    stores: int = 0
    narrow: bool = False
    timing: dict[str, float] = field(default_factory=dict)

    def render(self, registers: Mapping[str, str]) -> str:
        """The line of assembly."""
        return self.text.format(*(registers.get(name, name) for name in self.names))

    def instruction(self, registers: Mapping[str, str]) -> Instruction:
        """The record that the pipeline model issues."""
        named = registers.get
        return Instruction(
            0,
            4,
            self.text,
            self.kind,
            tuple(Operand(named(r, r), stage, use) for r, stage, use in self.reads),
            tuple(Result(named(r, r), latency) for r, latency in self.writes),
            occupancy=self.occupancy,
            alone=self.alone,
            shifts=self.shifts,
            early=self.early,
            loads=self.loads,
            stores=self.stores,
            narrow=self.narrow,
            base=None if self.base is None else named(self.base, self.base),
            offset=self.offset,
        )


def _multiplicands(*names: str) -> tuple[tuple[str, Stage, Use], ...]:
    return tuple((name, Stage.EX2, Use.UNFORWARDED) for name in names)


def _late(*names: str) -> tuple[tuple[str, Stage, Use], ...]:
    return tuple((name, Stage.EX2, Use.PLAIN) for name in names)


def _early(*names: str) -> tuple[tuple[str, Stage, Use], ...]:
    return tuple((name, Stage.EX1, Use.PLAIN) for name in names)


def load(
    target: str, base: str, offset: int = 0, *, pin: str | None = None, after: tuple[Op, ...] = ()
) -> Op:
    """LDR target, [base, #offset]."""
    return Op(
        f"ldr {{0}}, [{{1}}, #{offset}]",
        (target, base),
        Kind.LOAD,
        _early(base),
        ((target, Latency.FAST_LOAD),),
        base=base,
        offset=offset,
        pin=pin,
        after=after,
        loads=1,
    )


def store(source: str, base: str, offset: int = 0, *, after: tuple[Op, ...] = ()) -> Op:
    """STR source, [base, #offset]."""
    return Op(
        f"str {{0}}, [{{1}}, #{offset}]",
        (source, base),
        Kind.STORE,
        (*_early(base), (source, Stage.EX4, Use.PLAIN)),
        base=base,
        offset=offset,
        after=after,
        stores=1,
    )


def store_next(source: str, base: str, step: int = 4, *, after: tuple[Op, ...] = ()) -> Op:
    """STR source, [base], #step: the base moves on."""
    return Op(
        f"str {{0}}, [{{1}}], #{step}",
        (source, base),
        Kind.STORE,
        (*_early(base), (source, Stage.EX4, Use.PLAIN)),
        ((base, Latency.ADDRESS),),
        base=base,
        offset=0,
        after=after,
        stores=1,
    )


def store_half_at(source: str, base: str, index: str, *, after: tuple[Op, ...] = ()) -> Op:
    """STRH source, [base, index]."""
    return Op(
        "strh {0}, [{1}, {2}]",
        (source, base, index),
        Kind.STORE,
        (*_early(base, index), (source, Stage.EX4, Use.PLAIN)),
        base=base,
        after=after,
        stores=1,
        narrow=True,
    )


def store_pair(first: str, second: str, base: str, offset: int = 0) -> Op:
    """STRD: two words in one cycle of their own (rule 9)."""
    return Op(
        f"strd {{0}}, {{1}}, [{{2}}, #{offset}]",
        (first, second, base),
        Kind.MULTIPLE,
        (*_early(base), (first, Stage.EX4, Use.PLAIN), (second, Stage.EX4, Use.PLAIN)),
        base=base,
        offset=offset,
        alone=True,
        stores=2,
    )


def multiply_add(name: str, sum_: str, a: str, b: str, start: str | None = None) -> Op:
    """SMLAD, SMLABB, ..., MLS, SMMLA: sum = start + a * b; ``start`` defaults to ``sum_``."""
    start = start or sum_
    return Op(
        f"{name} {{0}}, {{1}}, {{2}}, {{3}}",
        (sum_, a, b, start),
        Kind.MULTIPLY,
        (*_multiplicands(a, b), (start, Stage.EX3, Use.PLAIN)),
        ((sum_, Latency.MULTIPLY),),
    )


def multiply_add_long(name: str, low: str, high: str, a: str, b: str) -> Op:
    """UMLAL, SMLAL: high:low += a * b."""
    return Op(
        f"{name} {{0}}, {{1}}, {{2}}, {{3}}",
        (low, high, a, b),
        Kind.MULTIPLY,
        (*_multiplicands(a, b), (low, Stage.EX3, Use.PLAIN), (high, Stage.EX3, Use.PLAIN)),
        ((low, Latency.MULTIPLY), (high, Latency.MULTIPLY)),
    )


def multiply(name: str, target: str, a: str, b: str) -> Op:
    """SMUAD, SMULBB, SMMUL, MUL."""
    return Op(
        f"{name} {{0}}, {{1}}, {{2}}",
        (target, a, b),
        Kind.MULTIPLY,
        _multiplicands(a, b),
        ((target, Latency.MULTIPLY),),
    )


def add(target: str, a: str, b: str | int, *, after: tuple[Op, ...] = ()) -> Op:
    """ADD of a register or of a constant without a shift."""
    return _plain("add", target, a, b, after)


def add_wide(target: str, a: str, b: int) -> Op:
    """ADDW of a constant below 4096, which needs no shifter."""
    return _plain("addw", target, a, b, ())


def subtract(target: str, a: str, b: str | int, *, after: tuple[Op, ...] = ()) -> Op:
    """SUB of a register or of a constant without a shift."""
    return _plain("sub", target, a, b, after)


def _plain(name: str, target: str, a: str, b: str | int, after: tuple[Op, ...]) -> Op:
    names = (target, a, b) if isinstance(b, str) else (target, a)
    second = "{2}" if isinstance(b, str) else f"#{b}"
    return Op(
        f"{name} {{0}}, {{1}}, {second}",
        names,
        Kind.ALU,
        _late(*names[1:]),
        ((target, Latency.LATE),),
        early=True,
        after=after,
    )


def compare(a: str, b: str, *, after: tuple[Op, ...] = ()) -> Op:
    """CMP a, b."""
    return Op(
        "cmp {0}, {1}",
        (a, b),
        Kind.ALU,
        _late(a, b),
        ((FLAGS, Latency.LATE),),
        after=after,
    )


def and_constant(target: str, a: str, constant: int) -> Op:
    """AND with a byte pattern that needs no shifter (0x0F0F0F0F)."""
    return Op(
        f"and {{0}}, {{1}}, #{constant:#x}",
        (target, a),
        Kind.ALU,
        _late(a),
        ((target, Latency.LATE),),
    )


def shifted(name: str, target: str, a: str, b: str, shift: str, count: int) -> Op:
    """AND, ORR, ...: target = a op (b shifted); the shifted operand is read in EX1."""
    return Op(
        f"{name} {{0}}, {{1}}, {{2}}, {shift} #{count}",
        (target, a, b),
        Kind.ALU,
        (*((a, Stage.EX2, Use.UNFORWARDED),), *_early(b)),
        ((target, Latency.LATE),),
        shifts=True,
    )


def logical(name: str, target: str, a: str, b: str) -> Op:
    """AND, ORR, BIC, EOR of two registers."""
    return Op(
        f"{name} {{0}}, {{1}}, {{2}}",
        (target, a, b),
        Kind.ALU,
        _late(a, b),
        ((target, Latency.LATE),),
    )


def shift_constant(name: str, target: str, a: str, count: int) -> Op:
    """LSR, LSL, ASR, ROR by a constant."""
    return Op(
        f"{name} {{0}}, {{1}}, #{count}",
        (target, a),
        Kind.SHIFT,
        _late(a),
        ((target, Latency.LATE),),
        early=True,
    )


def shift_register(name: str, target: str, a: str, count: str) -> Op:
    """LSR, LSL, ASR by a register."""
    return Op(
        f"{name} {{0}}, {{1}}, {{2}}",
        (target, a, count),
        Kind.SHIFT,
        _late(a, count),
        ((target, Latency.LATE),),
        early=True,
    )


def saturate(target: str, a: str, bits: int, name: str = "usat") -> Op:
    """USAT or SSAT target, #bits, a."""
    return Op(
        f"{name} {{0}}, #{bits}, {{1}}",
        (target, a),
        Kind.DSP,
        _early(a),
        ((target, Latency.SATURATE),),
        shifts=True,
    )


def extend_bytes(target: str, a: str, rotate: int = 0) -> Op:
    """UXTB16: bytes 0 and 2 (or 1 and 3, rotated by 8) as halfwords."""
    turn = f", ror #{rotate}" if rotate else ""
    return Op(
        f"uxtb16 {{0}}, {{1}}{turn}",
        (target, a),
        Kind.DSP,
        _late(a),
        ((target, Latency.LATE),),
    )


def extend_add_bytes(target: str, a: str, b: str, rotate: int = 0) -> Op:
    """UXTAB16: halfwords of ``a`` plus bytes 0 and 2 (or 1 and 3) of ``b``."""
    turn = f", ror #{rotate}" if rotate else ""
    return Op(
        f"uxtab16 {{0}}, {{1}}, {{2}}{turn}",
        (target, a, b),
        Kind.DSP,
        ((a, Stage.EX2, Use.UNFORWARDED), *_early(b)),
        ((target, Latency.LATE),),
        shifts=True,
    )


def saturate_halves(target: str, a: str, bits: int) -> Op:
    """USAT16 target, #bits, a: both halves, signed, to unsigned codes."""
    return Op(
        f"usat16 {{0}}, #{bits}, {{1}}",
        (target, a),
        Kind.DSP,
        _early(a),
        ((target, Latency.SATURATE),),
        shifts=True,
    )


def low_half(target: str, a: str) -> Op:
    """UXTH."""
    return Op("uxth {0}, {1}", (target, a), Kind.DSP, _late(a), ((target, Latency.LATE),))


def move(target: str, a: str) -> Op:
    """MOV of a register."""
    return Op(
        "mov {0}, {1}", (target, a), Kind.ALU, _late(a), ((target, Latency.LATE),), early=True
    )


def field_of(target: str, a: str, low: int, width: int) -> Op:
    """UBFX."""
    return Op(
        f"ubfx {{0}}, {{1}}, #{low}, #{width}",
        (target, a),
        Kind.DSP,
        _early(a),
        ((target, Latency.LATE),),
        shifts=True,
    )


def pack_bottom_top(target: str, bottom: str, top: str, shift: int = 16) -> Op:
    """PKHBT: low half of ``bottom``, low half of ``top`` above it."""
    turn = f", lsl #{shift}" if shift else ""
    return Op(
        f"pkhbt {{0}}, {{1}}, {{2}}{turn}",
        (target, bottom, top),
        Kind.DSP,
        ((bottom, Stage.EX2, Use.UNFORWARDED), *_early(top)),
        ((target, Latency.LATE),),
        shifts=True,
    )


def pack_top_bottom(target: str, top: str, bottom: str, shift: int = 16) -> Op:
    """PKHTB: high half of ``top``, below it the high half of ``bottom`` (shifted down)."""
    turn = f", asr #{shift}" if shift else ""
    return Op(
        f"pkhtb {{0}}, {{1}}, {{2}}{turn}",
        (target, top, bottom),
        Kind.DSP,
        _early(top, bottom),
        ((target, Latency.LATE),),
        shifts=True,
    )
