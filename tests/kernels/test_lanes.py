"""Lanes of UMLAL: packed weights, proven segments, and every zero point on host and emulator."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.emulated import run_emulated
from tests.kernels.harness import (
    TARGET,
    Case,
    build_host,
    conv_spec,
    run_host,
    run_in_bands,
    weighted_case,
)
from tvm_mpq.errors import AccumulatorOverflowError
from tvm_mpq.kernels.lanes import BY_WIDTHS, LANES, Segments, lanes_of, most_segments, segments_of
from tvm_mpq.kernels.pack import pack_icn, pack_weights, unpack_weights
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.quant.icn import IcnParams
from tvm_mpq.specs import TensorSpec

tensor = TensorSpec.of_map
WIDTHS = sorted(BY_WIDTHS)


def layer(
    x_bits: int,
    w_bits: int,
    k: int,
    channels: int,
    size: tuple[int, int],
    zx: int = 0,
    taps: int = 0,
    variant: str = "",
) -> KernelSpec:
    """A layer in the first arrangement of its widths, in one strip of all its rows."""
    height, width = size
    y = tensor(channels, height, width, x_bits, 1)
    spec = KernelSpec(
        "pointwise_conv2d",
        (tensor(k, height, width, x_bits, zx),),
        y,
        w_bits,
        pixels=width,
        rows=height,
        variant=variant or BY_WIDTHS[x_bits, w_bits][0].name,
    )
    whole = spec.padded_reduction
    return KernelSpec(**{**vars(spec), "taps": min(taps, whole) if taps else whole})


def reached(spec: KernelSpec, codes: np.ndarray, found: Segments) -> tuple[int, int]:
    """The lowest and highest value of any lane after a segment, over all inputs."""
    terms = codes.reshape(len(codes), -1).astype(np.int64) - found.centres[:, None]
    low, high = 1 << 40, -(1 << 40)
    for first in range(0, terms.shape[1], found.taps):
        part = terms[:, first : first + found.taps]
        start = found.starts * lanes_of(spec).unit
        low = min(low, int((start + spec.x.max_code * np.minimum(part, 0).sum(axis=1)).min()))
        high = max(high, int((start + spec.x.max_code * np.maximum(part, 0).sum(axis=1)).max()))
    return low, high


@pytest.mark.null
@given(st.sampled_from(WIDTHS), st.integers(1, 600), st.integers(0, 99), st.integers(8, 600))
def test_segments_keep_every_lane(widths: tuple[int, int], k: int, seed: int, taps: int) -> None:
    rng = np.random.default_rng(seed)
    spec = layer(*widths, k, 6, (1, 3), taps=-(-taps // 8) * 8)
    codes = rng.integers(0, 1 << widths[1], (6, k, 1, 1)).astype(np.uint8)
    codes[1], codes[2] = 0, (1 << widths[1]) - 1
    zw = rng.integers(0, 1 << widths[1], 6).astype(np.uint8)
    found = segments_of(spec, codes, zw)
    low, high = reached(spec, codes, found)
    assert low >= 0 and high < 1 << lanes_of(spec).bits
    assert found.taps % 8 == 0 and found.taps * found.count >= spec.padded_reduction
    assert found.taps <= spec.taps or found.count == 1
    assert found.count <= most_segments(spec)  # what scratch has room for
    sums = spec.x.max_code * found.taps * np.array([1 << p for p in lanes_of(spec).x_places])
    assert spec.x.max_code * found.taps < 2**16 if lanes_of(spec).wide_sums else sums.sum() < 2**32
    assert (found.centres[0::2] + found.centres[1::2] > 0).all()


@pytest.mark.null
def test_segments_are_as_long_as_the_weights_allow() -> None:
    """Codes close to their centre need fewer spills than the worst case, 72 taps, would."""
    spec = layer(4, 4, 512, 2, (1, 2))
    far = np.full((2, 512, 1, 1), 0, np.uint8)
    far[:, ::2] = 15
    near = np.full((2, 512, 1, 1), 7, np.uint8)
    near[:, ::2] = 8
    zw = np.array([7, 8], np.uint8)
    assert segments_of(spec, near, zw).count == 1
    assert 4 <= segments_of(spec, far, zw).count <= most_segments(spec) == 8


@pytest.mark.null
def test_no_segment_is_an_error() -> None:
    """The proof of int32 sums names the channel; a lane cannot overflow in 8 taps."""
    spec = layer(8, 2, 64, 2, (1, 2))
    icn = IcnParams(*(np.full(2, v, t) for v, t in ((2**30, np.int32), (-8, np.int8))),
                    np.full(2, 2**31 - 9, np.int32), np.zeros(2, np.uint8))  # fmt: skip
    with pytest.raises(AccumulatorOverflowError, match="channel 0: an int32 partial sum"):
        pack_icn(spec, icn, np.ones((2, 64, 1, 1), np.uint8))


@pytest.mark.null
@given(st.sampled_from(WIDTHS), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_weights_unpack(widths: tuple[int, int], k: int, channels: int, seed: int) -> None:
    spec = layer(*widths, k, channels, (1, 3))
    shape = (channels, k, 1, 1)
    codes = np.random.default_rng(seed).integers(0, 1 << widths[1], shape).astype(np.uint8)
    words = pack_weights(spec, codes)
    assert words.size == spec.weight_words
    assert np.array_equal(unpack_weights(spec, words, shape), codes)


@pytest.mark.null
def test_a_mask_and_a_rotation_give_a_word_q() -> None:
    for lanes in (one for one in LANES if one.w_bits < 8):
        x_bits = next(x for (x, w), every in BY_WIDTHS.items() if lanes in every)
        spec = layer(x_bits, lanes.w_bits, 16, 4, (1, 3), variant=lanes.name)
        codes = np.random.default_rng(1).integers(0, 1 << lanes.w_bits, (4, 16, 1, 1))
        words = pack_weights(spec, codes.astype(np.uint8)).astype(object)
        per_word = 16 // lanes.w_bits
        for k, pair in product(range(16), range(2)):
            turn = 2 * lanes.w_bits * (k % per_word)
            word = words[0, k // per_word * 2 + pair]
            found = (word >> turn | word << (32 - turn)) & lanes.mask
            first, second = (int(codes[2 * pair + j, k, 0, 0]) for j in range(2))
            assert found == first | second << lanes.w_places[1]


ARRANGEMENTS = [(widths, one.name) for widths in WIDTHS for one in BY_WIDTHS[widths]]


def sweep(widths: tuple[int, int], variant: str) -> list[Case]:
    """A channel for each zero point of the weights; tails of taps, channels, pixels and parts."""
    x_bits, w_bits = widths
    cases = []
    channels = (1 << w_bits) + 3
    for seed, (codes, size) in enumerate(
        product(("", "all max", "all zero"), ((4, 1), (3, 7), (2, 14)))
    ):
        k, zx = (41, 72, 130)[seed % 3], (0, (1 << x_bits) - 1, 1)[seed % 3]
        spec = layer(x_bits, w_bits, k, channels, size, zx, (0, 40, 64)[seed // 3], variant)
        zw = (np.arange(channels) + seed) % (1 << w_bits)
        cases.append(weighted_case(spec, seed, codes, zw=zw))
    return cases


@pytest.mark.cc
def test_every_zero_point_on_the_host(tmp_path: Path) -> None:
    cases = [case for arrangement in ARRANGEMENTS for case in sweep(*arrangement)]
    library = build_host([case.spec for case in cases], tmp_path)
    for case in cases:
        assert np.array_equal(run_host(library, case), case.expected), case.spec.symbol
        assert np.array_equal(run_in_bands(library, case, 2), case.expected), case.spec.symbol


@pytest.mark.emu
def test_every_zero_point_on_the_emulator(tmp_path: Path) -> None:
    cases = [case for arrangement in ARRANGEMENTS for case in sweep(*arrangement)]
    for case, actual in zip(cases, run_emulated(cases, tmp_path), strict=True):
        assert np.array_equal(actual, case.expected), case.spec.symbol


@pytest.mark.emu
def test_one_segment_across_parts_of_the_weights(tmp_path: Path) -> None:
    """Lanes that wait in memory while the next weights are expanded; narrow and odd strips."""
    cases = []
    kinds = ((2, 4, "u14w4"), (4, 2, "u15w2"), (2, 2, "u10w2"))
    for seed, (kind, size) in enumerate(product(kinds, ((1, 5), (2, 14)))):
        widths, variant = kind[:2], kind[2]
        spec = layer(*widths, 120, 6, size, 1, 40, variant)
        cases.append(weighted_case(spec, seed, zw=np.full(6, 1 << widths[1] - 1)))
    whole = [c for c in cases if c.icn[-1] == 1]
    assert len(whole) >= 4
    for case, actual in zip(cases, run_emulated(cases, tmp_path), strict=True):
        assert np.array_equal(actual, case.expected), case.spec.symbol


@pytest.mark.null
def test_strips_choose_between_arrangements() -> None:
    """Long sums of 4-bit x and 2-bit weights take wider lanes without spills."""
    short, long = (conv_spec("pointwise_conv2d", tensor(k, 14, 14, 4), 8, 4, 2) for k in (192, 512))
    assert (short.variant, long.variant) == ("u10w2", "u15w2")
    assert all(spec.scratch_bytes <= TARGET.scratch for spec in (short, long))
