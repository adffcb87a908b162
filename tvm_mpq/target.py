"""What the program is compiled for: memories, budgets, toolchain."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tvm_mpq.errors import InvalidValueError

# "MB" is 1000 x 1024 bytes: the published "2 MB / 512 kB" means 2,048,000 / 512,000.
_UNITS = {"": 1, "B": 1, "kB": 1000, "KB": 1000, "KiB": 1024, "MB": 1000 * 1024, "MiB": 1024 * 1024}


def parse_bytes(size: int | str) -> int:
    """Bytes of ``2048000``, ``"2MB"``, ``"512kB"``, ``"1.5MiB"`` (kB = 1000, MB = 1000 x 1024)."""
    if isinstance(size, int) and not isinstance(size, bool):
        value = float(size)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
        if match is None or match[2] not in _UNITS:
            raise InvalidValueError(
                f"size {size!r}: expected a number and one of {', '.join(u for u in _UNITS if u)};"
                " for example 2MB or 512kB"
            )
        value = float(match[1]) * _UNITS[match[2]]
    if value <= 0 or value != int(value):
        raise InvalidValueError(f"size {size!r}: expected a positive whole number of bytes")
    return int(value)


@dataclass(frozen=True)
class MemoryRegion:
    """One memory of the chip. ``stall`` is the cost of a 32-byte cache-line miss in cycles."""

    name: str
    base: int
    size: int
    stall: int = 0


@dataclass(frozen=True)
class _Chip:
    core: str
    clock_mhz: int
    regions: tuple[MemoryRegion, ...]


# STM32H743ZI: RM0433 section 2.3 (memory map); stalls measured at 400 MHz.
_H743 = _Chip(
    "cortex-m7",
    400,
    (
        MemoryRegion("FLASH", 0x08000000, 2048 * 1024, 10),
        MemoryRegion("ITCM", 0x00000000, 64 * 1024),
        MemoryRegion("DTCM", 0x20000000, 128 * 1024),
        MemoryRegion("AXI_SRAM", 0x24000000, 512 * 1024, 6),
        MemoryRegion("SRAM_D2", 0x30000000, 288 * 1024, 6),
        MemoryRegion("SRAM_D3", 0x38000000, 64 * 1024, 6),
    ),
)
_CHIPS = {"stm32h7": _H743, "host": _Chip("host", 0, ())}
_UNLIMITED = 1 << 62


@dataclass(frozen=True, init=False)
class Target:
    """A chip and the budgets the network must keep.

    ``Target("stm32h7", flash="2MB", ram="512kB")`` or ``Target("stm32h7 -flash=2MB -ram=512kB")``.
    ``Target("host")`` has no memory limits and builds no firmware: for accuracy experiments.

    Attributes
    ----------
    flash, ram: budgets in bytes; flash is every byte of the image, ram is arena + .data + .bss.
    scratch, stack: limits in DTCM, in bytes (kernel operand buffers and the call stack).

    Raises
    ------
    InvalidValueError: unknown chip or option, or a budget above what the chip has.
    """

    name: str
    core: str
    clock_mhz: int
    regions: tuple[MemoryRegion, ...]
    flash: int
    ram: int
    scratch: int
    stack: int

    def __init__(
        self,
        name: str,
        *,
        flash: int | str | None = None,
        ram: int | str | None = None,
        scratch: int | str = 32 * 1024,
        stack: int | str = 8 * 1024,
    ) -> None:
        chip_name, options = _split_options(name)
        given = {"flash": flash, "ram": ram, "scratch": scratch, "stack": stack} | options
        chip = _CHIPS.get(chip_name)
        if chip is None:
            raise InvalidValueError(
                f"target {chip_name!r}: no such chip; known are {', '.join(sorted(_CHIPS))}"
            )
        sizes = {region.name: region.size for region in chip.regions}
        values = {
            "name": chip_name,
            "core": chip.core,
            "clock_mhz": chip.clock_mhz,
            "regions": chip.regions,
            "flash": _budget(chip_name, "flash", given["flash"], sizes.get("FLASH")),
            "ram": _budget(chip_name, "ram", given["ram"], sizes.get("AXI_SRAM")),
            "scratch": _budget(chip_name, "scratch", given["scratch"], sizes.get("DTCM")),
            "stack": _budget(chip_name, "stack", given["stack"], sizes.get("DTCM")),
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)

    @property
    def is_host(self) -> bool:
        """True for the host pseudo-target, which has no firmware."""
        return self.core == "host"

    def region(self, name: str) -> MemoryRegion:
        """The memory region called ``name``."""
        for region in self.regions:
            if region.name == name:
                return region
        known = ", ".join(region.name for region in self.regions)
        raise InvalidValueError(f"target {self.name}: no memory {name!r}; known are {known}")


def as_target(target: Target | str) -> Target:
    """``target`` itself, or the target its string describes."""
    return target if isinstance(target, Target) else Target(target)


def _split_options(text: str) -> tuple[str, dict[str, int | str | None]]:
    words = text.split()
    if not words:
        raise InvalidValueError("target '': expected a chip name, for example stm32h7")
    options: dict[str, int | str | None] = {}
    for word in words[1:]:
        match = re.fullmatch(r"--?(flash|ram|scratch|stack)=(\S+)", word)
        if match is None:
            raise InvalidValueError(
                f"target option {word!r}: expected -flash=, -ram=, -scratch= or -stack= and a size"
            )
        options[match[1]] = match[2]
    return words[0], options


def _budget(chip: str, field: str, size: int | str | None, physical: int | None) -> int:
    if physical is None:
        return _UNLIMITED
    if size is None:
        return physical
    value = parse_bytes(size)
    if value > physical:
        raise InvalidValueError(
            f"target {chip}: {field} budget {size} is {value} bytes, but the chip has {physical};"
            f" give at most {physical}"
        )
    return value
