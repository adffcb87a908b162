"""Frames of the serial protocol; the device side is ``microtvm_project/src/protocol.h``.

    magic "MPQ1" | type u8 | version u8 | sequence u16 | length u32 | payload | crc u32

Little endian; the CRC-32 (zlib's) covers type to payload.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"MPQ1"
VERSION = 1
_HEADER = struct.Struct("<BBHI")
_CRC = struct.Struct("<I")
OVERHEAD = len(MAGIC) + _HEADER.size + _CRC.size
# No reply is longer than an output tensor; a damaged length must not make the host wait for ever.
MAX_PAYLOAD = 1 << 20


class FrameType(IntEnum):
    """Requests below 0x80, replies above."""

    HELLO = 0x01
    INPUT = 0x02
    RUN = 0x03
    END = 0x04
    INFO = 0x81
    ACK = 0x82
    OUTPUT = 0x83
    ERROR = 0x84
    ENDED = 0x85


class ErrorCode(IntEnum):
    """First word of an ERROR frame: ``enum error_code`` of protocol.h."""

    DAMAGED = 1
    LENGTH = 2
    TYPE = 3
    OFFSET = 4
    INCOMPLETE = 5
    INPUT_CRC = 6
    FAULT = 7
    NO_BUFFER = 8
    BOARD = 9
    INTERRUPT = 10


@dataclass(frozen=True)
class Frame:
    """One checked frame. ``kind`` is a number: the other side may send a type unknown here."""

    kind: int
    sequence: int
    payload: bytes = b""
    version: int = VERSION


def encode(frame: Frame) -> bytes:
    """The frame's bytes on the line."""
    body = _HEADER.pack(frame.kind, frame.version, frame.sequence, len(frame.payload))
    body += frame.payload
    return MAGIC + body + _CRC.pack(zlib.crc32(body))


class FrameDecoder:
    """Finds frames in a stream of bytes, whatever surrounds them.

    A candidate whose CRC is wrong gives up only its first byte, so a real frame that starts inside
    damaged bytes is still found.

    Attributes
    ----------
    damaged: candidates dropped so far.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.damaged = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take ``data`` in; the frames it completes."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def abandon(self) -> None:
        """Drop a frame begun and never finished; called when the line has fallen silent."""
        if self._buffer:
            self.damaged += 1
            self._buffer.clear()

    def _next(self) -> Frame | None:
        while self._find_magic():
            head = len(MAGIC) + _HEADER.size
            if len(self._buffer) < head:
                return None
            kind, version, sequence, length = _HEADER.unpack_from(self._buffer, len(MAGIC))
            if length <= MAX_PAYLOAD:
                end = head + length
                if len(self._buffer) < end + _CRC.size:
                    return None
                body = bytes(self._buffer[len(MAGIC) : end])
                if _CRC.unpack_from(self._buffer, end)[0] == zlib.crc32(body):
                    del self._buffer[: end + _CRC.size]
                    return Frame(kind, sequence, body[_HEADER.size :], version)
            self.damaged += 1
            del self._buffer[0]
        return None

    def _find_magic(self) -> bool:
        start = self._buffer.find(MAGIC)
        if start >= 0:
            del self._buffer[:start]
            return True
        # The last bytes may be the beginning of a magic that is still arriving.
        del self._buffer[: max(0, len(self._buffer) - len(MAGIC) + 1)]
        return False
