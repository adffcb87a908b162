"""Byte streams to a device: the emulated board, a serial port, a program's pipes."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvm_mpq.errors import BoardFaultError, ToolError

BAUD = 115200


class TransportEndedError(BoardFaultError):
    """The other end is gone: the program ended, the port vanished, the process exited."""


class TransportTimeoutError(BoardFaultError):
    """Not everything could be written in time."""


class EmulatorTransport:
    """The serial line of an emulated board; the board runs while somebody reads.

    Parameters
    ----------
    elf: the program.
    run_timeout: seconds of wall-clock time between two waits for input.
    is_patient: a read lets the program run on until it waits for input, however long its timeout;
        otherwise the timeout counts, and the next read goes on.
    make_board: makes the board from the ELF's path; ``tvm_mpq.emulator.Board`` when not given.
    """

    seconds_per_byte = 0.0
    chunk_bytes = 1 << 30
    counts = "instructions"

    def __init__(
        self,
        elf: Path,
        *,
        run_timeout: float = 600.0,
        is_patient: bool = True,
        make_board: Callable[[Path], Any] | None = None,
        **run_options: bool,
    ) -> None:
        self.board = (make_board or _emulated_board)(elf)
        self._run_timeout = run_timeout
        self._is_patient = is_patient
        self._is_running = True  # it has not yet come to wait for input
        self._run_options = run_options
        if run_options.get("cycles"):
            self.counts = "cycles"
        self._to_board = bytearray()
        self._from_board = bytearray()
        self._ended = False

    @property
    def is_idle(self) -> bool:
        """The program waits for input or has ended, and what it sent is read."""
        return not self._from_board and not self._is_running

    def read(self, n: int, timeout: float) -> bytes:
        """What the board has printed; it first runs on until it waits for more input."""
        if not self._from_board and self._is_running:
            self._run(self._run_timeout if self._is_patient else timeout)
        if self._ended and not self._from_board:
            raise TransportEndedError("the program on the emulated board has ended")
        data = bytes(self._from_board[:n])
        del self._from_board[:n]
        return data

    def write(self, data: bytes, timeout: float) -> None:
        """Queue ``data``; the board receives it with the next read."""
        del timeout
        if self._ended:
            raise TransportEndedError("the program on the emulated board has ended; open it again")
        self._to_board += data
        self._is_running = True

    def close(self) -> None:
        """Give the board's memory back; its counts and profiles stay."""
        self._ended, self._is_running = True, False
        self.board.close()

    def _run(self, seconds: float) -> None:
        result = self.board.run(
            uart_in=bytes(self._to_board), timeout_seconds=seconds, **self._run_options
        )
        self._to_board.clear()
        self._from_board += result.uart
        reason = result.stopped_by
        self._is_running = reason == "time limit"
        self._ended = self._ended or reason == "end of program"
        if self._is_running and self._is_patient:
            raise BoardFaultError(
                f"the emulated program ran {seconds:g} s without waiting for input: it hangs, or"
                " give a longer timeout"
            )
        if reason not in ("time limit", "end of program", "waiting for input"):
            raise BoardFaultError(f"the emulated board stopped: {reason}")


class SerialTransport:
    """A serial port, for example ``/dev/ttyACM0``; pyserial does the work."""

    seconds_per_byte = 10 / BAUD
    chunk_bytes = 1024
    counts = "cycles"
    is_idle = False

    def __init__(self, port: str, baud: int = BAUD) -> None:
        import serial

        self.seconds_per_byte = 10 / baud
        self._errors = (serial.SerialException, OSError)
        self._too_slow = serial.SerialTimeoutException
        try:
            self._port = serial.Serial(port, baud, timeout=0, write_timeout=0)
            self._port.reset_input_buffer()
        except self._errors as error:
            raise ToolError(
                f"serial port {port}: {error}; check the cable, and that your user may open it"
                " (Debian: group dialout)"
            ) from None
        self._name = port

    def read(self, n: int, timeout: float) -> bytes:
        """See ``session.Transport``."""
        try:
            self._port.timeout = timeout
            first = self._port.read(1)
            rest = self._port.read(min(n - 1, self._port.in_waiting)) if first else b""
            return bytes(first + rest)
        except self._errors as error:
            raise TransportEndedError(f"serial port {self._name} was lost: {error}") from None

    def write(self, data: bytes, timeout: float) -> None:
        """See ``session.Transport``."""
        try:
            self._port.write_timeout = timeout
            self._port.write(data)
        except self._too_slow:
            raise TransportTimeoutError(
                f"serial port {self._name} took no data for {timeout:g} s; reset the board"
            ) from None
        except self._errors as error:
            raise TransportEndedError(f"serial port {self._name} was lost: {error}") from None

    def close(self) -> None:
        """Close the port."""
        self._port.close()


class PipeTransport:
    """Standard input and output of a child process, for example qemu's serial line."""

    seconds_per_byte = 0.0
    chunk_bytes = 1024
    counts = "nothing"
    is_idle = False

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)

    def read(self, n: int, timeout: float) -> bytes:
        """See ``session.Transport``."""
        if not select.select([self._out], [], [], timeout)[0]:
            return b""
        data = os.read(self._out, n)
        if not data:
            raise TransportEndedError(f"{self._process.args!r} ended: {self._complaint()}")
        return data

    def write(self, data: bytes, timeout: float) -> None:
        """See ``session.Transport``."""
        deadline = time.monotonic() + timeout
        view = memoryview(data)
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [self._in], [], left)[1]:
                raise TransportTimeoutError(
                    f"{self._process.args!r} took no input for {timeout:g} s"
                )
            try:
                view = view[os.write(self._in, view) :]
            except BrokenPipeError:
                raise TransportEndedError(
                    f"{self._process.args!r} ended: {self._complaint()}"
                ) from None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _complaint(self) -> str:
        _, stderr = self._process.communicate(timeout=5)
        return stderr.decode(errors="replace").strip() or f"status {self._process.returncode}"


def _emulated_board(elf: Path) -> Any:
    from tvm_mpq.emulator import Board

    return Board(elf, target="stm32h743")
