"""The C library of one network."""

from __future__ import annotations

from pathlib import Path

MICRO_KERNEL_DIR = Path(__file__).parent.parent / "kernels" / "c"
