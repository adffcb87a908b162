"""From a generated library to a program that runs: projects, firmware, sessions with a board.

``generate_project(library, folder, target)`` -> ``Project``; ``.build()`` -> ``Firmware``;
``run_on_emulator(firmware, inputs)`` -> outputs and counts. Files, in that order: library
(Model Library Format), project (template + library), firmware
(bytes by section and tensor), frames and session (serial protocol), transports, run, board (the
real Nucleo: flash, port).
"""

from __future__ import annotations

from tvm_mpq.micro.board import find_port, flash, run_on_board
from tvm_mpq.micro.firmware import Firmware, SymbolSize
from tvm_mpq.micro.project import Project, generate_project
from tvm_mpq.micro.run import run_on_emulator, run_on_qemu, run_session
from tvm_mpq.micro.session import DeviceInfo, FirmwareFaultError, RunOutput, Session, Transport
from tvm_mpq.micro.transports import EmulatorTransport, PipeTransport, SerialTransport

__all__ = [
    "DeviceInfo",
    "EmulatorTransport",
    "Firmware",
    "FirmwareFaultError",
    "PipeTransport",
    "Project",
    "RunOutput",
    "SerialTransport",
    "Session",
    "SymbolSize",
    "Transport",
    "find_port",
    "flash",
    "generate_project",
    "run_on_board",
    "run_on_emulator",
    "run_on_qemu",
    "run_session",
]
