"""What was linked: bytes by section, by memory and by tensor, read from the ELF itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from tvm_mpq.emulator.elf import open_elf
from tvm_mpq.errors import DoesNotFitError
from tvm_mpq.micro.library import TensorInfo
from tvm_mpq.target import MemoryRegion, Target

_SHOWN_SYMBOLS = 6


@dataclass(frozen=True)
class SymbolSize:
    """One object or function of the program: its section and bytes."""

    name: str
    section: str
    size: int


@dataclass(frozen=True)
class Firmware:
    """A linked program and its true sizes, all in bytes.

    Attributes
    ----------
    elf: the file; ``elf.with_suffix(".bin")`` lies beside it.
    target: the chip and the budgets it was linked for.
    sections: every allocated section.
    flash_bytes: sum of the PT_LOAD file sizes in flash: vectors, code, constants, .data's image.
    ram_bytes: arena section + .data + .bss, the figure that the ram budget limits.
    axi_sram_bytes, dtcm_bytes: what lies in these memories; the latter includes the stack.
    arena_bytes: size of the symbol ``tvmgen_<module>_arena``.
    scratch_bytes: the section that holds kernel scratch.
    stack_bytes: reserved for the call stack (the fault handler's 512 bytes not included).
    stack_need_bytes: the most of it that the program can use, by its call graph; see ``stack``.
    symbols: by size, largest first.
    output: name, size and dtype of the output tensor.
    """

    elf: Path
    target: Target
    sections: dict[str, int]
    flash_bytes: int
    ram_bytes: int
    axi_sram_bytes: int
    dtcm_bytes: int
    arena_bytes: int
    scratch_bytes: int
    stack_bytes: int
    stack_need_bytes: int
    symbols: tuple[SymbolSize, ...]
    output: TensorInfo


def read_firmware(
    elf: Path, target: Target, module: str, output: TensorInfo, stack_need: int
) -> Firmware:
    """Measure ``elf``, a program linked by the project's linker script."""
    with open_elf(elf) as image:
        symbols = _symbols_by_size(image)
        values = {
            s.name: s["st_value"] for s in image.get_section_by_name(".symtab").iter_symbols()
        }
        placed = [
            (s.name, s["sh_addr"], s["sh_size"])
            for s in image.iter_sections()
            if s["sh_flags"] & SH_FLAGS.SHF_ALLOC and s["sh_size"]
        ]
        loads = [(s["p_paddr"], s["p_filesz"]) for s in image.iter_segments("PT_LOAD")]
        stack = values["__stack_top"] - values["__stack_limit"]
    by_memory = dict.fromkeys((region.name for region in target.regions), 0)
    for _, address, size in placed:
        by_memory[_memory_of(address, target).name] += size
    sections = {name: size for name, _, size in placed}
    sizes = {symbol.name: symbol.size for symbol in symbols}
    return Firmware(
        elf=elf,
        target=target,
        sections=sections,
        flash_bytes=sum(size for at, size in loads if _memory_of(at, target).name == "FLASH"),
        ram_bytes=sum(sections.get(name, 0) for name in (".tvm_arena", ".data", ".bss")),
        axi_sram_bytes=by_memory["AXI_SRAM"],
        dtcm_bytes=by_memory["DTCM"],
        arena_bytes=sizes.get(f"tvmgen_{module}_arena", 0),
        scratch_bytes=sections.get(".tvm_scratch", 0),
        stack_bytes=stack,
        stack_need_bytes=stack_need,
        symbols=symbols,
        output=output,
    )


def _symbols_by_size(image: ELFFile) -> tuple[SymbolSize, ...]:
    sections = list(image.iter_sections())
    symbols = [
        SymbolSize(s.name, sections[s["st_shndx"]].name, s["st_size"])
        for s in image.get_section_by_name(".symtab").iter_symbols()
        if s["st_size"] and isinstance(s["st_shndx"], int)
    ]
    return tuple(sorted(symbols, key=lambda symbol: (-symbol.size, symbol.name)))


def check_fit(firmware: Firmware) -> None:
    """DoesNotFitError that names every limit exceeded, by section, by tensor and by bytes."""
    target = firmware.target
    flash = [".isr_vector", ".text", ".tvm_constants", ".rodata", ".data"]
    ram = [".tvm_arena", ".data", ".bss"]
    dtcm = [".stack", ".data", ".bss", ".tvm_scratch"]
    # (what, bytes, limit, sections that make it up, what to do)
    limits = [
        ("flash budget", firmware.flash_bytes, target.flash, flash, "flash"),
        ("ram budget", firmware.ram_bytes, target.ram, ram, "ram"),
        ("scratch limit", firmware.scratch_bytes, target.scratch, [".tvm_scratch"], "scratch"),
        ("AXI_SRAM", firmware.axi_sram_bytes, target.region("AXI_SRAM").size, ram[:1], ""),
        ("DTCM", firmware.dtcm_bytes, target.region("DTCM").size, dtcm, ""),
    ]
    complaints = [
        _complaint(firmware, what, size, limit, parts, option)
        for what, size, limit, parts, option in limits
        if size > limit
    ]
    if complaints:
        raise DoesNotFitError(
            f"the network does not fit {target.name}:\n" + "\n".join(complaints),
            flash_bytes=firmware.flash_bytes,
            ram_bytes=firmware.ram_bytes,
        )


def symbol_at(elf: Path, address: int) -> str:
    """``function+0xoffset`` of ``address``, or the address itself where no function is."""
    with open_elf(elf) as image:
        for symbol in image.get_section_by_name(".symtab").iter_symbols():
            start = symbol["st_value"] & ~1
            if symbol["st_info"]["type"] == "STT_FUNC" and 0 <= address - start < symbol["st_size"]:
                return f"{symbol.name}+0x{address - start:x}"
    return f"0x{address:08x}"


def _complaint(
    firmware: Firmware, what: str, size: int, limit: int, parts: list[str], option: str
) -> str:
    sections = ", ".join(
        f"{name} {firmware.sections[name]}" for name in parts if firmware.sections.get(name)
    )
    largest = [symbol for symbol in firmware.symbols if symbol.section in parts]
    tensors = ", ".join(f"{symbol.name} {symbol.size}" for symbol in largest[:_SHOWN_SYMBOLS])
    chip = {"flash": "FLASH", "ram": "AXI_SRAM", "scratch": "DTCM"}.get(option)
    fix = "use fewer bits or a smaller network"
    if chip and size <= firmware.target.region(chip).size:
        given = f"--{option} {size}"
        if option == "scratch":
            given = f'--target "{firmware.target.name} -scratch={size}"'
        fix = f"give {given}, or {fix}"
    return (
        f"  {what}: {size} bytes needed, {limit} allowed, {size - limit} over\n"
        f"    sections: {sections}\n    largest: {tensors}\n    fix: {fix}"
    )


def _memory_of(address: int, target: Target) -> MemoryRegion:
    """The memory that ``address`` belongs to, or would if it were larger (limits lifted)."""
    below = [region for region in target.regions if region.base <= address]
    return max(below, key=lambda region: region.base)
