"""The micro-kernels that kernels call, as sources."""

from __future__ import annotations

from pathlib import Path

from tvm_mpq.kernels.asm import assembly_sources

MICRO_KERNEL_DIR = Path(__file__).parent / "c"


def micro_kernel_sources() -> dict[str, str]:
    """Headers, portable C and generated assembly of every micro-kernel, by file name.

    The linker drops what a network does not call: each function has a section of its own.
    """
    paths = sorted(MICRO_KERNEL_DIR.glob("*.[ch]"))
    return {path.name: path.read_text() for path in paths} | assembly_sources()
