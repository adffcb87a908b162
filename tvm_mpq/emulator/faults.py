"""What stops a program that misbehaves: one error that names kind, address, pc and source."""

from __future__ import annotations

from tvm_mpq.emulator.fitness import external_memory
from tvm_mpq.emulator.image import Image
from tvm_mpq.errors import BoardFaultError


class CpuFaultError(BoardFaultError):
    """The emulated core faulted.

    Attributes
    ----------
    kind: for example "write to flash", "unmapped read", "stack overflow".
    address: the data address concerned, or None.
    pc: address of the faulting instruction.
    location: ``symbol+offset (file:line)``.
    """

    def __init__(self, kind: str, pc: int, image: Image, address: int | None, caller: int) -> None:
        self.kind, self.pc, self.address = kind, pc, address
        self.location = image.location(pc)
        where = "" if address is None else f" at address 0x{address:08x}"
        called = image.location(caller & ~1)
        external = None if address is None else external_memory(address)
        fix = _FIXES.get(kind, "look at the source line, or run with gdb")
        if external is not None and kind.startswith("unmapped"):
            fix = f"{external} lies there, which the model lacks"
        super().__init__(
            f"{kind}{where}: pc 0x{pc:08x} in {self.location}, called from {called}; {fix}"
        )


_FIXES = {
    "write to flash": "a const object is written, or a pointer is wrong",
    "unmapped read": "the pointer lies in no memory of this chip",
    "unmapped write": "the pointer lies in no memory of this chip",
    "unmapped fetch": "a function pointer or return address is wrong",
    "stack overflow": "enlarge the stack or reduce the locals of the callers",
    "unaligned access": "LDRD, STRD, LDM, STM, PUSH and POP need addresses divisible by 4",
    "call of a null pointer": "a function pointer was never set",
    "jump to an even address": "function pointers need bit 0 set (Thumb)",
    "undefined instruction": "the program ran into data or __builtin_trap, or needs another core",
}
