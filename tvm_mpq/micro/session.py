"""One conversation with a board: send an input, run the network, receive output and a count.

Every request is answered, every frame has a CRC, and the device checks a CRC of the whole input
before it runs: a lost or changed byte is a repetition or an error, never a wrong class.
"""

from __future__ import annotations

import secrets
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Protocol

from tvm_mpq.errors import BoardFaultError, InvalidValueError
from tvm_mpq.micro.frames import OVERHEAD, ErrorCode, Frame, FrameDecoder, FrameType, encode

_RETRIED = (ErrorCode.DAMAGED, ErrorCode.LENGTH, ErrorCode.TYPE)
# Errors after which the device has ended, whatever it was asked.
_ENDING = {
    ErrorCode.BOARD: "the board did not start: board.h has the meaning of error",
    ErrorCode.INTERRUPT: "the firmware has no handler for interrupt",
}
_FAULT_WORDS = ("pc", "lr", "CFSR", "HFSR", "fault address", "sp")


class Transport(Protocol):
    """A byte stream to a device.

    Attributes
    ----------
    seconds_per_byte: time one byte takes on the line; 0 when it takes none.
    chunk_bytes: input bytes worth sending in one frame.
    counts: what the device's counter counts: "cycles", "instructions" (an emulator that models no
        cycles) or "nothing".
    is_idle: True when nothing can arrive before something is sent; only an emulator knows that.
    """

    seconds_per_byte: float
    chunk_bytes: int
    counts: str

    @property
    def is_idle(self) -> bool:
        """See above."""

    def read(self, n: int, timeout: float) -> bytes:
        """1..n bytes; b"" after ``timeout`` seconds without one, or at once when ``is_idle``."""

    def write(self, data: bytes, timeout: float) -> None:
        """Send all of ``data``; BoardFaultError when that takes more than ``timeout`` seconds."""

    def close(self) -> None:
        """Release the line; harmless when done twice."""


@dataclass(frozen=True)
class DeviceInfo:
    """What the firmware says of itself; bytes, and ``clock_hz`` 0 where cycles mean nothing."""

    model_name: str
    protocol: int
    abi: int
    input_bytes: int
    output_bytes: int
    workspace_bytes: int
    clock_hz: int


@dataclass(frozen=True)
class RunOutput:
    """One inference: the entry point's return code, the output tensor's bytes, and how many of
    ``counted`` ("cycles", "instructions", "nothing") it took.
    """

    return_code: int
    count: int
    counted: str
    data: bytes


class FirmwareFaultError(BoardFaultError):
    """The core faulted and its fault handler reported; ``pc`` is 0 after a stack overflow."""

    def __init__(self, words: tuple[int, ...], where: str = "") -> None:
        pairs = zip(_FAULT_WORDS, words, strict=True)
        text = ", ".join(f"{name} 0x{word:08x}" for name, word in pairs)
        super().__init__(f"the firmware faulted{where}: {text}")
        self.words = words
        self.pc = words[0]


class _RejectedError(BoardFaultError):
    """The device answered ERROR with ``code``; ``detail`` as in protocol.h."""

    def __init__(self, code: int, detail: int) -> None:
        name = ErrorCode(code).name if code in ErrorCode.__members__.values() else "unknown"
        super().__init__(f"the device rejected the request: error {code} ({name}), detail {detail}")
        self.code, self.detail = code, detail


class Session:
    """Speaks the frame protocol over ``transport``.

    Parameters
    ----------
    reply_timeout: seconds to wait for a reply beyond the time its bytes take on the line.
    run_timeout: seconds that one inference may take.
    retries: how often a request is sent again before the device counts as lost.
    start: first sequence and sample number, for tests that must repeat exactly; else random.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        reply_timeout: float = 1.0,
        run_timeout: float = 60.0,
        retries: int = 8,
        start: int | None = None,
    ) -> None:
        self._transport = transport
        self._reply_timeout = reply_timeout
        self._run_timeout = run_timeout
        self._retries = retries
        self._decoder = FrameDecoder()
        self._arrived: list[Frame] = []
        # Numbers of their own for every session: an answer to an earlier one, still in some buffer,
        # must not pass for an answer to this one.
        self._sequence = secrets.randbelow(1 << 16) if start is None else start
        self._sample = secrets.randbelow(1 << 31) if start is None else start
        self._info: DeviceInfo | None = None

    def hello(self) -> DeviceInfo:
        """Greet the device, make it forget any input, and learn what it runs."""
        payload = self._request(FrameType.HELLO, b"", FrameType.INFO).payload
        if len(payload) < 24:
            raise BoardFaultError(f"device INFO has {len(payload)} bytes, expected at least 24")
        words = struct.unpack_from("<6I", payload)
        self._info = DeviceInfo(payload[24:].decode("utf-8", "replace"), *words)
        return self._info

    def run(self, data: bytes) -> RunOutput:
        """Run the network on one input of ``info.input_bytes`` bytes.

        Raises
        ------
        InvalidValueError: ``data`` has the wrong length.
        BoardFaultError: the device faulted, fell silent or kept rejecting what it was sent.
        """
        info = self._info or self.hello()
        if len(data) != info.input_bytes:
            raise InvalidValueError(
                f"input has {len(data)} bytes; {info.model_name} takes {info.input_bytes}"
            )
        self._sample += 1
        for _ in range(self._retries + 1):
            try:
                self._send_input(data)
                return self._send_run(data)
            except _RejectedError as error:
                if error.code not in (ErrorCode.INPUT_CRC, ErrorCode.INCOMPLETE):
                    raise
                reason = error
        raise BoardFaultError(
            f"device did not get a whole input in {self._retries + 1} tries ({reason});"
            " check the cable, or lower the baud rate"
        )

    def end(self) -> None:
        """Let the program end; a device whose last reply is lost has ended too."""
        for _ in range(3):
            try:
                sequence = self._send(FrameType.END, b"")
                deadline = time.monotonic() + self._patience(0)
                if self._wait({sequence}, (FrameType.ENDED,), deadline) is not None:
                    return
            except BoardFaultError:
                return

    def _send_input(self, data: bytes) -> None:
        offset = 0
        rejections = 0
        # A device that takes rows takes no more than the rest of one; sending more is waste.
        limit, most_taken = self._transport.chunk_bytes, 0
        while offset < len(data):
            chunk = data[offset : offset + limit]
            payload = struct.pack("<II", self._sample, offset) + chunk
            try:
                reply = self._request(FrameType.INPUT, payload, FrameType.ACK)
            except _RejectedError as error:
                rejections += 1
                if error.code != ErrorCode.OFFSET or rejections > self._retries:
                    raise
                offset = min(error.detail, len(data))
                continue
            (received,) = struct.unpack("<I", reply.payload)
            most_taken = max(most_taken, received - offset)
            if received < offset + len(chunk):
                limit = most_taken or limit
            offset = received

    def _send_run(self, data: bytes) -> RunOutput:
        """Run, and ask again while ``run_timeout`` allows: the device keeps its last result."""
        payload = struct.pack("<II", self._sample, zlib.crc32(data))
        deadline = time.monotonic() + self._run_timeout
        asked: set[int] = set()
        while time.monotonic() < deadline:
            asked.add(self._send(FrameType.RUN, payload))
            patience = min(deadline, time.monotonic() + self._patience(len(payload)))
            reply = self._wait(asked, (FrameType.ACK, FrameType.OUTPUT), patience)
            if reply is not None and reply.kind == FrameType.ACK:
                reply = self._wait(asked, (FrameType.OUTPUT,), deadline)
            if reply is not None and len(reply.payload) >= 16:
                sample, code, high, low = struct.unpack_from("<IiII", reply.payload)
                if sample == self._sample:
                    count, counted = high << 32 | low, self._transport.counts
                    return RunOutput(code, count, counted, reply.payload[16:])
        raise BoardFaultError(
            f"no result within {self._run_timeout:g} s ({len(asked)} requests): the network hangs,"
            " is slower than that (give a longer run timeout), or the line is damaged"
        )

    def _request(self, kind: FrameType, payload: bytes, expected: FrameType) -> Frame:
        patience = self._patience(len(payload))
        for _ in range(self._retries + 1):
            sequence = self._send(kind, payload)
            reply = self._wait({sequence}, (expected,), time.monotonic() + patience)
            if reply is not None:
                return reply
        raise BoardFaultError(
            f"device does not answer {kind.name} ({self._retries + 1} tries of {patience:.1f} s):"
            " check that it is powered, flashed with this project, and that the port is its own"
        )

    def _patience(self, length: int) -> float:
        """Seconds to wait for a reply to a payload of ``length`` bytes."""
        line_time = (length + 2 * OVERHEAD) * self._transport.seconds_per_byte
        return self._reply_timeout + 1.5 * line_time

    def _send(self, kind: FrameType, payload: bytes) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFF
        frame = encode(Frame(kind, self._sequence, payload))
        self._transport.write(frame, self._patience(len(payload)))
        return self._sequence

    def _wait(
        self, sequences: set[int], expected: tuple[FrameType, ...], deadline: float
    ) -> Frame | None:
        """A reply to one of ``sequences``; None when it was lost or damaged: ask again."""
        damaged = self._decoder.damaged
        # A frame that stops half-way shows by the silence after it, long before the deadline of a
        # slow network.
        quiet = min(0.3, self._reply_timeout) + 64 * self._transport.seconds_per_byte
        while True:
            while self._arrived:
                frame = self._arrived.pop(0)
                if frame.kind == FrameType.ERROR:
                    if self._is_retried(frame, sequences):
                        return None
                elif frame.sequence in sequences and frame.kind in expected:
                    return frame
            left = deadline - time.monotonic()
            if self._decoder.damaged != damaged or left <= 0:
                return None
            data = self._transport.read(4096, min(left, quiet))
            self._arrived += self._decoder.feed(data)
            if not data:
                self._decoder.abandon()
                if self._transport.is_idle:
                    return None

    def _is_retried(self, frame: Frame, sequences: set[int]) -> bool:
        """Whether the ERROR asks for a repetition; raises when it is about the request itself."""
        if len(frame.payload) < 8:
            return True
        code, detail = struct.unpack_from("<II", frame.payload)
        if code == ErrorCode.FAULT:
            raise FirmwareFaultError(struct.unpack_from("<6I", frame.payload.ljust(32, b"\0"), 8))
        if code in _ENDING:
            raise BoardFaultError(f"{_ENDING[ErrorCode(code)]} {detail}")
        if code in _RETRIED:
            return True
        if frame.sequence in sequences:
            raise _RejectedError(code, detail)
        return False
