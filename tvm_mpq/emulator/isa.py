"""What the pipeline model knows about one instruction. Rule numbers: docs/cycle_model.md."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

FLAGS = "flags"
FLOAT_FLAGS = "fpflags"


class Stage(IntEnum):
    """The execution stage in which an operand is read."""

    EX1 = 0  # address generation, early ALU, shifter
    EX2 = 1  # late ALU, multiplicands
    EX3 = 2  # accumulator of a multiply
    EX4 = 3  # data of a store


class Kind(Enum):
    """The unit an instruction occupies."""

    ALU = "alu"
    SHIFT = "shift"
    DSP = "dsp"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    LOAD = "load"
    STORE = "store"
    MULTIPLE = "multiple"
    BRANCH = "branch"
    FLOAT = "float"
    FLOAT_MAC = "float mac"
    NONE = "none"
    SYSTEM = "system"


class FloatUse(Enum):
    """Which floating-point port an instruction takes."""

    NONE = 0
    ARITHMETIC = 1
    MOVE = 2
    MEMORY = 3


class Latency(Enum):
    """When a result can be read: (unit, cycles from issue to an EX1 consumer, rule)."""

    EARLY = ("early ALU, shifter, rev", 1, "rule 2")
    ADDRESS = ("address write-back", 1, "rule 2")
    LATE = ("late ALU", 2, "rule 1")
    FAST_LOAD = ("word load", 2, "rule 3")  # one more for a multiplicand
    SLOW_LOAD = ("byte or halfword load", 3, "rule 3")
    MULTIPLY = ("multiply", 3, "rule 4")
    SATURATE = ("saturation", 3, "rule 6")
    FLOAT = ("floating point", 4, "floating point")
    FLOAT_LOAD = ("floating-point load", 2, "floating point")
    FLOAT_MAC = ("floating-point multiply-accumulate", 6, "floating point")

    @property
    def cycles(self) -> int:
        """Cycles from issue to a consumer that reads in EX1; one less for EX2, and so on."""
        return self.value[1]

    def waiting_for(self, register: str) -> str:
        """Reason given for a consumer that had to wait."""
        unit, _, rule = self.value
        return f"{rule}: waits for {register} ({unit})"


class Use(Enum):
    """How an operand is read."""

    PLAIN = 0
    UNFORWARDED = 1  # fast load data comes a cycle later (rule 3)
    FLOAT_ACCUMULATOR = 2  # chained floating-point MACs start two cycles earlier


class Operand(NamedTuple):
    """A register read in ``stage``."""

    register: str
    stage: Stage
    use: Use = Use.PLAIN


class Result(NamedTuple):
    """A register written; ``delay`` cycles later than ``latency`` says (LDM, VLDM)."""

    register: str
    latency: Latency
    delay: int = 0


@dataclass
class Instruction:
    """One decoded instruction.

    Attributes
    ----------
    occupancy: cycles for which it blocks the issue stage.
    alone: never shares its cycle.
    shifts: uses the one inline shifter (rule 7).
    early: may run in the early ALU or shifter (rule 2).
    loads, stores: 32-bit words transferred.
    base, offset: address register and byte offset of a single access; offset None: unknown.
    narrow: byte or halfword store (rule 10).
    conditional: inside an IT block.
    """

    address: int
    size: int
    text: str
    kind: Kind = Kind.ALU
    sources: tuple[Operand, ...] = ()
    results: tuple[Result, ...] = ()
    occupancy: int = 1
    alone: bool = False
    shifts: bool = False
    early: bool = False
    loads: int = 0
    stores: int = 0
    base: str | None = None
    offset: int | None = None
    narrow: bool = False
    conditional: bool = False
    float_use: FloatUse = FloatUse.NONE

    @property
    def words(self) -> int:
        """32-bit words transferred."""
        return self.loads + self.stores

    @property
    def writes(self) -> frozenset[str]:
        """Names of the registers written."""
        return frozenset(result.register for result in self.results)
