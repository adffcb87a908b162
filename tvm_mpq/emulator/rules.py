"""Which two instructions may share a cycle. One function per rule of docs/cycle_model.md.

Each function answers for an older and a younger instruction: a reason why they must not pair, or
None. Sources: LLVM's Cortex-M7 scheduling model, published instruction timings, and our own loops
that were compared with silicon.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm_mpq.emulator.isa import FloatUse, Instruction, Kind

PairingRule = Callable[[Instruction, Instruction], str | None]

# Rule 8: in how many of 1000 executions two loads meet one bank, when nothing is known.
UNKNOWN_BANKS = 500
# Up to this share the two are said always to differ, and from its complement always to be equal.
_RARELY = 50


def issues_alone(older: Instruction, younger: Instruction) -> str | None:
    """Rules 9 and 12: LDRD, LDM, PUSH, divisions and barriers issue alone, as do long ones."""
    if older.alone or younger.alone or older.occupancy > 1 or younger.occupancy > 1:
        return "rule 9: issues alone"
    return None


def one_branch(older: Instruction, younger: Instruction) -> str | None:
    """Rule 11: one branch a cycle."""
    both = older.kind is Kind.BRANCH and younger.kind is Kind.BRANCH
    return "rule 11: second branch" if both else None


def one_store(older: Instruction, younger: Instruction) -> str | None:
    """Rule 8: a load and a store pair, two stores never."""
    return "rule 8: second store" if older.stores and younger.stores else None


def multiply_pairs(older: Instruction, younger: Instruction) -> str | None:
    """Rule 5: a multiply pairs with anything but another multiply or a store."""
    kinds = (older.kind, younger.kind)
    if Kind.MULTIPLY not in kinds:
        return None
    if kinds == (Kind.MULTIPLY, Kind.MULTIPLY):
        return "rule 5: second multiply"
    if older.stores or younger.stores:
        return "rule 5: multiply with a store"
    return None


def dsp_is_older(older: Instruction, younger: Instruction) -> str | None:
    """Rule 6: DSP and bit-field instructions use the older slot only, so one a cycle."""
    return "rule 6: DSP class in the younger slot" if younger.kind is Kind.DSP else None


def one_shifter(older: Instruction, younger: Instruction) -> str | None:
    """Rule 7: at most one inline-shifted operand or shifted constant a cycle."""
    return "rule 7: second shifted operand" if older.shifts and younger.shifts else None


def load_banks(older: Instruction, younger: Instruction) -> str | None:
    """Rule 8: two loads pair only when bit 2 of their addresses differs."""
    if not (older.loads and younger.loads) or not _same_base(older, younger):
        return None
    assert older.offset is not None and younger.offset is not None
    if (older.offset ^ younger.offset) & 4:
        return None
    return "rule 8: second load from the same bank"


def float_ports(older: Instruction, younger: Instruction) -> str | None:
    """One arithmetic and one move a cycle, and a floating-point MAC pairs with neither."""
    uses = (older.float_use, younger.float_use)
    if FloatUse.NONE in uses:
        return None
    if Kind.FLOAT_MAC in (older.kind, younger.kind):
        return "floating point: multiply-accumulate"
    if uses[0] is uses[1] and uses[0] is not FloatUse.MEMORY:
        return "floating point: second of one kind"
    return None


PAIRING_RULES: tuple[PairingRule, ...] = (
    issues_alone,
    one_branch,
    one_store,
    multiply_pairs,
    dsp_is_older,
    one_shifter,
    load_banks,
    float_ports,
)


def why_not_paired(older: Instruction, younger: Instruction) -> str | None:
    """The first rule that keeps ``younger`` out of the cycle of ``older``; None when they pair."""
    for rule in PAIRING_RULES:
        reason = rule(older, younger)
        if reason is not None:
            return reason
    return None


def banks_undecided(older: Instruction, younger: Instruction) -> bool:
    """Rule 8: whether only the addresses tell if two loads meet one bank."""
    return bool(older.loads and younger.loads and not _same_base(older, younger))


def usually_one_bank(older: Instruction, younger: Instruction, same: int) -> str | None:
    """Rule 8: two loads that nearly always meet one bank do not pair.

    ``same``: in how many of 1000 executions bit 2 of both addresses was equal. DTCM and D-cache
    have even and odd word banks alike (published measurements on an STM32H743).
    """
    if banks_undecided(older, younger) and same >= 1000 - _RARELY:
        return "rule 8: second load from the same bank"
    return None


def bank_cost(older: Instruction, younger: Instruction, same: int) -> int:
    """Rule 8: milli-cycles that two paired loads cost where they meet one bank now and then."""
    return same if banks_undecided(older, younger) and same > _RARELY else 0


def _same_base(older: Instruction, younger: Instruction) -> bool:
    known = older.offset is not None and younger.offset is not None
    return known and older.base == younger.base and younger.base not in older.writes
