"""The Model Library Format archive: names, versions, packing."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tvm_mpq.errors import InvalidValueError

FORMAT_VERSION = 7
# What microtvm_project/src/main.c is written against; the compiler compares it with the header's.
ABI_VERSION = 2


def unpack_library(archive: Path, folder: Path) -> None:
    """Extract the Model Library Format tar ``archive`` into ``folder``."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise InvalidValueError(f"{archive}: not a readable tar archive ({error})") from None


def pack_library(folder: Path, archive: Path) -> None:
    """Write ``folder`` as an uncompressed tar with "./" names and neutral owners."""

    def neutral(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = "root"
        return member

    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                tar.add(path, f"./{path.relative_to(folder).as_posix()}", filter=neutral)
