"""Ranges, means, codes of weights, and what rounded weights do to the mean of an output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tvm_mpq.errors import CalibrationError, InvalidValueError
from tvm_mpq.quant.calibration import (
    RunningHistogram,
    RunningMean,
    rounding_shift,
    weight_codes,
)
from tvm_mpq.specs import WIDTHS

pytestmark = pytest.mark.null

finite = st.floats(-100, 100, width=32)
matrices = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 20)), elements=finite
)
widths = st.sampled_from(WIDTHS)
methods = st.sampled_from(["mse", "max"])


def error_of(weights: np.ndarray, bits: int, method: str) -> np.ndarray:
    """Squared error per channel."""
    codes, zero, scale = weight_codes(weights, bits, method)
    back = (codes.astype(np.float64) - zero[:, None]) * scale[:, None]
    return ((back - weights) ** 2).sum(axis=1)


@given(matrices, widths, methods)
def test_codes_fit_their_storage(weights: np.ndarray, bits: int, method: str) -> None:
    codes, zero, scale = weight_codes(weights, bits, method)
    assert codes.shape == weights.shape and codes.dtype == zero.dtype == np.uint8
    assert codes.max() < 1 << bits and zero.max() < 1 << bits
    assert (scale > 0).all()


@given(matrices, widths)
def test_range_holds_zero_and_every_weight(weights: np.ndarray, bits: int) -> None:
    """Real 0 is a code, and with extreme ranges no weight is further off than one step."""
    codes, zero, scale = weight_codes(weights, bits, "max")
    back = (codes.astype(np.float64) - zero[:, None]) * scale[:, None]
    assert (np.abs(back - weights) <= scale[:, None] * 1.0001).all()
    assert (codes[weights == 0] == np.broadcast_to(zero[:, None], codes.shape)[weights == 0]).all()


@settings(max_examples=60)
@given(matrices, widths)
def test_mse_is_never_worse_than_the_extremes(weights: np.ndarray, bits: int) -> None:
    assert (error_of(weights, bits, "mse") <= error_of(weights, bits, "max") * (1 + 1e-9)).all()


def test_mse_is_better_with_an_outlier() -> None:
    weights = np.concatenate([np.linspace(-1, 1, 2000), [3.0]]).astype(np.float32)[None]
    assert error_of(weights, 4, "mse")[0] < 0.8 * error_of(weights, 4, "max")[0]


def test_eight_bits_always_span_the_extremes() -> None:
    weights = np.concatenate([np.linspace(-1, 1, 2000), [3.0]]).astype(np.float32)[None]
    assert weight_codes(weights, 8, "mse")[2] == weight_codes(weights, 8, "max")[2]


@pytest.mark.parametrize("bits", WIDTHS)
def test_symmetric_range_has_no_extra_code(bits: int) -> None:
    """Half-even rounding of both ends of [-a, a] would give 2**bits + 1 codes."""
    steps = (1 << bits) - 1
    weights = (np.linspace(-0.5, 0.5, 2 * steps + 1) * steps).astype(np.float32)[None]
    codes, _, _ = weight_codes(weights, bits, "max")
    assert codes.min() == 0 and codes.max() == steps


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("method", ["mse", "max"])
def test_constant_channels(bits: int, method: str) -> None:
    """Zeros get S = 1 and codes Zw = 0; another constant has a scale and is met exactly."""
    weights = np.array([[0.0, 0.0], [0.3, 0.3], [-2.0, -2.0]], np.float32)
    codes, zero, scale = weight_codes(weights, bits, method)
    assert codes[0].tolist() == [0, 0] and zero[0] == 0 and scale[0] == 1.0
    back = (codes.astype(np.float64) - zero[:, None]) * scale[:, None]
    assert np.allclose(back, weights, rtol=1e-6)


def test_a_channel_all_of_one_sign_still_holds_zero() -> None:
    codes, zero, scale = weight_codes(np.array([[3.0, 4.0], [-3.0, -4.0]], np.float32), 8, "max")
    assert zero.tolist() == [0, 255] and np.allclose(scale, 4 / 255)
    assert codes.tolist() == [[191, 255], [64, 0]]


@settings(max_examples=50)
@given(st.lists(matrices, min_size=1, max_size=4))
def test_a_stream_equals_its_concatenation(batches: list[np.ndarray]) -> None:
    """The limit's doubling merges bins exactly: order and batches do not matter."""
    stream, whole = RunningHistogram(), RunningHistogram()
    for batch in batches:
        stream.update(batch)
    whole.update(np.concatenate([batch.reshape(-1) for batch in batches]))
    assert stream._limit == whole._limit
    assert stream._counts.tolist() == whole._counts.tolist()
    assert stream._counts.sum() == sum(batch.size for batch in batches)
    for method in ("mse", "max"):
        assert stream.ranges(method) == whole.ranges(method)


def test_ranges_hold_zero_and_shrink_with_the_width() -> None:
    histogram = RunningHistogram()
    histogram.update(np.random.default_rng(0).normal(1.0, 2.0, 5000).astype(np.float32))
    spans = []
    for bits in WIDTHS:
        low, high = histogram.range(bits, "mse")
        assert histogram.low <= low <= 0 <= high <= histogram.high
        spans.append(high - low)
    assert spans[0] > spans[1] > spans[2]
    assert histogram.ranges("max") == [histogram.low, histogram.high] * 3


def test_only_zeros_give_a_usable_range() -> None:
    histogram = RunningHistogram()
    histogram.update(np.zeros(4, np.float32))
    assert histogram.ranges("mse") == [0.0, 1.0] * 3


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_activations_that_are_no_numbers(poison: float) -> None:
    with pytest.raises(CalibrationError, match="NaN or infinite, or beyond"):
        RunningHistogram().update(np.array([1.0, poison], np.float32))


def test_unknown_method() -> None:
    histogram = RunningHistogram()
    histogram.update(np.ones(2, np.float32))
    with pytest.raises(InvalidValueError, match="'median'.*mse and max"):
        histogram.range(8, "median")


def test_running_mean_is_that_of_all_batches() -> None:
    values = np.random.default_rng(0).normal(size=(7, 3, 4, 5)).astype(np.float32)
    running = RunningMean()
    running.update(values[:4])
    running.update(values[4:])
    assert running.mean == pytest.approx(values.mean(axis=(0, 2, 3)), abs=1e-6)


@pytest.mark.parametrize("depthwise", [False, True])
def test_rounding_shift_is_the_mean_error_of_the_output(depthwise: bool) -> None:
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(6, 1 if depthwise else 5, 3, 3)).astype(np.float32)
    x_means = generator.uniform(0, 3, size=6 if depthwise else 5)
    codes, zw, sw = weight_codes(weights, 2, "mse")
    shift = rounding_shift(weights, codes, zw, sw, x_means)
    for channel in range(6):
        real = (codes[channel].astype(float) - zw[channel]) * sw[channel] - weights[channel]
        inputs = x_means[channel : channel + 1] if depthwise else x_means
        assert shift[channel] == pytest.approx((real * inputs[:, None, None]).sum())
    assert np.abs(shift).max() > 1e-3
