"""Opening ELF files that may be damaged: the error names the file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tvm_mpq.errors import InvalidValueError, MpqError
from tvm_mpq.files import read_bytes

_MAX_BYTES = 1 << 28
_SYMBOL_BYTES = 16  # of a 32-bit ELF


@contextmanager
def open_elf(path: Path) -> Iterator[ELFFile]:
    """The ELF in ``path``; whatever its reader meets becomes an InvalidValueError."""
    data = read_bytes(path, _MAX_BYTES)
    try:
        elf = ELFFile(io.BytesIO(data))
        _check_tables(path, elf, len(data))
        yield elf
    except MpqError:
        raise
    except Exception as error:  # the reader trusts offsets, names and types
        lines = str(error).strip().splitlines() or [""]
        raise InvalidValueError(
            f"firmware {str(path)!r}: not a readable ELF: {type(error).__name__} {lines[0][:200]};"
            " build it again"
        ) from None


def _check_tables(path: Path, elf: ELFFile, size: int) -> None:
    """Sections that end in the file, so that no table is longer than the file."""
    for section in elf.iter_sections():
        kind, entry = section["sh_type"], section["sh_entsize"]
        ends = section["sh_offset"] + section["sh_size"]
        if kind not in ("SHT_NOBITS", "SHT_NULL") and ends > size:
            raise InvalidValueError(f"firmware {str(path)!r}: cut or damaged; build it again")
        if kind == "SHT_SYMTAB" and entry != _SYMBOL_BYTES:
            raise InvalidValueError(
                f"firmware {str(path)!r}: symbols of {entry} bytes; build it again"
            )
