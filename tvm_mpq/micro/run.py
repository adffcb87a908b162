"""Running firmware on inputs, wherever it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tvm_mpq.errors import BoardFaultError, InvalidValueError
from tvm_mpq.micro.firmware import Firmware, symbol_at
from tvm_mpq.micro.library import TensorInfo
from tvm_mpq.micro.project import Project
from tvm_mpq.micro.session import FirmwareFaultError, Session, Transport
from tvm_mpq.micro.transports import EmulatorTransport, PipeTransport
from tvm_mpq.toolchain import require_tool


def run_session(
    transport: Transport,
    output: TensorInfo,
    inputs: np.ndarray,
    *,
    run_timeout: float = 60.0,
    elf: Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Run the network on each row of ``inputs``, then end the program and close the line.

    Parameters
    ----------
    inputs: uint8 [N, ...]; one input's bytes per row, in the order the network takes them.
    run_timeout: seconds that one inference may take.
    elf: the program, so that a fault can name its function.

    Returns
    -------
    outputs: [N, elements] of the output's dtype; counts: int64 [N], of what ``transport.counts``
    says: cycles, instructions, or nothing, when they are 0.

    Raises
    ------
    BoardFaultError: the firmware faulted, hung, or its entry point returned an error.
    """
    if inputs.dtype != np.uint8 or inputs.ndim < 2:
        raise InvalidValueError(
            f"inputs are {inputs.dtype} {list(inputs.shape)}; expected uint8 [N, bytes]"
        )
    outputs, counts = [], []
    try:
        session = Session(transport, run_timeout=run_timeout)
        session.hello()
        for row in inputs.reshape(len(inputs), -1):
            result = session.run(row.tobytes())
            if result.return_code != 0:
                raise BoardFaultError(f"the network's entry point returned {result.return_code}")
            outputs.append(np.frombuffer(result.data, output.dtype))
            counts.append(result.count)
        session.end()
    except FirmwareFaultError as error:
        if elf is None:
            raise
        where = f" in {symbol_at(elf, error.pc)}" if error.pc else ", probably by a stack overflow"
        raise FirmwareFaultError(error.words, where) from None
    finally:
        transport.close()
    shape = (len(outputs), output.size // np.dtype(output.dtype).itemsize)
    return np.array(outputs, output.dtype).reshape(shape), np.array(counts, np.int64)


def run_on_emulator(
    firmware: Firmware, inputs: np.ndarray, *, timeout: float = 600.0, **board_options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Run on the emulated STM32H743; ``timeout`` is wall-clock seconds per inference.

    See ``run_session``. With ``cycles=True`` the counts are the modelled cycles (+-3 % on int8
    networks), without they are instructions.
    """
    transport = EmulatorTransport(Path(firmware.elf), run_timeout=timeout, **board_options)
    return run_session(transport, firmware.output, inputs, run_timeout=timeout, elf=firmware.elf)


def run_on_qemu(
    project: Project, inputs: np.ndarray, *, timeout: float = 60.0
) -> tuple[np.ndarray, np.ndarray]:
    """Run the project's sources on qemu's Cortex-M7 (mps2-an500); see ``run_session``.

    A second opinion on results and faults that shares no code with the emulated STM32; all counts
    are 0. ToolError when qemu-system-arm is missing.
    """
    require_tool("qemu-system-arm")
    elf = project.build_for_qemu()
    command = ["qemu-system-arm", "-M", "mps2-an500", "-nodefaults", "-display", "none"]
    command += ["-no-reboot", "-serial", "stdio", "-kernel", str(elf)]
    transport = PipeTransport(command)
    return run_session(transport, project.library.output, inputs, run_timeout=timeout, elf=elf)
