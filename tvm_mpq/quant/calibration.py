"""Ranges of activations and weights from data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import CalibrationError, InvalidValueError
from tvm_mpq.specs import WIDTHS

METHODS = ("mse", "max")
_BINS = 2048
_LARGEST = 2.0**100  # beyond, float32 has no room for a histogram
_CANDIDATES = np.linspace(0.1, 1.0, 91)

Float64 = npt.NDArray[np.float64]


class RunningHistogram:
    """Histogram of a stream of values, symmetric around 0; its limit doubles when exceeded.

    The first values other than 0 set the limit, so that networks of any scale get the same bins.
    ``name`` of what they are, for messages.
    """

    def __init__(self, name: str = "an activation") -> None:
        self._name = name
        self._limit = 0.0
        self._counts = np.zeros(_BINS, np.int64)
        self._zeros = 0
        self.low = 0.0
        self.high = 0.0

    def update(self, values: npt.NDArray[np.float32]) -> None:
        """Add values of any shape. Raises CalibrationError for NaN or infinity."""
        low, high = float(values.min()), float(values.max())
        if not max(-low, high) < _LARGEST:
            raise CalibrationError(
                f"calibration: {self._name} is NaN or infinite, or beyond {_LARGEST:.0e};"
                " check the weights of this layer and of those before it, and the input range"
            )
        self._zeros += int((values == 0).sum())
        largest = max(-low, high)
        if not largest:
            self._counts[_BINS // 2] += values.size
            return
        self._limit = self._limit or float(2.0 ** (np.frexp(largest)[1] - 1))
        # A value on the limit itself would fall into the bin below it.
        while largest >= self._limit:
            self._double()
        self.low, self.high = min(self.low, low), max(self.high, high)
        counts, _ = np.histogram(values, _BINS, (-self._limit, self._limit))
        self._counts += counts

    def _double(self) -> None:
        merged = self._counts.reshape(-1, 2).sum(axis=1)
        self._counts = np.concatenate(
            [np.zeros(_BINS // 4, np.int64), merged, np.zeros(_BINS // 4, np.int64)]
        )
        self._limit *= 2.0

    def range(self, bits: int, method: str) -> tuple[float, float]:
        """(low, high) for ``bits`` bits, 0 inside: the extremes, or the least squared error."""
        if method not in METHODS:
            raise InvalidValueError(f"range method {method!r}: allowed are {' and '.join(METHODS)}")
        if self.high <= self.low:
            return (0.0, 1.0)
        if method == "max":
            return (self.low, self.high)
        centres = np.arange(_BINS, dtype=np.float64) + 0.5
        centres = centres * (2 * self._limit / _BINS) - self._limit
        errors = [self._error(centres, float(f), bits) for f in _CANDIDATES]
        best = float(_CANDIDATES[int(np.argmin(errors))])
        return (self.low * best, self.high * best)

    def _error(self, centres: Float64, fraction: float, bits: int) -> float:
        low, high = self.low * fraction, self.high * fraction
        step = (high - low) / ((1 << bits) - 1)
        clipping = ((np.clip(centres, low, high) - centres) ** 2 * self._counts).sum()
        # Inside, the error of uniform rounding; exact zeros (most of a ReLU's output) have none.
        inside = self._counts[(centres >= low) & (centres <= high)].sum() - self._zeros
        return float(clipping + step**2 / 12 * inside)

    def ranges(self, method: str) -> list[float]:
        """low, high for 8, 4 and 2 bits, flattened."""
        return [bound for bits in WIDTHS for bound in self.range(bits, method)]


class RunningMean:
    """Mean of each channel of a stream of maps [N, C, H, W]."""

    def __init__(self) -> None:
        self._sum: Float64 | float = 0.0
        self._count = 0

    def update(self, values: npt.NDArray[np.float32]) -> None:
        """Add the maps of a batch."""
        self._sum = self._sum + values.mean(axis=(2, 3), dtype=np.float64).sum(axis=0)
        self._count += len(values)

    @property
    def mean(self) -> Float64:
        """float64 [C]."""
        return np.asarray(self._sum / max(self._count, 1))


def rounding_shift(
    weights: npt.NDArray[np.float32],
    codes: npt.NDArray[np.uint8],
    zw: npt.NDArray[np.uint8],
    sw: Float64,
    x_means: Float64,
) -> Float64:
    """By how much rounding the weights moves the mean of the accumulators, real units [O].

    The error of a weight times the mean of its input does not average out: on MobileNetV1 it is
    most of what 8-bit rounding costs. Subtract it from the offset ("bias correction", section 4.2
    of arXiv 1906.04721). Padding counts as if it had the mean value.

    Parameters: weights and codes [O, I, kh, kw], I = 1 for a depthwise layer; x_means [C].
    """
    column = (slice(None), None, None, None)
    real = (codes.astype(np.float64) - zw.astype(np.float64)[column]) * sw[column]
    errors = (real - weights).sum(axis=(2, 3))
    depthwise = weights.shape[1] == 1 and len(x_means) == len(weights)
    return errors[:, 0] * x_means if depthwise else errors @ x_means


def weight_codes(
    weights: npt.NDArray[np.float32], bits: int, method: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Float64]:
    """Per-channel asymmetric codes of weights [O, ...]: (codes, zero points [O], scales [O]).

    The range contains 0, so that Zw lies in [0, 2**bits - 1]. A channel of zeros gets S = 1 and
    codes Zw = 0. ``mse`` narrows the range of sub-byte channels where that lowers the squared
    error; 8-bit ranges are always the extremes.
    """
    flat = weights.reshape(weights.shape[0], -1).astype(np.float64)
    low, high = np.minimum(flat.min(axis=1), 0.0), np.maximum(flat.max(axis=1), 0.0)
    if method == "mse" and bits < 8:
        low, high = _least_squares_range(flat, low, high, bits)
    codes, zero, scale = _quantize(flat, low, high, bits)
    return codes.reshape(weights.shape).astype(np.uint8), zero.astype(np.uint8), scale


def _quantize(
    flat: Float64, low: Float64, high: Float64, bits: int
) -> tuple[Float64, Float64, Float64]:
    steps = (1 << bits) - 1
    scale = np.where(high > low, (high - low) / steps, 1.0)
    zero = np.clip(np.rint(-low / scale), 0, steps)
    codes = np.clip(np.rint(flat / scale[:, None]) + zero[:, None], 0, steps)
    return codes, zero, scale


def _least_squares_range(
    flat: Float64, low: Float64, high: Float64, bits: int
) -> tuple[Float64, Float64]:
    best_error = np.full(len(flat), np.inf)
    best = np.ones(len(flat))
    for fraction in _CANDIDATES[20::2]:
        codes, zero, scale = _quantize(flat, low * fraction, high * fraction, bits)
        error = (((codes - zero[:, None]) * scale[:, None] - flat) ** 2).sum(axis=1)
        better = error < best_error
        best[better], best_error[better] = fraction, error[better]
    return low * best, high * best
