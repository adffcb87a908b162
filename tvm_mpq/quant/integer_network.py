"""The integer program as a torch module: batches, any device, equal to the device's bits.

Convolutions run in float64 (exact below 2**53), requantization in int64. ``fast=True`` trades that
for float32, two to three times faster: a few codes in 10**5 then differ by one. Searches use fast;
whatever is reported or compared uses exact.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.icn import (
    IcnParams,
    RealLayer,
    icn_params,
    join_params,
    logits_icn_params,
    pool_params,
)
from tvm_mpq.quant.network import WEIGHTED, Block, FloatNetwork
from tvm_mpq.quant.quantization import LOGITS_BITS, Quantization
from tvm_mpq.quant.result import QuantizationResult


class IntegerNetwork(nn.Module):
    """uint8 images [N, H, W, C] -> logits [N, classes]: int32 exact, or float32 when ``fast``.

    ``logits_scale`` turns them into real logits.
    """

    def __init__(
        self, network: FloatNetwork, result: QuantizationResult, fast: bool = False
    ) -> None:
        super().__init__()
        result.check_fits(network)
        self.network, self.result, self.fast = network, result, fast
        self.quantizations = network.quantizations(result.plan, result.ranges)
        self.steps = nn.ModuleList(
            make_step(block, result, self.quantizations, block is network.last, fast)
            for block in network.blocks
        )
        self.logits_scale = self.last_scale

    @property
    def last_scale(self) -> float:
        """Scale of the logits of the last step as it is now."""
        last = self.steps[-1]
        assert isinstance(last, WeightedStep)
        return last.logits_scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The integer program."""
        return self.run_from(0, {self.network.input: images.permute(0, 3, 1, 2)})

    def run_from(self, start: int, values: dict[str, torch.Tensor]) -> torch.Tensor:
        """Run the steps from index ``start`` on; ``values`` holds what they read, by name."""
        values, last_use = dict(values), self.network.last_use()
        result = next(iter(values.values()))
        for index in range(start, len(self.steps)):
            block = self.network.blocks[index]
            result = self.steps[index]([values[name] for name in block.inputs])
            values[block.name] = result
            for name in block.inputs:
                if last_use[name] <= index:
                    values.pop(name, None)
        return result.flatten(1)


def make_step(
    block: Block,
    result: QuantizationResult,
    quantizations: dict[str, Quantization],
    is_last: bool,
    fast: bool = False,
) -> nn.Module:
    """The module that maps input codes to output codes."""
    sources = [quantizations[name] for name in block.inputs]
    if block.op in WEIGHTED:
        y = None if is_last else quantizations[block.name]
        bits = result.plan.multiplier_bits(block.name)
        layer = result.layers[block.name]
        return weighted_step(block, layer, sources[0], y, result.rounding, fast, bits)
    if block.op in ("add", "concat"):
        nearest = result.rounding == "nearest"
        return JoinStep(block, sources, quantizations[block.name], nearest)
    return PoolStep(block, sources[0], quantizations[block.name], fast)


def weighted_step(
    block: Block,
    layer: RealLayer,
    x: Quantization,
    y: Quantization | None,
    rounding: str,
    fast: bool = False,
    multiplier_bits: int = 32,
) -> WeightedStep:
    """A layer with weights; ``y`` None stands for the logits, which choose their own scale.

    ``multiplier_bits``: of its M0, 32 or 16.
    """
    layer = replace(layer, x_offset=x.offset)
    if y is None:
        icn, codes, scale = logits_icn_params(layer, x.scale, x.zero_point, x.bits, multiplier_bits)
        return WeightedStep(block, icn, codes, x, Quantization(scale, 0, LOGITS_BITS), fast)
    icn, codes = icn_params(
        layer,
        x.scale,
        x.zero_point,
        x.bits,
        y.scale,
        y.zero_point,
        y.bits,
        rounding,
        multiplier_bits,
    )
    return WeightedStep(block, icn, codes, x, y, fast)


class WeightedStep(nn.Module):
    """Phi in float64 (or float32), then M0 * (Phi + Bq) >> shift in int64 (or float32)."""

    phi_weights: torch.Tensor
    m0: torch.Tensor
    bq: torch.Tensor
    shift: torch.Tensor
    multiplier: torch.Tensor

    def __init__(
        self,
        block: Block,
        icn: IcnParams,
        codes: npt.NDArray[np.uint8],
        x: Quantization,
        y: Quantization,
        fast: bool,
    ) -> None:
        super().__init__()
        self.block, self.x, self.y, self.fast = block, x, y, fast
        self.icn, self.codes = icn, codes
        self.logits_scale = y.scale if y.bits == LOGITS_BITS else 0.0
        self.dtype = torch.float32 if fast else torch.float64
        column = (slice(None),) + (None,) * (codes.ndim - 1)
        centred = codes.astype(np.float64) - icn.zw.astype(np.float64)[column]
        self.register_buffer("phi_weights", torch.from_numpy(centred).to(self.dtype))
        for name, values in (("m0", icn.m0), ("bq", icn.bq), ("shift", icn.shift)):
            tensor = torch.from_numpy(np.asarray(values).astype(np.int64))
            self.register_buffer(name, tensor[:, None, None])
        multiplier = np.ldexp(icn.m0.astype(np.float64), -icn.shift.astype(int))
        self.register_buffer("multiplier", torch.from_numpy(multiplier)[:, None, None])

    def phi(self, x: torch.Tensor) -> torch.Tensor:
        """Accumulators [N, O, H, W] of codes [N, C, H, W]; padded taps add 0."""
        return convolve(self.block, x.to(self.dtype) - self.x.zero_point, self.phi_weights)

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Codes, or logits."""
        phi = self.phi(inputs[0])
        if self.fast:
            multiplier = self.multiplier.float()
            value = torch.floor(phi * multiplier + (self.multiplier * self.bq).float())
        else:
            value = (self.m0 * (phi.long() + self.bq)) >> self.shift
        if self.y.bits == LOGITS_BITS:
            return value if self.fast else value.to(torch.int32)
        return (value + self.y.zero_point).clamp_(0, self.y.max_code).to(torch.uint8)


class JoinStep(nn.Module):
    """Requantized add and concat; integers as in RewriteToIcn."""

    def __init__(
        self, block: Block, sources: list[Quantization], y: Quantization, nearest: bool
    ) -> None:
        super().__init__()
        self.block, self.sources, self.y = block, sources, y
        ratios = np.array([source.scale for source in sources]) / y.scale
        self.m, self.shift = join_params(block.op, ratios)
        self.halves = [int(nearest) << max(shift - 1, 0) for shift in self.shift]

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Codes of the sum, or of the maps side by side."""
        terms = [
            m * (x.long() - source.zero_point)
            for m, x, source in zip(self.m, inputs, self.sources, strict=True)
        ]
        if self.block.op == "add":
            value = (terms[0] + terms[1] + self.halves[0]) >> self.shift[0]
        else:
            zipped = zip(terms, self.halves, self.shift, strict=True)
            value = torch.cat([(term + half) >> shift for term, half, shift in zipped], 1)
        return (value + self.y.zero_point).clamp(0, self.y.max_code).to(torch.uint8)


class PoolStep(nn.Module):
    """Maximum over windows, or the rounded mean over the map."""

    def __init__(self, block: Block, x: Quantization, y: Quantization, fast: bool) -> None:
        super().__init__()
        self.block, self.x, self.y = block, x, y
        self.dtype = torch.float32 if fast else torch.float64

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Codes; maxima have the scale and zero point of the input."""
        (x,) = inputs
        if self.block.op == "max_pool2d":
            top, left, bottom, right = self.block.padding
            padded = functional.pad(x.to(self.dtype), (left, right, top, bottom))
            return functional.max_pool2d(padded, self.block.kernel, self.block.strides).to(x.dtype)
        pixels = x.shape[2] * x.shape[3]
        m0, shift, bq = pool_params(pixels, self.x.scale / self.y.scale)
        phi = (x.long() - self.x.zero_point).sum((2, 3), keepdim=True)
        value = (m0 * (phi + bq)) >> shift
        return (value + self.y.zero_point).clamp(0, self.y.max_code).to(torch.uint8)


def convolve(
    block: Block, x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """The block's convolution or dense product [N, O, H, W], zero-padded; ``bias`` [O]."""
    check_dtype(block, x, weights)
    if block.op == "dense":
        return functional.linear(x.flatten(1), weights.flatten(1), bias)[:, :, None, None]
    top, left, bottom, right = block.padding
    padding = (top, left)
    if (bottom, right) != padding:
        padding = (0, 0)
        x = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(x, weights, bias, block.strides, padding, groups=block.groups)


def check_dtype(block: Block, x: torch.Tensor, weights: torch.Tensor) -> None:
    """Raise InvalidValueError where a network was converted as a whole, by ``half()`` say."""
    if x.dtype != weights.dtype and not torch.is_autocast_enabled(x.device.type):
        held, wanted = (str(dtype).removeprefix("torch.") for dtype in (weights.dtype, x.dtype))
        raise InvalidValueError(
            f"layer {block.name}: its weights are {held}, its inputs {wanted}; call"
            f" model.{'double' if wanted == 'float64' else 'float'}() first: the network computes"
            f" in {wanted}"
        )


def run_batches(
    module: Any, images: npt.NDArray[np.uint8], batch: int = 25
) -> npt.NDArray[np.float64]:
    """Real logits [N, classes] of uint8 images [N, H, W, C]."""
    scale = getattr(module, "logits_scale", 1.0)
    held = chain(module.parameters(), module.buffers())
    device = next((tensor.device for tensor in held), torch.device("cpu"))
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(np.ascontiguousarray(images[i : i + batch])).to(device)).cpu()
            for i in range(0, len(images), batch)
        ]
    return torch.cat(parts).numpy().astype(np.float64) * scale
