"""An STM32 on the desk: runs firmware on an emulated Cortex-M7 and models its cycles.

``Board(elf).run(...)`` runs the very file that is flashed. The parts, in the order a run meets
them: image (what is flashed), chips (memories), bus, usart, registers and core_registers
(peripherals), guards and faults (errors), counter with shim.c (what ran, how often), board.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tvm_mpq.errors import ToolError

if TYPE_CHECKING:
    from tvm_mpq.emulator.board import Board, RunResult
    from tvm_mpq.emulator.faults import CpuFaultError

__all__ = ["Board", "CpuFaultError", "RunResult"]

_HOME = {
    "Board": "tvm_mpq.emulator.board",
    "RunResult": "tvm_mpq.emulator.board",
    "CpuFaultError": "tvm_mpq.emulator.faults",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tvm_mpq.emulator' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in ("unicorn", "capstone"):
            raise
        raise ToolError(
            f"the emulator needs the package {error.name!r}: pip install tvm_mpq[emulator]"
        ) from error
