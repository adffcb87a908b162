"""The serial protocol: whatever happens to the bytes, a wrong result is never returned."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fake_library import INPUTS, FakeLibrary
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_mpq.codegen.archive import ABI_VERSION
from tvm_mpq.errors import BoardFaultError, InvalidValueError
from tvm_mpq.micro import EmulatorTransport, Firmware, Session
from tvm_mpq.micro.frames import MAGIC, Frame, FrameDecoder, FrameType, encode

X = np.random.default_rng(5).integers(0, 256, (2, INPUTS)).astype(np.uint8)


class LossyTransport:
    """Damages bytes in both directions: ``rate`` of them dropped, flipped or repeated."""

    seconds_per_byte = 0.0
    counts = "cycles"

    def __init__(self, inner: EmulatorTransport, rate: float, seed: int, chunk: int = 16) -> None:
        self._inner, self._rate, self._random = inner, rate, random.Random(seed)
        self.chunk_bytes = chunk

    @property
    def is_idle(self) -> bool:
        return self._inner.is_idle

    def read(self, n: int, timeout: float) -> bytes:
        data = self._inner.read(n, timeout)
        # An idle line ends the wait, so damage must not turn a whole reply into nothing.
        return self.damage(data) if data else b""

    def write(self, data: bytes, timeout: float) -> None:
        self._inner.write(self.damage(data), timeout)

    def close(self) -> None:
        self._inner.close()

    def damage(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            kind = self._random.randrange(3) if self._random.random() < self._rate else None
            if kind == 0:
                continue
            out.append(byte ^ (1 << self._random.randrange(8)) if kind == 1 else byte)
            if kind == 2:
                out.append(byte)
        return bytes(out)


@pytest.mark.null
@given(
    frames=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=40))),
    noise=st.binary(max_size=20),
    cut=st.integers(1, 50),
)
@settings(max_examples=100, deadline=None)
def test_decoder_finds_all_frames_in_noise_and_pieces(
    frames: list[tuple[int, int, bytes]], noise: bytes, cut: int
) -> None:
    sent = [Frame(*fields) for fields in frames]
    noise = noise.replace(MAGIC[:1], b"")
    stream = noise + noise.join(encode(frame) for frame in sent) + noise
    decoder = FrameDecoder()
    found = []
    for start in range(0, len(stream), cut):
        found += decoder.feed(stream[start : start + cut])
    assert found == sent


@pytest.mark.null
@given(position=st.integers(0, 27), change=st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_decoder_rejects_every_single_byte_change(position: int, change: int) -> None:
    stream = bytearray(encode(Frame(FrameType.OUTPUT, 3, b"twelve bytes")))
    assert len(stream) == 28
    stream[position] ^= change
    decoder = FrameDecoder()
    assert decoder.feed(bytes(stream)) == []
    follow = Frame(FrameType.ACK, 4)
    decoder.abandon()
    assert decoder.feed(encode(follow)) == [follow]


@pytest.mark.null
def test_a_real_frame_inside_a_damaged_one_is_found() -> None:
    inner = encode(Frame(FrameType.ACK, 9, b"1234"))
    damaged = bytearray(encode(Frame(FrameType.OUTPUT, 3, inner)))
    damaged[-1] ^= 1
    decoder = FrameDecoder()
    assert decoder.feed(bytes(damaged)) == [Frame(FrameType.ACK, 9, b"1234")]
    assert decoder.damaged == 1


@pytest.mark.emu
def test_info_says_what_runs(firmware: Firmware) -> None:
    info = Session(EmulatorTransport(firmware.elf)).hello()
    assert info.model_name == "default"
    assert (info.input_bytes, info.output_bytes) == (INPUTS, 16)
    assert (info.protocol, info.abi, info.workspace_bytes) == (1, ABI_VERSION, 4096)
    assert info.clock_hz == 400_000_000


@pytest.mark.emu
@pytest.mark.parametrize("chunk", [1, 7, 63, 64, 1000])
def test_input_in_chunks_of_any_size(firmware: Firmware, chunk: int) -> None:
    transport = LossyTransport(EmulatorTransport(firmware.elf), 0.0, 0, chunk)
    session = Session(transport)
    for row in X:
        result = session.run(row.tobytes())
        assert (np.frombuffer(result.data, np.int32) == FakeLibrary().reference(row[None])).all()
    session.end()


@pytest.mark.emu
@pytest.mark.parametrize("rate", [0.002, 0.01, 0.03])
def test_damage_is_repaired_or_reported_never_believed(firmware: Firmware, rate: float) -> None:
    expected = [row.tobytes() for row in FakeLibrary().reference(X)]
    repaired = 0
    for seed in range(25):
        transport = LossyTransport(EmulatorTransport(firmware.elf), rate, seed)
        session = Session(transport, reply_timeout=0.05, run_timeout=2, retries=30, start=seed)
        try:
            results = [session.run(row.tobytes()) for row in X]
        except BoardFaultError:
            continue
        assert [result.data for result in results] == expected
        assert all(result.return_code == 0 for result in results)
        repaired += 1
    assert repaired >= 20, "the protocol should get through this much damage most of the time"


def exchange(transport: EmulatorTransport, *requests: bytes) -> list[Frame]:
    decoder, frames = FrameDecoder(), []
    for request in requests:
        transport.write(request, 1)
        while data := transport.read(4096, 1):
            frames += decoder.feed(data)
    return frames


def error_words(frame: Frame) -> tuple[int, int]:
    assert frame.kind == FrameType.ERROR
    code, detail = struct.unpack_from("<II", frame.payload)
    return code, detail


def input_frame(sequence: int, sample: int, offset: int, data: bytes) -> bytes:
    return encode(Frame(FrameType.INPUT, sequence, struct.pack("<II", sample, offset) + data))


def run_frame(sequence: int, sample: int, data: bytes) -> bytes:
    return encode(Frame(FrameType.RUN, sequence, struct.pack("<II", sample, zlib.crc32(data))))


@pytest.mark.emu
@pytest.mark.parametrize(
    ("request_bytes", "error"),
    [
        (encode(Frame(0x33, 5)), (3, 0x33)),
        (encode(Frame(FrameType.HELLO, 5, b"", 9)), (3, 1)),
        (encode(Frame(FrameType.HELLO, 5, b"x")), (2, 1)),
        (encode(Frame(FrameType.RUN, 5, b"1234")), (2, 4)),
        (encode(Frame(FrameType.INPUT, 5, bytes(8))), (2, 8)),
        (encode(Frame(FrameType.INPUT, 5, bytes(8 + INPUTS + 1))), (2, 8 + INPUTS + 1)),
        (encode(Frame(FrameType.HELLO, 5))[:-1] + b"?", (1, 1)),
        (input_frame(5, 1, 8, b"late"), (4, 0)),
        (run_frame(5, 1, b""), (5, 0)),
    ],
    ids=["type", "version", "hello-length", "run-length", "input-empty", "input-long", "crc",
         "offset", "incomplete"],
)  # fmt: skip
def test_device_names_what_is_wrong_and_goes_on(
    firmware: Firmware, request_bytes: bytes, error: tuple[int, int]
) -> None:
    transport = EmulatorTransport(firmware.elf)
    frames = exchange(transport, request_bytes, encode(Frame(FrameType.HELLO, 6)))
    assert frames[0].sequence == 5
    assert error_words(frames[0]) == error
    assert (frames[-1].kind, frames[-1].sequence) == (FrameType.INFO, 6)


@pytest.mark.emu
def test_repeated_requests_are_harmless(firmware: Firmware) -> None:
    first, second = X[0].tobytes(), X[1].tobytes()
    half = INPUTS // 2
    transport = EmulatorTransport(firmware.elf)
    frames = exchange(
        transport,
        input_frame(1, 7, 0, first[:half]),
        input_frame(2, 7, 0, first[:half]),  # the ACK was lost
        input_frame(3, 7, half, first[half:]),
        run_frame(4, 7, first),
        run_frame(5, 7, first),  # the OUTPUT was lost: the same result, not a second run
        input_frame(6, 7, 0, first[:half]),  # a stale copy of the first sample
        input_frame(7, 8, 0, second),
        run_frame(8, 8, second),
    )
    kinds = [(f.kind, f.sequence) for f in frames]
    ack, output = FrameType.ACK, FrameType.OUTPUT
    assert kinds == [(ack, 1), (ack, 2), (ack, 3), (ack, 4), (output, 4), (output, 5), (ack, 6),
                     (ack, 7), (ack, 8), (output, 8)]  # fmt: skip
    assert [struct.unpack("<I", frames[i].payload)[0] for i in (0, 1, 2)] == [half, half, INPUTS]
    outputs = [frame.payload[16:] for frame in frames if frame.kind == output]
    references = [row.tobytes() for row in FakeLibrary().reference(X)]
    assert outputs == [references[0], references[0], references[1]]


@pytest.mark.emu
def test_device_checks_the_whole_input_before_it_runs(firmware: Firmware) -> None:
    transport = EmulatorTransport(firmware.elf)
    data = X[0].tobytes()
    frames = exchange(transport, input_frame(1, 1, 0, data), run_frame(2, 1, data[::-1]))
    assert error_words(frames[1]) == (6, zlib.crc32(data))


@pytest.mark.emu
def test_end_of_program_is_the_end(firmware: Firmware) -> None:
    transport = EmulatorTransport(firmware.elf)
    Session(transport).end()
    with pytest.raises(BoardFaultError, match="has ended"):
        Session(transport).hello()


@pytest.mark.emu
def test_wrong_input_length_is_named(firmware: Firmware) -> None:
    with pytest.raises(InvalidValueError, match="input has 3 bytes; default takes 64"):
        Session(EmulatorTransport(firmware.elf)).run(b"abc")


@pytest.mark.null
def test_frame_types_are_those_of_the_firmware() -> None:
    header = Path(__file__).parents[2] / "microtvm_project/src/protocol.h"
    text = header.read_text()
    for kind in FrameType:
        assert f"FRAME_{kind.name} = 0x{kind:02X}," in text
