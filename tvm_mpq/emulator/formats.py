"""What kind of file firmware is, by its content: ELF, Intel HEX, UF2, or a raw image."""

from __future__ import annotations

import struct

from tvm_mpq.errors import InvalidValueError

Segments = list[tuple[int, bytes]]

ELF_MAGIC = b"\x7fELF"
# github.com/microsoft/uf2: block of 512 bytes, two magic numbers at the start, one at the end.
_UF2_MAGIC, _UF2_MAGIC_2, _UF2_END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_UF2_BLOCK, _UF2_PAYLOAD, _UF2_NOT_FLASH = 512, 476, 1
_DATA, _END, _SEGMENT_BASE, _LINEAR_BASE = 0, 1, 2, 4
_HEX_RECORDS = range(6)


def segments_of(data: bytes, base: int, name: str) -> Segments:
    """(address, bytes) of a file that is no ELF, neighbours joined; ``base``: of a raw image.

    Raises InvalidValueError for a damaged Intel HEX or UF2 file.
    """
    if data[:1] == b":":
        return _joined(_intel_hex(data, name))
    if data[:8] == struct.pack("<II", _UF2_MAGIC, _UF2_MAGIC_2):
        return _joined(_uf2(data, name))
    return [(base, data)]


def _intel_hex(data: bytes, name: str) -> Segments:
    found: Segments = []
    base = 0
    for number, line in enumerate(data.split(), 1):
        kind, address, content = _hex_record(line, f"firmware {name!r}, line {number}")
        if kind == _DATA:
            found.append((base + address, content))
        elif kind == _END:
            return found
        elif kind in (_SEGMENT_BASE, _LINEAR_BASE):
            base = int.from_bytes(content, "big") << (4 if kind == _SEGMENT_BASE else 16)
    raise InvalidValueError(f"firmware {name!r}: Intel HEX without an end record; it is cut short")


def _hex_record(line: bytes, where: str) -> tuple[int, int, bytes]:
    """Type, 16-bit address and content of one line."""
    try:
        record = bytes.fromhex(line[1:].decode("ascii"))
    except ValueError:
        record = b""
    is_whole = line[:1] == b":" and len(record) >= 5 and len(record) == record[0] + 5
    if not is_whole or sum(record) & 0xFF or record[3] not in _HEX_RECORDS:
        raise InvalidValueError(f"{where}: not a record of Intel HEX, or its checksum is wrong")
    return record[3], int.from_bytes(record[1:3], "big"), record[4:-1]


def _uf2(data: bytes, name: str) -> Segments:
    found: Segments = []
    for at in range(0, len(data), _UF2_BLOCK):
        block = data[at : at + _UF2_BLOCK]
        if len(block) < _UF2_BLOCK or block[-4:] != struct.pack("<I", _UF2_END):
            raise InvalidValueError(f"firmware {name!r}: UF2 block {at // _UF2_BLOCK} is damaged")
        _, _, flags, address, size = struct.unpack_from("<5I", block)
        if size > _UF2_PAYLOAD:
            raise InvalidValueError(f"firmware {name!r}: UF2 block of {size} bytes; at most 476")
        if not flags & _UF2_NOT_FLASH:
            found.append((address, block[32 : 32 + size]))
    return found


def _joined(pieces: Segments) -> Segments:
    joined: list[tuple[int, bytearray]] = []
    for address, content in sorted(pieces, key=lambda piece: piece[0]):
        if joined and joined[-1][0] + len(joined[-1][1]) == address:
            joined[-1][1].extend(content)
        else:
            joined.append((address, bytearray(content)))
    return [(address, bytes(content)) for address, content in joined]
