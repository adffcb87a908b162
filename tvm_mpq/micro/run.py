"""Running firmware on inputs, wherever it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tvm_mpq.errors import BoardFaultError, InvalidValueError
from tvm_mpq.micro.firmware import Firmware
from tvm_mpq.micro.session import Session, Transport
from tvm_mpq.micro.transports import EmulatorTransport


def run_session(
    transport: Transport, firmware: Firmware, inputs: np.ndarray, *, run_timeout: float = 60.0
) -> tuple[np.ndarray, np.ndarray]:
    """Run the network on each row of ``inputs``, then end the program and close the line.

    Parameters
    ----------
    inputs: uint8 [N, ...]; one input's bytes per row, in the order the network takes them.
    run_timeout: seconds that one inference may take.

    Returns
    -------
    outputs: [N, elements] of the output's dtype; cycles: int64 [N], 0 where there is no counter.

    Raises
    ------
    BoardFaultError: the firmware faulted, hung, or its entry point returned an error.
    """
    if inputs.dtype != np.uint8 or inputs.ndim < 2:
        raise InvalidValueError(
            f"inputs are {inputs.dtype} {list(inputs.shape)}; expected uint8 [N, bytes]"
        )
    outputs, cycles = [], []
    try:
        session = Session(transport, run_timeout=run_timeout)
        session.hello()
        for row in inputs.reshape(len(inputs), -1):
            result = session.run(row.tobytes())
            if result.return_code != 0:
                raise BoardFaultError(f"the network's entry point returned {result.return_code}")
            outputs.append(np.frombuffer(result.data, firmware.output.dtype))
            cycles.append(result.cycles)
        session.end()
    finally:
        transport.close()
    shape = (len(outputs), firmware.output.size // np.dtype(firmware.output.dtype).itemsize)
    return np.array(outputs, firmware.output.dtype).reshape(shape), np.array(cycles, np.int64)


def run_on_emulator(
    firmware: Firmware, inputs: np.ndarray, *, timeout: float = 600.0, **board_options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Run on the emulated STM32H743; ``timeout`` is wall-clock seconds per inference.

    See ``run_session``. The cycles are the emulator's model, 0 unless ``cycles=True`` is given.
    """
    transport = EmulatorTransport(Path(firmware.elf), run_timeout=timeout, **board_options)
    return run_session(transport, firmware, inputs, run_timeout=timeout)
