"""Offsets, units per channel and ranges of activations, from samples of a layer's output.

A tensor may have a unit of its own per channel wherever its readers can absorb it exactly: a
depthwise layer in its ICN multipliers, any other layer in its weights. Before a depthwise that is
a clip per channel; before a pointwise it is cross-layer equalization (arXiv 1906.04721).
"""

from __future__ import annotations

import numpy as np
import torch

from tvm_mpq.quant.float_network import activate
from tvm_mpq.quant.network import Block

# At most this many values of a tensor decide its range.
SAMPLE_LIMIT = 1 << 22
_CLIPS = np.linspace(0.2, 1.0, 25)
_MIN_UNIT = 2.0**-6
_ITERATIONS = 4


def matching_offset(block: Block, z: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """What to add to pre-activations z [N, C, H, W] so that the mean output is ``wanted`` [C].

    Newton steps on the mean after the activation; a channel that is hardly ever between its clips
    gets small steps.
    """
    offset = torch.zeros(z.shape[1])
    for _ in range(_ITERATIONS):
        moved = z + offset[:, None, None]
        y = activate(block, moved)
        moving = (moved == y).float().mean((0, 2, 3)).clamp(min=0.1)
        offset += (wanted - y.mean((0, 2, 3))) / moving
        if block.activation == "none":
            break
    return offset


def channel_units(
    y: torch.Tensor, bits: int, exponent: float, separate: bool, method: str
) -> torch.Tensor:
    """Units per channel [C] of non-negative outputs y [N, C, H, W], largest 1.

    ``separate``: the units are the best clips of the channels by themselves (a depthwise reads the
    tensor); else (largest value of the channel / of the tensor) ** ``exponent``.
    """
    largest = y.amax((0, 2, 3)).clamp(min=1e-6)
    if separate:
        if bits < 8 and method == "mse":
            largest = largest * best_clip_fractions(y, largest, bits)
        return (largest / largest.max()).clamp(min=_MIN_UNIT)
    return (largest / largest.max()).clamp(min=_MIN_UNIT) ** exponent


def best_clip_fractions(y: torch.Tensor, largest: torch.Tensor, bits: int) -> torch.Tensor:
    """For each channel of y [N, C, H, W], the clip of least squared error over its maximum."""
    best = torch.full_like(largest, float("inf"))
    found = torch.ones_like(largest)
    steps = (1 << bits) - 1
    for fraction in _CLIPS:
        scale = (largest * fraction / steps)[:, None, None]
        rounded = torch.round(y / scale).clamp_(max=steps).mul_(scale)
        error = (rounded - y).square_().mean((0, 2, 3))
        better = error < best
        best = torch.where(better, error, best)
        found = torch.where(better, torch.full_like(found, fraction), found)
    return found


def output_range(
    y: torch.Tensor, units: torch.Tensor, bits: int, method: str
) -> tuple[float, float]:
    """(low, high) of outputs y [N, C, H, W] in their units: extremes, or least squared error."""
    scaled = y / units[:, None, None]
    low, high = min(float(scaled.min()), 0.0), max(float(scaled.max()), 0.0)
    if high <= low:
        return (0.0, 1.0)
    if method == "max" or bits == 8:
        return (low, high)
    weights = units.square()[:, None, None]
    errors = []
    for fraction in _CLIPS:
        scale = (high - low) * fraction / ((1 << bits) - 1)
        rounded = torch.round(scaled / scale).mul_(scale).clamp_(low * fraction, high * fraction)
        errors.append(float(((rounded - scaled).square_() * weights).mean()))
    best = float(_CLIPS[int(np.argmin(errors))])
    return (low * best, high * best)


def sample(y: torch.Tensor) -> torch.Tensor:
    """The first images of y [N, C, H, W], as many as the limit on samples allows."""
    return y[: max(1, SAMPLE_LIMIT // y[0].numel())]
