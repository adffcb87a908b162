"""Gradients against the formulas of the method; values on the integer grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.quantizers import (
    ActivationQuantizer,
    ChannelQuantizer,
    WeightQuantizer,
    learned_step,
    pact,
)

pytestmark = pytest.mark.null
VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.just(2), st.just(2)),
    elements=st.floats(-8, 8, width=32),
)
BITS = st.sampled_from([8, 4, 2])


@settings(deadline=None)
@given(VALUES, BITS, st.floats(0.25, 6.0), st.sampled_from(["floor", "nearest"]))
def test_pact_value_and_gradients(x: np.ndarray, bits: int, clip: float, rounding: str) -> None:
    values = torch.from_numpy(x).requires_grad_()
    alpha = torch.tensor([clip], requires_grad=True)
    upstream = torch.linspace(-1, 1, values.numel()).view_as(values)
    y = pact(values, alpha, bits, rounding)
    (y * upstream).sum().backward()
    inside = (values > 0) & (values < alpha)
    assert torch.equal(values.grad, upstream * inside)
    wanted = (upstream * (values >= alpha)).sum()
    torch.testing.assert_close(alpha.grad, wanted.reshape(1))
    codes = y.detach() / (alpha.detach() / ((1 << bits) - 1))
    torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
    error = (values.clamp(0, clip) - y).detach() / (clip / ((1 << bits) - 1))
    low, high = (-1e-3, 1 + 1e-3) if rounding == "floor" else (-0.501, 0.501)
    assert low <= float(error.min()) and float(error.max()) <= high


@settings(deadline=None)
@given(VALUES, BITS, st.floats(0.02, 1.0), st.sampled_from(["floor", "nearest"]), st.booleans())
def test_learned_step_value_and_gradients(
    x: np.ndarray, bits: int, size: float, rounding: str, separate: bool
) -> None:
    """LSQ's formulas, per channel; values near a boundary between two codes are left out."""
    channels, most = x.shape[1], (1 << bits) - 1
    step = torch.full((channels if separate else 1, 1, 1), size, requires_grad=True)
    low = torch.linspace(-1, 2, channels)[:, None, None].requires_grad_()
    values = torch.from_numpy(x).requires_grad_()
    upstream = torch.linspace(-1, 1, values.numel()).view_as(values)
    position = ((values - low) / size).detach()
    exact = position.double() + (0.5 if rounding == "nearest" else 0.0)
    clear = (exact - exact.round()).abs() > 1e-3
    upstream = upstream * clear
    y = learned_step(values, step, low, bits, rounding)
    (y * upstream).sum().backward()
    code = exact.floor().clamp(0, most).float()
    torch.testing.assert_close(y * clear, (low + size * code) * clear)
    inside = (exact > 0) & (exact < most + 1)
    assert torch.equal(values.grad, upstream * inside)
    clamped = (upstream * ~inside).sum((0, 2, 3))[:, None, None]
    torch.testing.assert_close(low.grad, clamped, atol=1e-5, rtol=1e-4)
    slopes = (upstream * (code - position * inside)).sum((0, 2, 3))
    wanted = slopes if separate else slopes.sum()
    torch.testing.assert_close(step.grad.flatten(), wanted.reshape(-1), atol=1e-3, rtol=1e-4)


def test_a_range_for_each_channel() -> None:
    quantizer = ChannelQuantizer(torch.tensor([0.0, 3.0]), 0.1, 4, "nearest", separate=True)
    with torch.no_grad():
        quantizer.size[1] = 0.2
    y = quantizer(torch.tensor([-1.0, 9.0]).expand(2, 2).T[..., None, None])
    assert y.flatten().tolist() == pytest.approx([0.0, 3.0, 1.5, 6.0])
    assert quantizer.range() == pytest.approx((0.0, 3.0))


@settings(deadline=None)
@given(VALUES, BITS)
def test_learned_range_gradients(w: np.ndarray, bits: int) -> None:
    weights = torch.from_numpy(w).requires_grad_()
    quantizer = WeightQuantizer("learned_range", bits, weights.detach())
    with torch.no_grad():
        quantizer.low.mul_(0.5)
        quantizer.high.mul_(0.5)
    upstream = torch.linspace(-1, 1, weights.numel()).view_as(weights)
    (quantizer(weights) * upstream).sum().backward()
    low, high = quantizer.low.detach(), quantizer.high.detach()
    below, above = weights <= low, weights >= high
    torch.testing.assert_close(quantizer.low.grad, (upstream * below).sum())
    torch.testing.assert_close(quantizer.high.grad, (upstream * above).sum())
    assert torch.equal(weights.grad, upstream * ~(below | above))


@settings(deadline=None)
@given(VALUES, BITS, st.sampled_from(["min_max", "learned_range"]))
@example(np.full((1, 1, 2, 2), 1e-45, np.float32), 8, "min_max")
def test_weights_are_the_real_values_of_their_codes(w: np.ndarray, bits: int, mode: str) -> None:
    weights = torch.from_numpy(w)
    quantizer = WeightQuantizer(mode, bits, weights)
    scale, zero = quantizer.grid(weights)
    codes = quantizer.codes(weights)
    assert int(codes.max()) < 1 << bits
    assert ((zero >= 0) & (zero < 1 << bits)).all()
    real = (codes.float() - zero[:, None, None, None]) * scale[:, None, None, None]
    torch.testing.assert_close(quantizer(weights), real)
    if mode == "min_max":
        torch.testing.assert_close(real, weights, atol=float(scale.max()) * 0.51, rtol=0)


def test_min_max_passes_every_gradient() -> None:
    weights = torch.randn(3, 2, 2, 2, requires_grad=True)
    WeightQuantizer("min_max", 4, weights.detach())(weights).sum().backward()
    assert (weights.grad == 1).all()


@pytest.mark.parametrize("rounding", ["floor", "nearest"])
def test_signed_activations_have_a_zero_point(rounding: str) -> None:
    quantizer = ActivationQuantizer(-1.0, 2.0, 4, rounding)
    x = torch.linspace(-3, 3, 101, requires_grad=True)
    quantized = quantizer(x)
    y, scale = quantized.detach(), 3.0 / 15
    assert float(y.min()) == pytest.approx(-5 * scale) and float(y.max()) == pytest.approx(
        10 * scale
    )
    lower = scale if rounding == "floor" else scale / 2
    inner = (x > -0.9) & (x < 1.9)
    error = (x.detach() - y)[inner]
    assert float(error.max()) <= lower + 1e-5
    quantized.sum().backward()
    assert (x.grad[inner] == 1).all() and float(x.grad[0]) == 0


def test_unknown_mode_is_told() -> None:
    with pytest.raises(InvalidValueError, match="'best': allowed are"):
        WeightQuantizer("best", 4, torch.ones(1, 1, 1, 1))
