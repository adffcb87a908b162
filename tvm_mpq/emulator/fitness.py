"""Does this firmware belong on this chip? Says what is wrong before a cycle has run."""

from __future__ import annotations

from tvm_mpq.emulator.chips import CHIPS, Chip
from tvm_mpq.emulator.image import Image
from tvm_mpq.errors import InvalidValueError

# RM0433 section 2.3: what boards connect, and the model has not.
_EXTERNAL = (
    (0x60000000, 0x80000000, "external memory (FMC)"),
    (0x80000000, 0x90000000, "external NAND or SRAM (FMC)"),
    (0x90000000, 0xA0000000, "external QSPI flash"),
    (0xC0000000, 0xE0000000, "external SDRAM"),
)
_SECTOR = 0x20000


def external_memory(address: int) -> str | None:
    """What a board may have at ``address``; None for the chip's own space."""
    return next((name for start, end, name in _EXTERNAL if start <= address < end), None)


def check_image(image: Image, chip: Chip) -> None:
    """InvalidValueError when ``image`` cannot start on ``chip``."""
    where = f"firmware {str(image.path)!r}"
    for address, data in image.segments:
        if not _holds(chip, address, len(data)):
            raise InvalidValueError(f"{where}: {_misplaced(chip, address, len(data))}")
    stack, entry = image.initial_words()
    if not _is_stack(chip, stack):
        raise InvalidValueError(f"{where}: initial stack pointer {_bad_stack(chip, stack)}")
    if not entry & 1 or not _inside(image, chip, entry & ~1):
        raise InvalidValueError(f"{where}: {_bad_entry(image, entry)}")


def _holds(chip: Chip, address: int, size: int) -> bool:
    spans = [(region.base, region.size) for region in chip.regions]
    spans += [(alias, chip.flash.size) for alias in chip.flash_aliases]
    return any(base <= address and address + size <= base + length for base, length in spans)


def _misplaced(chip: Chip, address: int, size: int) -> str:
    external = external_memory(address)
    if external is not None:
        return (
            f"{size} bytes belong at 0x{address:08x}, {external}, which the model lacks; link the"
            " program into the chip's own memories"
        )
    others = [name for name, other in CHIPS.items() if _holds(other, address, size)]
    fix = f"name --target {others[0]}" if others else "check the address with --base"
    return f"{size} bytes at 0x{address:08x} lie in no memory of {chip.name}; {fix}"


def _is_stack(chip: Chip, stack: int) -> bool:
    top = stack & ~3
    rams = [region for region in chip.regions if region.name not in ("FLASH", "ITCM")]
    return any(ram.base < top <= ram.base + ram.size for ram in rams)


def _bad_stack(chip: Chip, stack: int) -> str:
    external = external_memory(stack)
    if external is not None:
        return f"0x{stack:08x} lies in {external}, which the model lacks"
    others = [name for name, other in CHIPS.items() if _is_stack(other, stack)]
    fix = (
        f"for another chip? Name --target {', '.join(others)}"
        if others
        else "no vector table there: pass --base, or this is no firmware for an STM32"
    )
    return f"0x{stack:08x} lies in no RAM of {chip.name}; {fix}"


def _inside(image: Image, chip: Chip, entry: int) -> bool:
    places = [entry]
    places += [entry - alias + chip.flash.base for alias in chip.flash_aliases]
    return any(image.read(place, 2) for place in places)


def _bad_entry(image: Image, entry: int) -> str:
    spans = ", ".join(f"0x{at:08x}-0x{at + len(data):08x}" for at, data in image.segments)
    if not entry & 1:
        return f"reset vector 0x{entry:08x} is even, so no Thumb code: this is no Cortex-M firmware"
    return (
        f"reset vector 0x{entry & ~1:08x} lies outside the image ({spans}): linked for another"
        f" address? Try --base 0x{entry & -_SECTOR:08x}"
    )
