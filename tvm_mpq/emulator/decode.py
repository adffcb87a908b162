"""Turns machine code into ``Instruction`` records for the pipeline model.

The operands are read from capstone's operand list; its ``regs_access()`` is wrong for UMLAL, SSAT,
PKHBT and UXTAB (capstone 5) and is not used. Rule numbers: docs/cycle_model.md.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import capstone
from capstone import arm_const as arm

from tvm_mpq.emulator.isa import FLAGS, Instruction, Kind, Latency, Operand, Result, Stage, Use

_ALIASES = {"sb": "r9", "sl": "r10", "fp": "r11", "ip": "r12"}
# capstone keeps the names from before unified syntax for three instructions.
_NAMES = {"fconsts": "vmov", "fconstd": "vmov", "fmstat": "vmrs"}
_HALVES = ["".join(pair) for pair in product("bt", repeat=2)]
_PARALLEL = ("add16", "add8", "asx", "sax", "sub16", "sub8")

ACCUMULATES = {
    *("mla", "mls", "smlad", "smladx", "smlsd", "smlsdx", "smmla", "smmlar", "smmls", "smmlsr"),
    *("smlawb", "smlawt"),
    *(f"smla{half}" for half in _HALVES),
}
ACCUMULATES_LONG = {
    *("smlal", "umlal", "umaal", "smlald", "smlaldx", "smlsld", "smlsldx"),
    *(f"smlal{half}" for half in _HALVES),
}
MULTIPLIES_LONG = {"smull", "umull"}
MULTIPLIES = {
    *("mul", "smuad", "smuadx", "smusd", "smusdx", "smmul", "smmulr", "smulwb", "smulwt"),
    *(f"smul{half}" for half in _HALVES),
}
DSP_LATE = {
    *("uxtb", "uxth", "sxtb", "sxth", "uxtb16", "sxtb16", "clz", "sel"),
    *(prefix + name for prefix in ("s", "sh", "u", "uh") for name in _PARALLEL),
}
DSP_SATURATING = {
    *("qadd", "qsub", "usad8"),
    *(prefix + name for prefix in ("q", "uq") for name in _PARALLEL),
}
DSP_EARLY_OPERAND = {"ubfx", "sbfx", "rbit", "rev", "rev16", "revsh"}
DSP_SATURATE_SHIFTED = {"ssat", "usat", "ssat16", "usat16", "qdadd", "qdsub"}
DSP_COMBINE = {
    *("pkhbt", "pkhtb", "uxtab", "uxtah", "sxtab", "sxtah", "uxtab16", "sxtab16"),
}
SHIFTS = {"lsl", "lsr", "asr", "ror", "rrx"}
COMPARES = {"cmp", "cmn", "tst", "teq"}
MOVES = {"mov", "mvn", "movw", "adr", "rrx"}
EARLY_CAPABLE = {"add", "addw", "sub", "subw", "mov", "movw", "adr", "mvn", "rsb"}
BRANCHES = {"b", "bl", "bx", "blx", "cbz", "cbnz"}
SYSTEM = {"dsb", "dmb", "isb", "mrs", "msr", "svc", "bkpt", "cps", "cpsid", "cpsie", "udf"}
NOTHING = {"it", "nop", "wfi", "wfe", "sev", "yield", "hint", "dbg", "pli", "clrex"}
_UNSHIFTED_CONSTANTS = {"movw", "movt", "adr", "addw", "subw"}

# Cycles for which a division or a barrier blocks issue (rule 12; barriers are assumed).
DIVIDE_CYCLES = 8
BARRIER_CYCLES = 3


class Fields:
    """capstone's operands, sorted by kind, with one name per register."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.name: str = _NAMES.get(raw.insn_name(), raw.insn_name())
        self.suffixed: str = raw.mnemonic
        self.operands: list[Any] = raw.operands
        self.registers = [self.register(o.reg) for o in self.operands if o.type == arm.ARM_OP_REG]
        self.memory = next((o.mem for o in self.operands if o.type == arm.ARM_OP_MEM), None)
        self.constants = [o.imm for o in self.operands if o.type == arm.ARM_OP_IMM]
        self.writes_back: bool = raw.writeback
        self.sets_flags: bool = raw.update_flags
        self.conditional = raw.cc not in (arm.ARM_CC_INVALID, arm.ARM_CC_AL)

    def register(self, number: int) -> str:
        """Canonical name: r0..r12, sp, lr, pc, s0.., d0..."""
        name: str = self.raw.reg_name(number)
        return _ALIASES.get(name, name)

    @property
    def has_shift(self) -> bool:
        """An inline-shifted operand, as in ``add r0, r1, r2, lsl #3``."""
        return any(
            o.type == arm.ARM_OP_REG and o.shift.type != arm.ARM_SFT_INVALID and o.shift.value
            for o in self.operands
        )

    def instruction(self) -> Instruction:
        """A record with address, size and text filled in."""
        text = f"{self.suffixed} {self.raw.op_str}".strip()
        return Instruction(self.raw.address, self.raw.size, text)


Decoder = Callable[[Fields, Instruction], None]


def decode_block(code: bytes, address: int) -> list[Instruction]:
    """The instructions of ``code``, a straight run that starts at ``address``."""
    return [_decode(Fields(raw)) for raw in _engine().disasm(code, address)]


def _decode(fields: Fields) -> Instruction:
    instruction = fields.instruction()
    decoder = _decoder_of(fields.name)
    decoder(fields, instruction)
    instruction.conditional = fields.conditional
    if fields.conditional and instruction.kind not in (Kind.BRANCH, Kind.NONE, Kind.SYSTEM):
        # Inside an IT block the flags are one more operand (rule 12).
        instruction.sources += (Operand(FLAGS, Stage.EX2),)
    return instruction


def _decoder_of(name: str) -> Decoder:
    from tvm_mpq.emulator.decode_float import decode_float

    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("v"):
        return decode_float
    if name.startswith(("ldm", "stm")):
        return _multiple
    if name.startswith(("ldr", "str")):
        return _single
    return _plain


def _branch(fields: Fields, instruction: Instruction) -> None:
    instruction.kind = Kind.BRANCH
    instruction.sources = tuple(Operand(r, Stage.EX2) for r in fields.registers[:1])
    if fields.name in ("bl", "blx"):
        instruction.results = (Result("lr", Latency.LATE),)


def _table_branch(fields: Fields, instruction: Instruction) -> None:
    instruction.kind, instruction.alone, instruction.occupancy = Kind.BRANCH, True, 2
    instruction.loads = 1
    index = fields.register(fields.memory.index) if fields.memory else "r0"
    instruction.sources = (Operand(index, Stage.EX1),)


def _system(fields: Fields, instruction: Instruction) -> None:
    instruction.kind, instruction.alone = Kind.SYSTEM, True
    instruction.occupancy = BARRIER_CYCLES
    if fields.name == "mrs":
        instruction.results = (Result(fields.registers[0], Latency.LATE),)


def _nothing(fields: Fields, instruction: Instruction) -> None:
    """IT and NOP take a slot and nothing else (rule 12)."""
    instruction.kind = Kind.NONE


def _multiple(fields: Fields, instruction: Instruction) -> None:
    """LDM, STM, PUSH, POP issue alone, two registers a cycle (rule 9)."""
    is_stack = fields.name in ("push", "pop")
    base = "sp" if is_stack else fields.registers[0]
    listed = fields.registers if is_stack else fields.registers[1:]
    instruction.kind, instruction.alone = Kind.MULTIPLE, True
    instruction.occupancy = (len(listed) + 1) // 2
    instruction.sources = (Operand(base, Stage.EX1),)
    if fields.name == "push" or fields.name.startswith("stm"):
        instruction.stores = len(listed)
        instruction.sources += tuple(Operand(r, Stage.EX4) for r in listed)
    else:
        instruction.loads = len(listed)
        instruction.results = tuple(
            Result(r, Latency.FAST_LOAD, place // 2) for place, r in enumerate(listed) if r != "pc"
        )
    if fields.writes_back or is_stack:
        instruction.results += (Result(base, Latency.ADDRESS),)


def address_operands(fields: Fields, instruction: Instruction) -> None:
    """Sets the address registers, base and offset of a single load or store."""
    memory = fields.memory
    if memory is None:
        return
    base = fields.register(memory.base)
    index = fields.register(memory.index) if memory.index else None
    is_post_indexed = fields.writes_back and bool(fields.constants)
    registers = [r for r in (base, index) if r is not None and r != "pc"]
    instruction.sources += tuple(Operand(r, Stage.EX1) for r in registers)
    instruction.base = base
    if index is None:
        instruction.offset = 0 if is_post_indexed else memory.disp
    if fields.writes_back:
        instruction.results += (Result(base, Latency.ADDRESS),)


def _single(fields: Fields, instruction: Instruction) -> None:
    """LDR and its kin (rule 3), STR (rule 10), LDRD and STRD (rule 9)."""
    name, registers = fields.name, fields.registers
    address_operands(fields, instruction)
    if name in ("ldrd", "strd"):
        instruction.kind, instruction.alone = Kind.MULTIPLE, True
    if name == "ldrd":
        instruction.loads = 2
        instruction.results += tuple(Result(r, Latency.FAST_LOAD) for r in registers[:2])
    elif name == "strd":
        instruction.stores = 2
        instruction.sources += tuple(Operand(r, Stage.EX4) for r in registers[:2])
    elif name.startswith("ldr"):
        instruction.kind, instruction.loads = Kind.LOAD, 1
        latency = Latency.FAST_LOAD if name == "ldr" else Latency.SLOW_LOAD
        if registers[0] != "pc":
            instruction.results += (Result(registers[0], latency),)
    else:
        instruction.kind, instruction.stores = Kind.STORE, 1
        instruction.sources += (Operand(registers[0], Stage.EX4),)
        instruction.narrow = name in ("strb", "strh")


def _preload(fields: Fields, instruction: Instruction) -> None:
    instruction.kind = Kind.LOAD
    address_operands(fields, instruction)


def _multiplicands(*registers: str) -> tuple[Operand, ...]:
    return tuple(Operand(r, Stage.EX2, Use.UNFORWARDED) for r in registers)


def _multiply(fields: Fields, instruction: Instruction) -> None:
    """Result after 2 cycles; the accumulator is read in EX3, so chains run 1 a cycle (rule 4)."""
    name, r = fields.name, fields.registers
    instruction.kind = Kind.MULTIPLY
    destinations = r[:1]
    if name in ACCUMULATES:
        instruction.sources = (*_multiplicands(r[1], r[2]), Operand(r[3], Stage.EX3))
    elif name in ACCUMULATES_LONG:
        destinations = r[:2]
        accumulators = (Operand(r[0], Stage.EX3), Operand(r[1], Stage.EX3))
        instruction.sources = (*_multiplicands(r[2], r[3]), *accumulators)
    elif name in MULTIPLIES_LONG:
        destinations = r[:2]
        instruction.sources = _multiplicands(r[2], r[3])
    else:
        instruction.sources = _multiplicands(*(r[1:] if len(r) > 2 else r))
    instruction.results = tuple(Result(d, Latency.MULTIPLY) for d in destinations)
    if fields.sets_flags:
        instruction.results += (Result(FLAGS, Latency.LATE),)


def _divide(fields: Fields, instruction: Instruction) -> None:
    """SDIV and UDIV block issue (rule 12)."""
    r = fields.registers
    instruction.kind, instruction.alone = Kind.DIVIDE, True
    instruction.occupancy = DIVIDE_CYCLES
    instruction.results = (Result(r[0], Latency.LATE),)
    instruction.sources = tuple(Operand(s, Stage.EX2) for s in (r[1:] if len(r) > 2 else r))


def _dsp_late(fields: Fields, instruction: Instruction) -> None:
    """Extensions and parallel adds: late ALU, older slot only (rule 6)."""
    instruction.kind = Kind.DSP
    latency = Latency.SATURATE if fields.name in DSP_SATURATING else Latency.LATE
    sources = fields.registers[1:] or fields.registers[:1]
    instruction.sources = tuple(Operand(r, Stage.EX2) for r in sources)
    instruction.results = (Result(fields.registers[0], latency),)


def _dsp_accumulate(fields: Fields, instruction: Instruction) -> None:
    r = fields.registers
    instruction.kind = Kind.DSP
    instruction.sources = (
        Operand(r[1], Stage.EX2),
        Operand(r[2], Stage.EX2),
        Operand(r[3], Stage.EX3),
    )
    instruction.results = (Result(r[0], Latency.SATURATE),)


def _dsp_early_operand(fields: Fields, instruction: Instruction) -> None:
    """ubfx, sbfx, rev, rbit read in EX1 and use the shifter (rules 1, 6 and 7)."""
    r = fields.registers
    instruction.kind, instruction.shifts = Kind.DSP, True
    latency = Latency.LATE if fields.name in ("ubfx", "sbfx") else Latency.EARLY
    instruction.sources = (Operand(r[1], Stage.EX1),)
    instruction.results = (Result(r[0], latency),)


def _dsp_saturate(fields: Fields, instruction: Instruction) -> None:
    """ssat and usat read in EX1, result after 2 cycles (rules 1 and 6)."""
    r = fields.registers
    instruction.kind, instruction.shifts = Kind.DSP, True
    instruction.sources = tuple(Operand(s, Stage.EX1) for s in r[1:])
    instruction.results = (Result(r[0], Latency.SATURATE),)


def _bit_field(fields: Fields, instruction: Instruction) -> None:
    """bfi and bfc: the inserted field is read in EX1, the rest in EX2 (rule 1)."""
    r = fields.registers
    instruction.kind, instruction.shifts = Kind.DSP, True
    inserted = (Operand(r[1], Stage.EX1),) if fields.name == "bfi" else ()
    instruction.sources = (Operand(r[0], Stage.EX2, Use.UNFORWARDED), *inserted)
    instruction.results = (Result(r[0], Latency.LATE),)


def _dsp_combine(fields: Fields, instruction: Instruction) -> None:
    """pkh and xta: the second operand goes through the shifter in EX1 (rule 1)."""
    r = fields.registers
    instruction.kind, instruction.shifts = Kind.DSP, True
    first, second = (r[1], r[2]) if len(r) > 2 else (r[0], r[1])
    stage = Stage.EX1 if fields.name == "pkhtb" else Stage.EX2
    instruction.sources = (Operand(first, stage, Use.UNFORWARDED), Operand(second, Stage.EX1))
    instruction.results = (Result(r[0], Latency.LATE),)


def _plain_sources(fields: Fields) -> list[str]:
    name, r = fields.name, fields.registers
    if name in COMPARES:
        return r
    if name in MOVES:
        return r[1:]
    # Two-operand forms read their destination: add r0, #1; add r0, r1; movt r0, #1.
    reads_destination = len(r) == 1 or (len(r) == 2 and not fields.constants)
    return r if reads_destination else r[1:]


def _plain(fields: Fields, instruction: Instruction) -> None:
    """Arithmetic, logic, moves and shifts: late ALU, or early when ready (rules 1, 2 and 7)."""
    name = fields.name
    sources = _plain_sources(fields)
    is_shift = name in SHIFTS
    if fields.has_shift and not is_shift:
        instruction.shifts = True
        late = tuple(Operand(r, Stage.EX2, Use.UNFORWARDED) for r in sources[:-1])
        instruction.sources = (*late, *(Operand(r, Stage.EX1) for r in sources[-1:]))
    else:
        instruction.sources = tuple(Operand(r, Stage.EX2) for r in sources)
        instruction.shifts = not is_shift and _has_shifted_constant(fields)
    if name in ("adc", "sbc"):
        instruction.sources += (Operand(FLAGS, Stage.EX2),)
    instruction.kind = Kind.SHIFT if is_shift else Kind.ALU
    instruction.early = is_shift or (name in EARLY_CAPABLE and not instruction.shifts)
    if name not in COMPARES and fields.registers:
        instruction.results = (Result(fields.registers[0], Latency.LATE),)
    if fields.sets_flags or name in COMPARES:
        instruction.results += (Result(FLAGS, Latency.LATE),)


def _has_shifted_constant(fields: Fields) -> bool:
    if not fields.constants or fields.raw.size == 2 or fields.name in _UNSHIFTED_CONSTANTS:
        return False
    if fields.suffixed.startswith(("addw", "subw")):
        return False
    return not is_simple_constant(fields.constants[-1])


def is_simple_constant(value: int) -> bool:
    """A byte, or one of the byte patterns 00XY00XY, XY00XY00, XYXYXYXY: needs no shifter."""
    value &= 0xFFFFFFFF
    low, high = value & 0xFF, value >> 8 & 0xFF
    patterns = (low, low | low << 16, low * 0x01010101, high << 8 | high << 24)
    return value in patterns


_BY_NAME: dict[str, Decoder] = {
    **dict.fromkeys(BRANCHES, _branch),
    **dict.fromkeys(("tbb", "tbh"), _table_branch),
    **dict.fromkeys(SYSTEM, _system),
    **dict.fromkeys(NOTHING, _nothing),
    **dict.fromkeys(("push", "pop"), _multiple),
    "pld": _preload,
    **dict.fromkeys(ACCUMULATES | ACCUMULATES_LONG | MULTIPLIES_LONG | MULTIPLIES, _multiply),
    **dict.fromkeys(("sdiv", "udiv"), _divide),
    **dict.fromkeys(DSP_LATE | DSP_SATURATING, _dsp_late),
    "usada8": _dsp_accumulate,
    **dict.fromkeys(DSP_EARLY_OPERAND, _dsp_early_operand),
    **dict.fromkeys(DSP_SATURATE_SHIFTED, _dsp_saturate),
    **dict.fromkeys(("bfi", "bfc"), _bit_field),
    **dict.fromkeys(DSP_COMBINE, _dsp_combine),
}

_ENGINES: list[Any] = []


def _engine() -> Any:
    if not _ENGINES:
        engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
        engine.detail = True
        _ENGINES.append(engine)
    return _ENGINES[0]
