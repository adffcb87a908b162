"""The serial port, as a pair of pseudo-terminals with the real firmware at the far end."""

from __future__ import annotations

import os
import pty
import random
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from fake_library import INPUTS, FakeLibrary

from tvm_mpq.errors import BoardFaultError, ToolError
from tvm_mpq.micro import EmulatorTransport, Firmware, SerialTransport, Session, run_session
from tvm_mpq.micro.frames import Frame, FrameType, encode

pytest.importorskip("serial", reason="needs pyserial")
pytestmark = pytest.mark.emu
X = np.random.default_rng(6).integers(0, 256, (3, INPUTS)).astype(np.uint8)
Damage = Callable[[bytes], bytes]


class Line:
    """A pty whose far end is the emulated board; ``damage`` changes what the board sends.

    ``silent`` makes the board deaf and dumb; ``hang_up`` takes the port away.
    """

    def __init__(self, firmware: Firmware, damage: Damage) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self._slave = slave
        self.port = os.ttyname(slave)
        self.silent = False
        self._damage, self._board = damage, EmulatorTransport(firmware.elf)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        os.set_blocking(self._master, False)
        while not self._stop.is_set():
            try:
                data = os.read(self._master, 4096)
            except BlockingIOError:
                time.sleep(0.001)
                continue
            except OSError:
                return
            if self.silent:
                continue
            try:
                self._board.write(self._damage(data), 1)
                while reply := self._board.read(4096, 1):
                    os.write(self._master, self._damage(reply))
            except BoardFaultError:
                return  # the program has ended

    def hang_up(self) -> None:
        self._stop.set()
        self._thread.join(5)
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)
        self._master = self._slave = -1


@pytest.fixture()
def open_line(firmware: Firmware) -> Iterator[Callable[[Damage], Line]]:
    lines: list[Line] = []

    def make(damage: Damage = bytes) -> Line:
        lines.append(Line(firmware, damage))
        return lines[-1]

    yield make
    for line in lines:
        line.hang_up()


def damaging(kind: str, rate: float, seed: int) -> Damage:
    """Drops, flips or repeats ``rate`` of the bytes."""
    source = random.Random(seed)

    def damage(data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            hit = source.random() < rate
            if hit and kind == "dropped":
                continue
            out.append(byte ^ (1 << source.randrange(8)) if hit and kind == "flipped" else byte)
            if hit and kind == "repeated":
                out.append(byte)
        return bytes(out)

    return damage


def test_clean_line(open_line: Callable[..., Line], firmware: Firmware) -> None:
    transport = SerialTransport(open_line().port)
    outputs, _ = run_session(transport, firmware.output, X)
    np.testing.assert_array_equal(outputs, FakeLibrary().reference(X))


@pytest.mark.parametrize("kind", ["dropped", "flipped", "repeated"])
@pytest.mark.parametrize("seed", range(3))
def test_damaged_line_gives_the_right_result_or_an_error(
    open_line: Callable[..., Line], kind: str, seed: int
) -> None:
    transport = SerialTransport(open_line(damaging(kind, 0.005, seed)).port)
    session = Session(transport, reply_timeout=0.05, run_timeout=5, retries=20, start=seed)
    expected = FakeLibrary().reference(X)
    for row, reference in zip(X, expected, strict=True):
        assert session.run(row.tobytes()).data == reference.tobytes()
    transport.close()


def test_a_hopeless_line_is_an_error_and_no_result(open_line: Callable[..., Line]) -> None:
    transport = SerialTransport(open_line(damaging("flipped", 0.5, 1)).port)
    session = Session(transport, reply_timeout=0.02, run_timeout=1, retries=5)
    with pytest.raises(BoardFaultError, match=r"does not answer HELLO \(6 tries"):
        session.run(X[0].tobytes())


def test_a_device_that_never_answers(open_line: Callable[..., Line]) -> None:
    line = open_line()
    line.silent = True
    session = Session(SerialTransport(line.port), reply_timeout=0.05, retries=2)
    with pytest.raises(BoardFaultError, match="does not answer HELLO .3 tries of 0.1 s.: check"):
        session.hello()


def test_a_device_that_stops_answering(open_line: Callable[..., Line]) -> None:
    line = open_line()
    session = Session(SerialTransport(line.port), reply_timeout=0.05, run_timeout=1, retries=2)
    session.run(X[0].tobytes())
    line.silent = True
    with pytest.raises(BoardFaultError, match="does not answer INPUT"):
        session.run(X[1].tobytes())


def test_a_network_that_hangs(open_line: Callable[..., Line]) -> None:
    line = open_line()
    session = Session(SerialTransport(line.port), reply_timeout=0.05, run_timeout=0.5, retries=2)
    session.hello()
    original = session._send_run

    def deaf_run(data: bytes) -> object:
        line.silent = True
        return original(data)

    session._send_run = deaf_run  # type: ignore[method-assign, assignment]
    with pytest.raises(BoardFaultError, match="no result within 0.5 s"):
        session.run(X[0].tobytes())


def test_a_port_that_vanishes(open_line: Callable[..., Line]) -> None:
    line = open_line()
    session = Session(SerialTransport(line.port), reply_timeout=0.05, retries=2)
    session.hello()
    line.hang_up()
    with pytest.raises(BoardFaultError, match="was lost"):
        session.run(X[0].tobytes())


def test_answers_to_an_earlier_session_are_not_believed(
    open_line: Callable[..., Line],
) -> None:
    # HELLO, INPUT and RUN take the numbers 101 to 103, so 103 is right by chance; but it answers
    # for another sample.
    words = struct.pack("<IiII", 100, 0, 0, 0)
    stale = encode(Frame(FrameType.INFO, 100, b"stale" * 8))
    stale += encode(Frame(FrameType.OUTPUT, 103, words + bytes(16)))
    seen = []

    def damage(data: bytes) -> bytes:
        is_result = b"MPQ1\x83" in data
        seen.append(is_result)
        return stale + data if is_result else data

    session = Session(SerialTransport(open_line(damage).port), start=100)
    result = session.run(X[0].tobytes())
    assert result.data == FakeLibrary().reference(X[:1]).tobytes()
    assert any(seen)


def test_no_such_port() -> None:
    with pytest.raises(ToolError, match="serial port /dev/nothing: .*group dialout"):
        SerialTransport("/dev/nothing")
