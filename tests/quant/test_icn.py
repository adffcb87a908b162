"""ICN against exact rational arithmetic: what a layer's real numbers say, to the last code."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_mpq.errors import AccumulatorOverflowError, InvalidValueError
from tvm_mpq.quant.icn import (
    MAX_SHIFT,
    IcnParams,
    RealLayer,
    decompose,
    icn_params,
    logits_icn_params,
    phi_bounds,
    requantize,
    requantize_logits,
)

pytestmark = pytest.mark.null

INT32 = 2**31
mantissas = st.integers(2**30, 2**31 - 1).flatmap(lambda m: st.sampled_from([m, -m]))
sums = st.integers(-INT32 + 1, INT32 - 1) | st.sampled_from([0, 1, -1, INT32 - 1, 1 - INT32])


def params(m0: int, n0: int, bq: int = 0) -> IcnParams:
    """ICN integers of one channel; ``n0`` as icn_params stores it."""
    one = np.array
    return IcnParams(one([m0], np.int32), one([n0], np.int8), one([bq], np.int32), one([0], "u1"))


def one_channel(
    g: float, h: float, codes: list[int], zw: int = 3, sw: float = 0.01, offset: float = 0.0
) -> RealLayer:
    weights = np.array([codes], np.uint8)
    one = np.array
    return RealLayer("conv", weights, one([zw], "u1"), one([sw]), one([g]), one([h]), offset)


def exact_output(layer: RealLayer, x: np.ndarray, sx: float, zx: int) -> Fraction:
    """g * (w * x) + h of channel 0 as a rational number."""
    weights = [int(c) - int(layer.zw[0]) for c in layer.codes[0]]
    total = Fraction(0)
    for code, weight in zip(x, weights, strict=True):
        real = Fraction(sx) * (int(code) - zx) + Fraction(layer.x_offset)
        total += real * weight * Fraction(float(layer.sw[0]))
    return Fraction(float(layer.g[0])) * total + Fraction(float(layer.h[0]))


@given(mantissas, st.integers(-200, 200), sums, st.integers(0, 255), st.sampled_from([2, 4, 8]))
def test_epilogue_is_exact_for_every_exponent(
    m0: int, n0: int, acc: int, zy: int, bits: int
) -> None:
    """Exponents beyond MAX_CODE_EXPONENT and shifts beyond MAX_SHIFT change no code."""
    zy %= 1 << bits
    exact = zy + floor(Fraction(m0) * Fraction(2) ** (n0 - 31) * acc)
    stored = int(np.clip(min(n0, 9), -128, 127))
    actual = requantize(np.array([acc]), params(m0, stored), zy, bits)
    assert actual[0] == min(max(exact, 0), (1 << bits) - 1)


def test_one_exponent_less_would_not_saturate() -> None:
    """MAX_CODE_EXPONENT is the smallest that is safe: with 8, 255 is not always reached."""
    smallest = np.array([1])
    assert requantize(smallest, params(2**30, 9), 0, 8)[0] == 255
    assert requantize(smallest, params(2**30, 8), 0, 8)[0] == 128


@given(mantissas, st.integers(-128, 31), sums)
def test_shift_is_capped_without_a_difference(m0: int, n0: int, acc: int) -> None:
    icn = params(m0, n0)
    assert 0 <= int(icn.shift[0]) <= MAX_SHIFT
    assert (m0 * acc) >> int(icn.shift[0]) == (m0 * acc) >> (31 - n0)


@given(st.floats(2.0**-120, 2.0**120, allow_nan=False), st.booleans())
def test_decompose_rounds_to_31_bits(magnitude: float, negative: bool) -> None:
    multiplier = -magnitude if negative else magnitude
    m0, n0 = decompose(np.array([multiplier]))
    assert 2**30 <= abs(int(m0[0])) < 2**31
    assert (m0[0] < 0) == negative
    value = Fraction(int(m0[0]), 2**31) * Fraction(2) ** int(n0[0])
    assert abs(value / Fraction(multiplier) - 1) <= Fraction(1, 2**31)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_m0_that_rounds_up_to_two_to_the_31(sign: float) -> None:
    m0, n0 = decompose(np.array([sign * np.nextafter(1.0, 0.0)]))
    assert (int(m0[0]), int(n0[0])) == (int(sign) * 2**30, 1)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_decompose_refuses_what_has_no_mantissa(bad: float) -> None:
    with pytest.raises(InvalidValueError, match="expected finite non-zero"):
        decompose(np.array([1.0, bad]))


@given(st.floats(2.0**-40, 2.0**8), st.booleans())
def test_multipliers_of_16_bits(value: float, negative: bool) -> None:
    """The low half is 0, the form is normal, and the rounding is to the nearest of 16 bits."""
    multiplier = np.array([-value if negative else value])
    m0, n0 = decompose(multiplier, 16)
    assert m0[0] & 0xFFFF == 0 and 2**30 <= abs(int(m0[0])) < 2**31
    found = Fraction(int(m0[0])) * Fraction(2) ** (int(n0[0]) - 31)
    unit = Fraction(2) ** (int(n0[0]) - 15)
    assert abs(found - Fraction(float(multiplier[0]))) <= unit / 2


def test_multipliers_of_other_widths() -> None:
    assert decompose(np.array([1 - 2.0**-20]), 16)[0].tolist() == [2**30]  # rounds up to 1
    with pytest.raises(InvalidValueError, match="multiplier: 8 bits; allowed are 32 and 16"):
        decompose(np.array([0.5]), 8)


gammas = st.floats(1e-4, 50.0).flatmap(lambda g: st.sampled_from([g, -g]))
offsets = st.floats(-20.0, 20.0)
code_lists = st.lists(st.integers(0, 15), min_size=1, max_size=12)


@settings(max_examples=300)
@given(gammas, offsets, code_lists, st.integers(0, 15), st.floats(1e-3, 0.5), st.data())
def test_layer_against_rationals(
    g: float, h: float, codes: list[int], zw: int, sy: float, data: st.DataObject
) -> None:
    """Y differs from the ideal only where Bq's rounding moves a value across a whole number."""
    rounding = data.draw(st.sampled_from(["nearest", "floor"]))
    zx, zy = data.draw(st.integers(0, 255)), data.draw(st.integers(0, 15))
    offset = data.draw(st.sampled_from([0.0, 1 / 255]))
    x = np.array(data.draw(st.lists(st.integers(0, 255), min_size=len(codes), max_size=len(codes))))
    layer, sx = one_channel(g, h, codes, zw, offset=offset), 2 / 255
    icn, kept = icn_params(layer, sx, zx, 8, sy, zy, 4, rounding)
    phi = ((x - zx) * (kept[0].astype(np.int64) - zw)).sum(keepdims=True)
    actual = int(requantize(phi, icn, zy, 4)[0])
    ideal = exact_output(layer, x, sx, zx) / Fraction(sy)
    ideal += Fraction(1, 2) if rounding == "nearest" else 0
    step = Fraction(abs(sx * 0.01 * g / sy))
    slack = step * Fraction(51, 100) + abs(ideal) * Fraction(1, 2**30) + Fraction(1, 10**9)
    low, high = (min(max(zy + floor(ideal + s), 0), 15) for s in (-slack, slack))
    assert low <= actual <= high


@pytest.mark.parametrize("rounding", ["nearest", "floor"])
@pytest.mark.parametrize("g", [0.0, 1e-300, -1e-200, 1e-30, -1e-14, 1e-11])
@pytest.mark.parametrize("h", [0.0, 0.74, -0.6, 3.3, 1e6, -1e6])
@pytest.mark.parametrize("bits", [32, 16])
def test_dead_channels_are_the_right_constant(g: float, h: float, rounding: str, bits: int) -> None:
    """gamma ~ 0: Bq would not fit int32, and the output is h whatever the input."""
    layer, sy, zy = one_channel(g, h, [0, 15, 7]), 0.5, 3
    icn, codes = icn_params(layer, 0.02, 0, 8, sy, zy, 4, rounding, bits)
    level = h / sy + (0.5 if rounding == "nearest" else 0.0)
    expected = {int(np.clip(zy + floor(level + e), 0, 15)) for e in (-1e-6, 1e-6)}
    for x in ([0, 0, 0], [255, 0, 255], [0, 255, 0]):
        phi = (np.array(x) * (codes[0].astype(np.int64) - 3)).sum(keepdims=True)
        assert int(requantize(phi, icn, zy, 4)[0]) in expected
    assert abs(int(icn.bq[0])) < 2**31


def test_a_dead_channel_leaves_its_neighbours_alone() -> None:
    codes = np.array([[1, 2], [3, 4]], np.uint8)
    zw, g, h = np.array([1, 1], np.uint8), np.array([0.0, 1.0]), np.array([1.0, 0.0])
    layer = RealLayer("conv", codes, zw, np.array([0.1, 0.1]), g, h)
    icn, kept = icn_params(layer, 0.1, 0, 8, 0.5, 0, 8, "floor")
    assert kept.tolist() == [[1, 1], [3, 4]] and codes[0].tolist() == [1, 2]
    phi = ((kept.astype(np.int64) - 1) * np.array([10, 20])).sum(axis=1)
    assert requantize(phi, icn, 0, 8).tolist() == [2, floor(80 * 0.01 / 0.5)]


def test_overflow_names_the_layer_and_the_channel() -> None:
    layer = one_channel(1e-3, 1e6, [15] * 100, sw=1e-3)
    with pytest.raises(AccumulatorOverflowError, match="layer conv, output channel 0.*2\\*\\*31"):
        icn_params(layer, 0.01, 0, 8, 1e-6, 0, 8, "floor")


def test_the_accumulator_bound_is_reached() -> None:
    """The bound is not merely safe: some input attains it."""
    codes, zw = np.array([[0, 255, 30]], np.uint8), np.array([30], np.uint8)
    bound = int(phi_bounds(codes, zw, 100, 255)[0])
    centred = codes[0].astype(np.int64) - 30
    worst = (np.where(centred > 0, 155, 155) * np.abs(centred)).sum()
    assert bound == worst == 155 * (30 + 225)


def test_unknown_rounding() -> None:
    with pytest.raises(InvalidValueError, match="'up'.*nearest and floor"):
        icn_params(one_channel(1.0, 0.0, [1]), 0.1, 0, 8, 0.1, 0, 8, "up")


def test_nearest_is_half_a_code_above_floor() -> None:
    layer = one_channel(1.0, 0.0, [4], zw=3, sw=1.0)  # w = 1
    outputs = {}
    for rounding in ("floor", "nearest"):
        icn, _ = icn_params(layer, 0.01, 0, 8, 0.1, 0, 8, rounding)
        outputs[rounding] = [int(requantize(np.array([x]), icn, 0, 8)[0]) for x in (4, 6, 14, 16)]
    assert outputs == {"floor": [0, 0, 1, 1], "nearest": [0, 1, 1, 2]}


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0.5, 50.0), offsets), min_size=1, max_size=4),
    st.integers(1, 30),
    st.floats(0.01, 10.0),
    st.integers(0, 2**32 - 1),
    st.sampled_from([32, 16]),
)
def test_logits_scale_is_the_smallest_power_of_two(
    channels: list[tuple[float, float]], taps: int, sx: float, seed: int, bits: int
) -> None:
    rng = np.random.default_rng(seed)
    count = len(channels)
    codes = rng.integers(0, 256, (count, taps)).astype(np.uint8)
    zw, sw = rng.integers(0, 256, count).astype(np.uint8), rng.uniform(1e-4, 0.1, count)
    g, h = (np.array(values) for values in zip(*channels, strict=True))
    layer = RealLayer("fc", codes, zw, sw, g, h)
    icn, kept, scale = logits_icn_params(layer, sx, 0, 8, bits)
    assert np.frexp(scale)[0] == 0.5  # a power of two
    real = np.abs(g * sw * sx) * (phi_bounds(kept, zw, 0, 255) + np.abs(icn.bq) + 1)
    assert real.max() / scale < INT32
    assert real.max() / (scale / 2) > INT32 * (1 - (2.0**-18 if bits == 32 else 2.0**-13))
    centred = kept.astype(np.int64) - zw[:, None]
    for positive in (True, False):
        phi = np.where((centred > 0) == positive, centred, 0).sum(axis=1) * 255
        m0, bq = icn.m0.astype(object), icn.bq.astype(object)
        exact = [
            floor(Fraction(int(m * (p + b))) * Fraction(2) ** (int(n) - 31))
            for m, p, b, n in zip(m0, phi.astype(object), bq, icn.n0, strict=True)
        ]
        assert requantize_logits(phi, icn).tolist() == exact  # no wrap, no clamp


def test_logits_of_dead_channels() -> None:
    codes = np.array([[1], [9]], np.uint8)
    zw, sw = np.zeros(2, np.uint8), np.ones(2)
    layer = RealLayer("fc", codes, zw, sw, np.array([0.0, 1.0]), np.array([-2.5, 0.0]))
    icn, kept, scale = logits_icn_params(layer, 0.1, 0, 8)
    phi = kept.astype(np.int64).sum(axis=1) * 200
    assert np.allclose(requantize_logits(phi, icn) * scale, [-2.5, 180.0], atol=4 * scale)


def test_logits_that_are_all_zero() -> None:
    layer = RealLayer(
        "fc", np.ones((1, 1), "u1"), np.zeros(1, "u1"), np.ones(1), np.zeros(1), np.zeros(1)
    )
    icn, _, scale = logits_icn_params(layer, 0.1, 0, 8)
    assert scale > 0 and requantize_logits(np.array([0]), icn).tolist() == [0]
