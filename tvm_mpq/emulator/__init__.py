"""An STM32 on the desk: runs firmware on an emulated Cortex-M7 and models its cycles.

``Board(elf).run(...)`` runs the very file that is flashed. The parts, in the order a run meets
them:

* image, formats, fitness, chips: what is flashed, where it lies, whether it can start there;
* core: the processor on unicorn; guards, faults: the errors it raises;
* bus, usart, registers, core_registers, systick, interrupts, exceptions, idle: the peripherals;
* counter (shim.c or python_counter): which block edges ran, mispredicts, cache misses;
* clocks, timers, memory_stalls: the clock tree and what depends on it;
* decode, isa, rules, pipeline, pricing: the static cost of a block, by numbered rules;
* accuracy: the error to print beside a figure; signals: what interrupts a run;
* profile, annotate: where the cycles went; board: the public face; talk, command: the tool.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tvm_mpq.toolchain import require_packages

if TYPE_CHECKING:
    from tvm_mpq.emulator.board import Board, RunResult
    from tvm_mpq.emulator.faults import CpuFaultError
    from tvm_mpq.emulator.profile import Profile

__all__ = [
    "COMPARABLE_VERSIONS",
    "MODEL_ERROR",
    "MODEL_VERSION",
    "Board",
    "CpuFaultError",
    "Profile",
    "RunResult",
]

# To be printed beside every modelled figure of integer code; accuracy.py has the other cases.
MODEL_ERROR = "modelled, +-3 % on int8 and sub-byte integer code, +-5 % on a layer"
# Goes up with every change of the rules that moves modelled cycles: tuned records depend on it.
MODEL_VERSION = "2"
# Versions whose cycles of one kernel may be held against another's. Version 1 differs by the banks
# of loads and the store buffer, on the STM32H743.
COMPARABLE_VERSIONS = ("1", MODEL_VERSION)

_HOME = {
    "Board": "tvm_mpq.emulator.board",
    "RunResult": "tvm_mpq.emulator.board",
    "CpuFaultError": "tvm_mpq.emulator.faults",
    "Profile": "tvm_mpq.emulator.profile",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tvm_mpq.emulator' has no attribute {name!r}")
    require_packages("emulator")
    return getattr(import_module(_HOME[name]), name)
