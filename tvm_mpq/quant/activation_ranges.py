"""Offsets, units per channel and ranges of activations, from samples of a layer's output.

A tensor may have a unit of its own per channel wherever its readers can absorb it exactly: a
depthwise layer in its ICN multipliers, any other layer in its weights. Before a depthwise that is
a clip per channel; before a pointwise it is cross-layer equalization (arXiv 1906.04721).

Its code 0 may stand for another value in each channel wherever no reader has a border, which holds
code 0: the layer's and its readers' offsets absorb that exactly. Channels that hardly ever come
near 0, which many outputs of depthwise layers do not, gain one to two bits.
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
# Ends of a channel's range that are tried: these quantiles from below and from above.
_LOWS = (0.0, 0.0005, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25)
_HIGHS = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08)
_VALUES = 5000  # of a channel
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


def channel_offsets(y: torch.Tensor, bits: int) -> torch.Tensor:
    """What code 0 of each channel [C] of non-negative outputs y [N, C, H, W] had best stand for.

    The low end of the range [low, high] of least squared error, were the channel by itself.
    """
    values = y.transpose(0, 1).flatten(1)
    values = values[:, :: max(1, values.shape[1] // _VALUES)].sort(1).values
    last, steps = values.shape[1] - 1, (1 << bits) - 1
    ends = [values[:, int(share * last), None] for share in _LOWS]
    lows = [torch.zeros_like(ends[0]), *ends, *(0.5 * end for end in ends[::3])]
    best, found = torch.full_like(lows[0], float("inf")), lows[0].clone()
    for high in (values[:, int((1.0 - share) * last), None] for share in _HIGHS):
        for low in lows:
            scale = torch.where(high > low, (high - low) / steps, torch.ones_like(high))
            rounded = torch.round((values - low) / scale).clamp_(0, steps).mul_(scale).add_(low)
            error = (rounded - values).square_().mean(1, keepdim=True)
            better = (error < best) & (high > low)
            best, found = torch.where(better, error, best), torch.where(better, low, found)
    return found[:, 0]


def channel_units(y: torch.Tensor, bits: int, exponent: float, method: str) -> torch.Tensor:
    """Units per channel [C] of non-negative outputs y [N, C, H, W], largest 1.

    (range of the channel / largest range of one) ** ``exponent``. A range ends at the largest
    value; below 8 bits, with ``method`` "mse", at the best clip of the channel by itself.
    """
    if exponent == 0.0:
        return torch.ones(y.shape[1])
    ends = y.amax((0, 2, 3))
    ends = ends.clamp(min=1e-6 * (float(ends.max()) or 1.0))
    if bits < 8 and method == "mse":
        ends = ends * best_clip_fractions(y, ends, bits)
    return (ends / ends.max()).clamp(min=_MIN_UNIT) ** exponent


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
