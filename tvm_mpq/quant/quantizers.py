"""Quantizers with straight-through gradients, for retraining (MLSys 2020, arXiv 1905.13082).

* ``pact``: activations in [0, alpha], floor or nearest; alpha learned (PACT, arXiv 1805.06085).
* ``learned_step``: activations from an offset per channel upwards, in steps; both are learned, the
  step with the gradient of its rounding errors (LSQ, arXiv 1902.08153; LSQ+, arXiv 2004.09576).
* ``learned_range``: one range [a, b] a layer for weights, learned.
* ``min_max``: the range of each output channel, as its weights have it.
* ``on_grid``: scales and zero points per channel that stay as post-training found them.

Each returns real values that lie exactly on the quantizer's grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.specs import WEIGHT_WIDTHS, check_width

# Of a code. Integers that are exactly 0 come out of float32 as a little less, and floor would make
# that -1; the error of float32 at 255 is about half of this.
EPSILON = 5e-5
# Learned ranges and steps stay above this share of what they begin with.
_LEAST = 1e-6


class _Pact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, alpha: torch.Tensor, steps: int, half: float) -> Any:
        ctx.save_for_backward(x, alpha)
        scale = alpha / steps
        codes = (x / scale).add_(half + EPSILON).floor_().clamp_(0, steps)
        return codes.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, alpha = ctx.saved_tensors
        # Fused passes: maps are larger than the caches.
        clip = float(alpha.detach())
        passed = torch.ops.aten.hardtanh_backward(grad, x, 0.0, clip)
        above = torch.ops.aten.threshold_backward(
            grad, x, float(np.nextafter(np.float32(clip), np.float32(0)))
        )
        return passed, above.sum().reshape(alpha.shape), None, None


def pact(x: torch.Tensor, alpha: torch.Tensor, bits: int, rounding: str = "floor") -> torch.Tensor:
    """floor(clamp(x, 0, alpha) / S) * S with S = alpha / (2**bits - 1); "nearest" adds S / 2.

    d/dx = 1 inside (0, alpha), else 0; d/dalpha = the sum of the gradients where x >= alpha.
    """
    half = 0.5 if rounding == "nearest" else 0.0
    found: torch.Tensor = _Pact.apply(x, alpha, (1 << bits) - 1, half)
    return found


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, step: torch.Tensor, low: torch.Tensor, steps: int, half: float
    ) -> Any:
        position = (x - low).div_(step)
        ctx.save_for_backward(position, step)
        ctx.steps, ctx.half = steps, half
        return _codes(position, steps, half).mul_(step).add_(low)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        position, step = ctx.saved_tensors
        passed = grad.new_empty(grad.shape)
        slope, clamped = grad.new_zeros(2, grad.shape[1])
        # An image at a time: maps of a batch are larger than the caches and read several times.
        maps = (grad.flatten(2), position.flatten(2), passed.flatten(2))
        for g, at, inside in zip(*maps, strict=True):
            torch.ops.aten.hardtanh_backward.grad_input(
                g, at, -ctx.half, ctx.steps + 1.0 - ctx.half, grad_input=inside
            )
            codes = _codes(at, ctx.steps, ctx.half)
            slope += torch.linalg.vecdot(codes, g) - torch.linalg.vecdot(at, inside)
            clamped += g.sum(1) - inside.sum(1)
        slope = slope.sum_to_size(len(step)).reshape(step.shape)
        return passed, slope, clamped[:, None, None], None, None


def _codes(position: torch.Tensor, steps: int, half: float) -> torch.Tensor:
    return (position + (half + EPSILON)).floor_().clamp_(0, steps)


def learned_step(
    x: torch.Tensor, step: torch.Tensor, low: torch.Tensor, bits: int, rounding: str = "floor"
) -> torch.Tensor:
    """low + step * clamp(floor((x - low) / step), 0, 2**bits - 1); "nearest" adds a half.

    x [N, C, H, W], step [C, 1, 1] or [1, 1, 1], low [C, 1, 1]. d/dx = 1 where the code is not
    clamped, else 0; d/dlow = 1 - d/dx; d/dstep = the code, less (x - low) / step if not clamped.
    """
    half = 0.5 if rounding == "nearest" else 0.0
    found: torch.Tensor = _LearnedStep.apply(x, step, low, (1 << bits) - 1, half)
    return found


class _Rounded(torch.autograd.Function):
    """Codes on a grid; the gradient passes where the value is inside the grid's range."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, steps: int
    ) -> Any:
        codes = torch.round(x / scale) + zero
        ctx.save_for_backward((codes >= 0) & (codes <= steps))
        return (codes.clamp(0, steps) - zero) * scale

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None


class _LearnedRange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, w: torch.Tensor, low: torch.Tensor, high: torch.Tensor, steps: int
    ) -> Any:
        ctx.save_for_backward(w, low, high)
        scale, zero = grid_of_range(low, high, steps)
        return ((torch.round(w / scale) + zero).clamp(0, steps) - zero) * scale

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        w, low, high = ctx.saved_tensors
        below, above = w <= low, w >= high
        passed = grad * ~(below | above)
        return passed, (grad * below).sum(), (grad * above).sum(), None


def grid_of_range(
    low: torch.Tensor, high: torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, zero point) of [low, high]; a range too small for float32's steps has scale 1."""
    scale = (high - low) / steps
    scale = torch.where(scale >= torch.finfo(scale.dtype).tiny, scale, torch.ones_like(scale))
    return scale, torch.round(-low / scale).clamp(0, steps)


class WeightQuantizer(nn.Module):
    """Weights [O, I, kh, kw] -> the nearest real values of their codes.

    Parameters: ``mode`` "learned_range", "min_max" or "on_grid"; the last takes ``scale`` and
    ``zero`` [O].
    """

    scale: torch.Tensor
    zero: torch.Tensor

    def __init__(
        self,
        mode: str,
        bits: int,
        weights: torch.Tensor,
        scale: torch.Tensor | None = None,
        zero: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("learned_range", "min_max", "on_grid"):
            raise InvalidValueError(
                f"weight quantizer {mode!r}: allowed are 'learned_range', 'min_max' and 'on_grid'"
            )
        self.mode, self.bits = mode, check_width("weight quantizer", bits, WEIGHT_WIDTHS)
        self.steps = (1 << bits) - 1
        if mode == "learned_range":
            self.low = nn.Parameter(weights.min().clamp(max=0.0))
            self.high = nn.Parameter(weights.max().clamp(min=0.0))
        if mode == "on_grid":
            if scale is None or zero is None:
                raise InvalidValueError("weight quantizer 'on_grid': it needs scale and zero")
            self.register_buffer("scale", scale.float())
            self.register_buffer("zero", zero.float())

    def grid(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(scale, zero point) [O]."""
        if self.mode == "on_grid":
            return self.scale, self.zero
        channels = len(weights)
        if self.mode == "learned_range":
            low, high = self.low.clamp(max=0.0), self.high.clamp(min=0.0)
            scale, zero = grid_of_range(low.detach(), high.detach(), self.steps)
            return scale.expand(channels), zero.expand(channels)
        flat = weights.detach().flatten(1)
        low, high = flat.amin(1).clamp(max=0.0), flat.amax(1).clamp(min=0.0)
        return grid_of_range(low, high, self.steps)

    def forward(self, weights: torch.Tensor) -> torch.Tensor:
        """Fake-quantized weights."""
        if self.mode == "learned_range":
            low, high = self.low.clamp(max=0.0), self.high.clamp(min=0.0)
            learned: torch.Tensor = _LearnedRange.apply(weights, low, high, self.steps)
            return learned
        scale, zero = (v[:, None, None, None] for v in self.grid(weights))
        rounded: torch.Tensor = _Rounded.apply(weights, scale, zero, self.steps)
        return rounded

    def codes(self, weights: torch.Tensor) -> torch.Tensor:
        """uint8 codes."""
        scale, zero = (v[:, None, None, None] for v in self.grid(weights))
        found = (torch.round(weights.detach() / scale) + zero).clamp(0, self.steps)
        return found.to(torch.uint8)


class ActivationQuantizer(nn.Module):
    """[0, alpha] with learned alpha, or a fixed signed range with a zero point.

    Parameters: ``low``, ``high``: the range to begin with. ``limit``: alpha never exceeds it.
    """

    high: torch.Tensor

    def __init__(
        self, low: float, high: float, bits: int, rounding: str, limit: float = float("inf")
    ) -> None:
        super().__init__()
        self.bits, self.rounding, self.limit = check_width("activation", bits), rounding, limit
        self.steps = (1 << bits) - 1
        self.low = low
        self.signed = low < 0.0
        if self.signed:
            self.register_buffer("high", torch.tensor(high))
        else:
            self.alpha = nn.Parameter(torch.tensor([high]))
            self.least = _LEAST * high

    def range(self) -> tuple[float, float]:
        """(low, high)."""
        return (self.low, float(self.high)) if self.signed else (0.0, float(self._alpha().detach()))

    def _alpha(self) -> torch.Tensor:
        return self.alpha.clamp(self.least, self.limit)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fake-quantized activations."""
        if not self.signed:
            return pact(x, self._alpha(), self.bits, self.rounding)
        scale = (float(self.high) - self.low) / self.steps
        zero = min(max(round(-self.low / scale), 0), self.steps)
        # Rounding down is rounding to nearest of what lies half a step lower.
        lowered = x if self.rounding == "nearest" else x - 0.5 * scale
        lowered = lowered + EPSILON * scale
        size, origin = torch.tensor(scale), torch.tensor(float(zero))
        found: torch.Tensor = _Rounded.apply(lowered, size, origin, self.steps)
        return found

    @property
    def step(self) -> torch.Tensor:
        """Real size of a code, [1]."""
        low, high = self.range()
        return torch.tensor([(high - low) / self.steps])


class ChannelQuantizer(nn.Module):
    """A range of its own for each channel, learned: [offset, offset + steps * step].

    Parameters
    ----------
    offset: [C] what code 0 stands for. step: size of a code. separate: a step for each channel,
        which only depthwise readers absorb.
    """

    def __init__(
        self, offset: torch.Tensor, step: float, bits: int, rounding: str, separate: bool
    ) -> None:
        super().__init__()
        self.bits, self.rounding = check_width("activation", bits), rounding
        self.steps = (1 << bits) - 1
        self.offset = nn.Parameter(offset.float()[:, None, None].clone())
        self.size = nn.Parameter(torch.full((len(offset) if separate else 1, 1, 1), step))
        self.least = _LEAST * step

    @property
    def step(self) -> torch.Tensor:
        """Real size of a code, [C] or [1]."""
        return self.size.detach().flatten().clamp(min=self.least)

    def range(self) -> tuple[float, float]:
        """(0, high): of codes in the units of the channel with the largest step."""
        return (0.0, float(self.step.max()) * self.steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fake-quantized activations."""
        return learned_step(
            x, self.size.clamp(min=self.least), self.offset, self.bits, self.rounding
        )
