"""Packed layouts: the documented bit positions, and unpack as the inverse of pack."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_mpq.kernels.layout import (
    gemm_position,
    pack_dense_weights,
    pack_depthwise_weights,
    pack_gemm_weights,
    pack_lines,
    pack_map,
    unpack_dense_weights,
    unpack_gemm_weights,
    unpack_lines,
    unpack_map,
)
from tvm_mpq.specs import WIDTHS, TensorSpec

pytestmark = pytest.mark.null

widths = st.sampled_from(WIDTHS)


def random_codes(shape: tuple[int, ...], bits: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(np.uint8)


@given(widths, st.integers(1, 4), st.integers(1, 40), st.integers(0, 999))
def test_lines(bits: int, lines: int, count: int, seed: int) -> None:
    codes = random_codes((lines, count), bits, seed)
    words = pack_lines(codes, bits)
    assert words.shape == (lines, -(-count * bits // 32)) and words.dtype == np.uint32
    assert np.array_equal(unpack_lines(words, count, bits), codes)
    for j in range(count):  # code j of a word is bits [j*Q, (j+1)*Q)
        place = j % (32 // bits) * bits
        assert (int(words[0, j * bits // 32]) >> place) & ((1 << bits) - 1) == codes[0, j]


@given(widths, st.tuples(*[st.integers(1, 9)] * 3), st.integers(0, 999))
def test_maps(bits: int, shape: tuple[int, int, int], seed: int) -> None:
    tensor = TensorSpec.of_map(*shape, bits)
    codes = random_codes(shape, bits, seed)
    buffer = pack_map(codes, tensor)
    assert buffer.shape == tensor.buffer[0] and buffer.nbytes == tensor.nbytes
    assert np.array_equal(unpack_map(buffer, tensor), codes)


def test_a_row_of_a_map_is_one_line_per_channel() -> None:
    codes = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)  # C H W
    buffer = pack_map(codes, TensorSpec.of_map(2, 2, 3, 8))
    assert [hex(word) for word in buffer[1].reshape(-1)] == ["0x50403", "0xb0a09"]


def test_pad_codes_do_not_matter() -> None:
    tensor = TensorSpec.of_map(2, 2, 3, 4)
    codes = random_codes((2, 2, 3), 4, 0)
    dirty = pack_map(codes, tensor) | np.uint32(0xFFFFF000)
    assert np.array_equal(unpack_map(dirty, tensor), codes)


def test_the_image_is_interleaved_bytes() -> None:
    image = random_codes((2, 3, 3), 8, 1)
    tensor = TensorSpec(3, 2, 3, 8, 128, "hwc8")
    assert pack_map(image, tensor).tobytes() == image.tobytes()
    assert tensor.nbytes == 18  # no padding


DOCUMENTED = {
    8: [0, 1, 2, 3],
    4: [0, 1, 4, 5, 2, 3, 6, 7],
    2: [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15],
}


@pytest.mark.parametrize("bits", WIDTHS)
def test_gemm_order_is_the_documented_one(bits: int) -> None:
    stored = DOCUMENTED[bits]
    assert [gemm_position(k, bits) for k in stored] == list(range(32 // bits))
    weights = (np.arange(32 // bits) % (1 << bits)).astype(np.uint8)[None]
    word = pack_gemm_weights(weights, bits, 1)[0, 0]
    assert unpack_lines(np.array([word]), 32 // bits, bits).tolist() == [
        weights[0, k] for k in stored
    ]


@pytest.mark.parametrize("bits", [4, 2])
def test_one_mask_gives_the_halfwords_of_uxtb16(bits: int) -> None:
    """(w >> s) & mask holds codes k and k + 2: what UXTB16 of four operand bytes meets."""
    weights = random_codes((1, 32 // bits), bits, 3)
    word = int(pack_gemm_weights(weights, bits, 1)[0, 0])
    mask = ((1 << bits) - 1) * 0x10001
    for group in range(8 // bits):
        for odd in (0, 1):
            halves = (word >> ((2 * group + odd) * bits)) & mask
            k = 4 * group + odd
            assert halves & 0xFFFF == weights[0, k] and halves >> 16 == weights[0, k + 2]


@given(widths, st.integers(1, 5), st.integers(1, 9), st.sampled_from([1, 2, 3]), st.data())
def test_gemm_weights(bits: int, out: int, inputs: int, window: int, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(out, inputs, window, window), (out, inputs)]))
    codes = random_codes(shape, bits, data.draw(st.integers(0, 999)))
    words = pack_gemm_weights(codes, bits, 2)
    assert words.shape[0] == out + out % 2
    assert np.array_equal(unpack_gemm_weights(words, shape, bits), codes)
    if out % 2:
        assert not words[-1].any()  # rows that fill the tile are zero


@given(widths, st.integers(1, 9), st.integers(1, 40), st.integers(0, 999))
def test_dense_weights(bits: int, out: int, inputs: int, seed: int) -> None:
    """Word k of four channels side by side, K padded to whole passes."""
    codes = random_codes((out, inputs), bits, seed)
    words = pack_dense_weights(codes, bits, 4, 16)
    assert words.shape == (-(-out // 4) * -(-inputs // 16) * bits // 2, 4)
    assert np.array_equal(unpack_dense_weights(words, codes.shape, bits), codes)
    line = unpack_lines(words[: words.shape[0] // -(-out // 4), 0], inputs, bits)
    gemm = unpack_lines(pack_gemm_weights(codes, bits, 4)[0], inputs, bits)
    assert np.array_equal(line, gemm)


def test_gemm_lines_run_over_the_window_first() -> None:
    """K order is (ky, kx, c)."""
    codes = np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)  # O I kh kw
    line = unpack_lines(pack_gemm_weights(codes, 8, 1), 8, 8)[0]
    assert line.tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


@given(widths, st.integers(1, 9), st.integers(0, 999))
def test_depthwise_weights_are_one_stream(bits: int, channels: int, seed: int) -> None:
    codes = random_codes((channels, 1, 3, 3), bits, seed)
    words = pack_depthwise_weights(codes, bits)
    assert words.size == -(-channels * 9 * bits // 32)
    assert np.array_equal(unpack_lines(words, codes.size, bits), codes.reshape(-1))
