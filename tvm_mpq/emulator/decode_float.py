"""Floating-point instructions. Their timing is rough: 10-30 % optimistic on measured code."""

from __future__ import annotations

from tvm_mpq.emulator.decode import Fields, address_operands
from tvm_mpq.emulator.isa import (
    FLAGS,
    FLOAT_FLAGS,
    FloatUse,
    Instruction,
    Kind,
    Latency,
    Operand,
    Result,
    Stage,
    Use,
)

_ACCUMULATES = {"vfma", "vfms", "vfnma", "vfnms", "vmla", "vmls", "vnmla", "vnmls"}
_LOADS_MULTIPLE = {"vldm", "vldmia", "vldmdb", "vpop"}
_STORES_MULTIPLE = {"vstm", "vstmia", "vstmdb", "vpush"}
# Cycles for which the unit is blocked: (single, double) precision.
_BLOCKING = {"vdiv": (16, 30), "vsqrt": (14, 30)}
_DOUBLE_MULTIPLY, _DOUBLE_ACCUMULATE = 4, 6


def decode_float(fields: Fields, instruction: Instruction) -> None:
    """Fills in a VFP instruction."""
    name = fields.name
    instruction.kind = Kind.FLOAT
    if name in _LOADS_MULTIPLE | _STORES_MULTIPLE:
        _multiple(fields, instruction)
    elif name in ("vldr", "vstr"):
        _single(fields, instruction)
    elif name in ("vmrs", "vmsr"):
        _status(fields, instruction)
    elif name == "vmov":
        _move(fields, instruction)
    elif name in ("vcmp", "vcmpe"):
        instruction.float_use = FloatUse.ARITHMETIC
        instruction.results = (Result(FLOAT_FLAGS, Latency.LATE),)
        instruction.sources = tuple(Operand(r, Stage.EX2) for r in fields.registers)
    else:
        _arithmetic(fields, instruction)


def _is_float(register: str) -> bool:
    return register[0] in "sd" and register != "sp"


def _multiple(fields: Fields, instruction: Instruction) -> None:
    """One 64-bit transfer a cycle, alone (rule 9)."""
    listed = [r for r in fields.registers if _is_float(r)]
    is_stack = fields.name in ("vpush", "vpop")
    base = "sp" if is_stack else fields.registers[0]
    words = len(listed) * (2 if listed and listed[0][0] == "d" else 1)
    instruction.kind, instruction.alone = Kind.MULTIPLE, True
    instruction.occupancy = max(1, (words + 1) // 2)
    instruction.sources = (Operand(base, Stage.EX1),)
    if fields.name in _LOADS_MULTIPLE:
        instruction.loads = words
        delay = instruction.occupancy - 1
        instruction.results = tuple(Result(r, Latency.FLOAT_LOAD, delay) for r in listed)
    else:
        instruction.stores = words
        instruction.sources += tuple(Operand(r, Stage.EX4) for r in listed)
    if fields.writes_back or is_stack:
        instruction.results += (Result(base, Latency.ADDRESS),)


def _single(fields: Fields, instruction: Instruction) -> None:
    address_operands(fields, instruction)
    register = fields.registers[0]
    is_double = register[0] == "d"
    instruction.float_use, instruction.alone = FloatUse.MEMORY, is_double
    words = 2 if is_double else 1
    if fields.name == "vldr":
        instruction.kind, instruction.loads = Kind.LOAD, words
        instruction.results += (Result(register, Latency.FLOAT_LOAD),)
    else:
        instruction.kind, instruction.stores = Kind.STORE, words
        instruction.sources += (Operand(register, Stage.EX4),)


def _status(fields: Fields, instruction: Instruction) -> None:
    instruction.kind, instruction.alone = Kind.SYSTEM, True
    if fields.name == "vmsr":
        instruction.occupancy = 3
    elif "apsr" in fields.raw.op_str:
        instruction.results = (Result(FLAGS, Latency.LATE),)
        instruction.sources = (Operand(FLOAT_FLAGS, Stage.EX2),)


def _move(fields: Fields, instruction: Instruction) -> None:
    registers = fields.registers
    instruction.float_use = FloatUse.MOVE
    core = [r for r in registers if not _is_float(r)]
    floating = [r for r in registers if _is_float(r)]
    if not core:
        instruction.results = (Result(floating[0], Latency.FLOAT),)
        instruction.sources = tuple(Operand(r, Stage.EX2) for r in floating[1:])
        return
    to_core = registers[0] in core
    read, written = (floating, core) if to_core else (core, floating)
    latency = Latency.SLOW_LOAD if to_core else Latency.FLOAT
    instruction.results = tuple(Result(r, latency) for r in written)
    instruction.sources = tuple(Operand(r, Stage.EX2) for r in read)
    instruction.alone = len(registers) > 2


def _arithmetic(fields: Fields, instruction: Instruction) -> None:
    name, registers = fields.name, fields.registers
    is_double = "f64" in fields.suffixed
    instruction.float_use = FloatUse.ARITHMETIC
    instruction.sources = tuple(Operand(r, Stage.EX2) for r in registers[1:])
    instruction.results = tuple(Result(r, Latency.FLOAT) for r in registers[:1])
    if name in _BLOCKING:
        instruction.alone = True
        instruction.occupancy = _BLOCKING[name][is_double]
    elif name in _ACCUMULATES:
        instruction.kind = Kind.FLOAT_MAC
        accumulator = Operand(registers[0], Stage.EX2, Use.FLOAT_ACCUMULATOR)
        instruction.sources += (accumulator,)
        instruction.results = (Result(registers[0], Latency.FLOAT_MAC),)
        instruction.occupancy = _DOUBLE_ACCUMULATE if is_double else 1
    elif name == "vmul" and is_double:
        instruction.occupancy = _DOUBLE_MULTIPLY
    if name.startswith("vsel"):
        instruction.sources += (Operand(FLAGS, Stage.EX1),)
