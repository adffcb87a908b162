"""Ranges, means and what rounded weights do to the mean of an output."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_mpq.quant.calibration import RunningMean, rounding_shift, weight_codes

pytestmark = pytest.mark.null


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
