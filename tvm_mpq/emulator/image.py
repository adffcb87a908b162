"""Reads what would be flashed: ELF files by physical address, other files by vector table."""

from __future__ import annotations

import struct
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tvm_mpq.emulator.elf import open_elf
from tvm_mpq.emulator.formats import ELF_MAGIC, segments_of
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import read_bytes

_ARMV7E_M = 13


@dataclass(frozen=True)
class Symbol:
    """A named address; ``address`` has the Thumb bit cleared, ``size`` is in bytes (0: unknown)."""

    name: str
    address: int
    size: int
    is_function: bool
    is_global: bool = False


class Image:
    """A program: bytes at physical addresses, vector table, symbols and source lines.

    Attributes
    ----------
    segments: (physical address, bytes) in file order.
    vectors: address of the vector table.
    symbols: by name. functions: all of them, by address; several may share a name or an address.
    code: (start, end) address ranges that hold instructions, not literals; empty when unknown.
    runs_from: (start, end) address ranges used while running; empty when unknown.
    """

    def __init__(
        self,
        path: Path,
        segments: list[tuple[int, bytes]],
        vectors: int,
        symbols: list[Symbol] | None = None,
        code: list[tuple[int, int]] | None = None,
        runs_from: list[tuple[int, int]] | None = None,
    ) -> None:
        self.path = path
        self.segments = segments
        self.vectors = vectors
        self.symbols: dict[str, Symbol] = {}
        for symbol in symbols or []:
            # Files may have statics of one name: the first, or the global one, has the name.
            if symbol.name not in self.symbols or symbol.is_global:
                self.symbols[symbol.name] = symbol
        self.code = code or []
        self.runs_from = runs_from or []
        named = [symbol for symbol in symbols or [] if symbol.is_function]
        self.functions = sorted(named, key=lambda s: (s.address, s.size, s.is_global, s.name))
        self._starts = [function.address for function in self.functions]
        self._lines: list[tuple[int, str, int]] | None = None

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes of the file that will lie at ``address``; empty when the file has none."""
        for start, data in self.segments:
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        return b""

    def initial_words(self) -> tuple[int, int]:
        """The first two words of the vector table: stack pointer and reset vector."""
        stack, entry = struct.unpack("<II", self.read(self.vectors, 8))
        return stack, entry

    def reset_vector(self) -> tuple[int, int]:
        """Initial stack pointer and entry point (Thumb bit cleared), from the vector table."""
        stack, entry = self.initial_words()
        return stack, entry & ~1

    def function_at(self, pc: int) -> Symbol | None:
        """The function that holds ``pc``, or None."""
        index = bisect_right(self._starts, pc) - 1
        if index < 0:
            return None
        function = self.functions[index]
        inside = pc < function.address + function.size or function.size == 0
        return function if inside else None

    def location(self, pc: int) -> str:
        """``symbol+0x12 (file.c:34)`` for a fault message; a plain "?" where nothing is known."""
        function = self.function_at(pc)
        name = "?" if function is None else f"{function.name}+0x{pc - function.address:x}"
        line = self.source_line(pc)
        return name if line is None else f"{name} ({line})"

    def source_line(self, pc: int) -> str | None:
        """``file:line`` of an instruction from DWARF; None without debug information."""
        if self._lines is None:
            self._lines = _line_table(self.path)
        index = bisect_right(self._lines, (pc, "\U0010ffff", 0)) - 1
        if index < 0 or not self._lines[index][1]:
            return None
        return f"{self._lines[index][1]}:{self._lines[index][2]}"


def load_image(path: Path, base: int) -> Image:
    """Reads ``path``: ELF, Intel HEX, UF2 or raw, by content.

    ``base`` is where a raw image starts, and where the vectors of other files are sought first.

    Raises
    ------
    InvalidValueError: no such file, not for a 32-bit Arm, or no vector table.
    """
    if not path.is_file():
        raise InvalidValueError(f"firmware {str(path)!r}: no such file; build it first")
    data = read_bytes(path)
    if data[:4] == ELF_MAGIC:
        image = _elf_image(path, base)
    else:
        segments = segments_of(data, base, str(path))
        image = Image(path, segments, _vectors(segments, base))
    if len(image.read(image.vectors, 8)) < 8:
        raise InvalidValueError(
            f"firmware {str(path)!r}: no vector table at 0x{image.vectors:08x};"
            " pass base= with the address the image is flashed to"
        )
    return image


def _elf_image(path: Path, base: int) -> Image:
    with open_elf(path) as elf:
        if elf["e_machine"] != "EM_ARM":
            raise InvalidValueError(
                f"firmware {str(path)!r}: machine {elf['e_machine']}, expected EM_ARM;"
                " link it with arm-none-eabi-gcc"
            )
        segments = [
            (segment["p_paddr"], segment.data())
            for segment in elf.iter_segments("PT_LOAD")
            if segment["p_filesz"]
        ]
        runs_from = [
            (segment["p_vaddr"], segment["p_vaddr"] + segment["p_memsz"])
            for segment in elf.iter_segments("PT_LOAD")
        ]
        _check_architecture(path, elf)
        section = elf.get_section_by_name(".isr_vector")
        vectors = _vectors(segments, base) if section is None else section["sh_addr"]
        symbols, code = _symbols(elf)
    return Image(path, segments, vectors, symbols, code, runs_from)


def _vectors(segments: list[tuple[int, bytes]], base: int) -> int:
    """Address of the vector table: ``base``, or where the lowest segment starts."""
    if any(start <= base < start + len(data) for start, data in segments) or not segments:
        return base
    return min(start for start, _ in segments)


def _check_architecture(path: Path, elf: ELFFile) -> None:
    """Build attributes (ARM IHI 0045, Tag_CPU_arch): what a Cortex-M7 executes, and no more."""
    section = elf.get_section_by_name(".ARM.attributes")
    if section is None:
        return
    tags = {
        attribute.tag: attribute.value
        for part in section.iter_subsections()
        for scope in part.iter_subsubsections()
        for attribute in scope.iter_attributes()
    }
    architecture, profile = tags.get("TAG_CPU_ARCH", 0), tags.get("TAG_CPU_ARCH_PROFILE", 0)
    if profile in (ord("A"), ord("R")) or architecture > _ARMV7E_M:
        core = tags.get("TAG_CPU_NAME") or f"Tag_CPU_arch {architecture}"
        raise InvalidValueError(
            f"firmware {str(path)!r}: built for another core (Arm {core}); the chips here have a"
            " Cortex-M7: build with -mcpu=cortex-m7"
        )


def _symbols(elf: ELFFile) -> tuple[list[Symbol], list[tuple[int, int]]]:
    table = elf.get_section_by_name(".symtab")
    symbols: list[Symbol] = []
    marks: list[tuple[int, str]] = []
    if table is None:
        return symbols, []
    for entry in table.iter_symbols():
        kind, name, value = entry["st_info"]["type"], entry.name, entry["st_value"]
        if name[:2] in ("$t", "$d"):
            marks.append((value, name[1]))
        elif name and kind in ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE"):
            is_function = kind == "STT_FUNC"
            address = value & ~1 if is_function else value
            is_global = entry["st_info"]["bind"] == "STB_GLOBAL"
            symbols.append(Symbol(name, address, entry["st_size"], is_function, is_global))
    return symbols, _code_ranges(elf, sorted(set(marks)))


def _code_ranges(elf: ELFFile, marks: list[tuple[int, str]]) -> list[tuple[int, int]]:
    """Instruction ranges by the mapping symbols $t and $d (AAELF32 section 5.5.5)."""
    ranges = []
    for section in elf.iter_sections():
        if not section["sh_flags"] & 4 or section["sh_type"] != "SHT_PROGBITS":
            continue
        start, end = section["sh_addr"], section["sh_addr"] + section["sh_size"]
        inside = [mark for mark in marks if start <= mark[0] < end]
        for (address, kind), (after, _) in zip(inside, [*inside[1:], (end, "")], strict=True):
            if kind == "t" and after > address:
                ranges.append((address, after))
    return ranges


def _line_table(path: Path) -> list[tuple[int, str, int]]:
    """Sorted (address, file name, line); an empty name ends a sequence."""
    rows: list[tuple[int, str, int]] = []
    if read_bytes(path)[:4] != ELF_MAGIC:
        return rows
    # A message about a fault is worth more than its line numbers.
    with suppress(InvalidValueError), open_elf(path) as elf:
        if not elf.has_dwarf_info():
            return rows
        dwarf = elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            # DWARF 5 numbers files from 0, earlier versions from 1.
            first = 0 if program["version"] >= 5 else 1
            names = [entry.name.decode(errors="replace") for entry in program["file_entry"]]
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                index = state.file - first
                known = not state.end_sequence and 0 <= index < len(names)
                rows.append((state.address, names[index] if known else "", state.line))
    return sorted(rows)
