"""Retraining: ``prepare(model, plan)`` gives a torch module for anyone's loop, ``convert(module)``
the integer program.

The trained module works in float32 on real values that lie on the quantizers' grids. Batch norm is
the per-channel scale and offset of the fused block: its statistics are those of the float network
from the start (the paper freezes them after one epoch), its affine part is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.float_network import Observer, real_images, weightless
from tvm_mpq.quant.icn import RealLayer, decompose
from tvm_mpq.quant.integer_network import IntegerNetwork, convolve
from tvm_mpq.quant.network import KEEPS_RANGE, WEIGHTED, Block, FloatNetwork
from tvm_mpq.quant.quantizers import ActivationQuantizer, WeightQuantizer
from tvm_mpq.quant.result import QuantizationResult, nearest_result

if TYPE_CHECKING:
    from tvm_mpq.pipeline import CalibratedModel


class QatLayer(nn.Module):
    """g * conv(x, Q(w)) + h; the offset and the scale per channel are trained with the weights."""

    def __init__(
        self, block: Block, layer: RealLayer, bits: int, mode: str, x_offset: float
    ) -> None:
        super().__init__()
        assert block.weights is not None
        self.block, self.x_offset = block, x_offset
        weights = torch.from_numpy(block.weights).clone()
        grid: dict[str, torch.Tensor] = {}
        if mode == "on_grid":
            column = (slice(None), None, None, None)
            real = (layer.codes.astype(np.float64) - layer.zw[column]) * layer.sw[column]
            weights = torch.from_numpy(real).float()
            grid = {"scale": torch.from_numpy(layer.sw), "zero": torch.from_numpy(layer.zw)}
        self.weight = nn.Parameter(weights)
        self.quantizer = WeightQuantizer(mode, bits, weights, **grid)
        self.g = nn.Parameter(torch.from_numpy(np.asarray(layer.g)).float())
        self.h = nn.Parameter(torch.from_numpy(np.asarray(layer.h)).float())

    def forward(self, x: torch.Tensor, sx: float, half_step: float) -> torch.Tensor:
        """Pre-activations [N, O, H, W].

        ``sx``: scale of the inputs; ``half_step``: what rounding to nearest adds, 0 for floor.
        """
        weights = self.quantizer(self.weight)
        h: torch.Tensor = self.h
        if self.x_offset:
            # Borders hold code Zx, whose real value is the offset of the image, not 0.
            x = x - self.x_offset
            h = h + self.x_offset * self.g * weights.sum((1, 2, 3))
        h = h + self._rounding_of_bq(h.detach(), sx, half_step)
        # g goes through the weights: a pass over them instead of several over the maps.
        return convolve(self.block, x, weights * self.g[:, None, None, None], h)

    def _rounding_of_bq(self, h: torch.Tensor, sx: float, half_step: float) -> torch.Tensor:
        """By how much the offset moves when Bq becomes an integer.

        One unit of Bq is M codes of the output: with narrow weights a good part of a code.
        """
        scale, _ = self.quantizer.grid(self.weight)
        unit = (self.g * sx * scale).detach()
        unit = torch.where(unit.abs() < 1e-12, torch.ones_like(unit), unit)
        exact = (h + half_step).double() / unit.double()
        return ((torch.round(exact) - exact) * unit.double()).float()

    def real_layer(self) -> RealLayer:
        """What the integer program is made of."""
        scale, zero = self.quantizer.grid(self.weight)
        return RealLayer(
            self.block.name,
            self.quantizer.codes(self.weight).numpy(),
            zero.detach().numpy().astype(np.uint8),
            scale.detach().numpy().astype(np.float64),
            self.g.detach().numpy().astype(np.float64),
            self.h.detach().numpy().astype(np.float64),
        )


class QatNetwork(nn.Module):
    """uint8 images [N, H, W, C] -> real float32 logits [N, classes], quantized on the way.

    ``layers`` holds the layers with weights, ``quantizers`` those of activations, by block name
    (dots become ``__``).
    """

    def __init__(
        self, network: FloatNetwork, start: QuantizationResult, mode: str, rounding: str
    ) -> None:
        super().__init__()
        self.network, self.plan, self.rounding = network, start.plan, rounding
        units = start.units(network)
        self._units = {name: torch.from_numpy(one).float() for name, one in units.items()}
        self.layers, self.quantizers = nn.ModuleDict(), nn.ModuleDict()
        for block in network.blocks:
            key = _key(block)
            if block.op in WEIGHTED:
                bits = start.plan.weights[block.name]
                offset = network.input_spec.offset if network.input in block.inputs else 0.0
                layer = start.layers[block.name]
                self.layers[key] = QatLayer(block, layer, bits, mode, offset)
            if block is not network.last and block.op not in KEEPS_RANGE:
                low, high = start.ranges[block.name]
                bits = start.plan.activations[block.tensor]
                clipped = block.activation == "clip"
                limit = max(block.clip_max, high) if clipped else float("inf")
                quantizer = ActivationQuantizer(low, high, bits, rounding, limit)
                self.quantizers[key] = quantizer

    def forward(self, images: torch.Tensor, observe: Observer | None = None) -> torch.Tensor:
        """Logits; ``observe(block, output)`` sees every output, in its own units."""
        values = {self.network.input: real_images(images, self.network.input_spec)}
        last_use = self.network.last_use()
        y = values[self.network.input]
        for index, block in enumerate(self.network.blocks):
            y = self.run_block(block, [values[name] for name in block.inputs])
            values[block.name] = y
            if observe:
                observe(block, y)
            for name in block.inputs:
                if last_use[name] <= index:
                    values.pop(name, None)
        return y.flatten(1)

    def in_float_units(self, name: str, y: torch.Tensor) -> torch.Tensor:
        """An output [N, C, H, W] of block ``name`` in the float network's units."""
        return y * self._units[name].to(y.device)[:, None, None]

    def run_block(self, block: Block, inputs: list[torch.Tensor]) -> torch.Tensor:
        """One block on real values."""
        key = _key(block)
        if block.op in WEIGHTED:
            half = 0.5 if self.rounding == "nearest" and key in self.quantizers else 0.0
            half_step = half * self.step_of(block.name) if half else 0.0
            z: torch.Tensor = self.layers[key](inputs[0], self.step_of(block.inputs[0]), half_step)
        else:
            z = weightless(block, inputs)
        if key in self.quantizers:
            quantized: torch.Tensor = self.quantizers[key](z)
            return quantized
        if block.op == "global_avg_pool":
            pixels = inputs[0].shape[2] * inputs[0].shape[3]
            return _pooled(z, self.step_of(block.inputs[0]), pixels)
        return z

    def step_of(self, name: str) -> float:
        """Step of a tensor's codes; pools keep that of their input."""
        if name == self.network.input:
            return self.network.input_spec.scale
        block = self.network.by_name[name]
        if _key(block) not in self.quantizers:
            return self.step_of(block.inputs[0])
        quantizer = self.quantizer(block)
        low, high = quantizer.range()
        return (high - low) / quantizer.steps

    def quantizer(self, block: Block) -> ActivationQuantizer:
        """The quantizer of a block's output."""
        found = self.quantizers[_key(block)]
        assert isinstance(found, ActivationQuantizer)
        return found

    def layer(self, block: Block) -> QatLayer:
        """The trained layer of a block with weights."""
        found = self.layers[_key(block)]
        assert isinstance(found, QatLayer)
        return found

    def result(self) -> QuantizationResult:
        """Codes, scales and ranges as they are now."""
        layers = {b.name: self.layer(b).real_layer() for b in self.network.weighted}
        ranges = {
            block.name: self.quantizer(block).range()
            for block in self.network.blocks
            if _key(block) in self.quantizers
        }
        method = {"retrained": True}
        spec = self.network.input_spec
        return QuantizationResult(self.plan, layers, ranges, spec, self.rounding, method)


def prepare(
    model: CalibratedModel | FloatNetwork,
    plan: BitPlan,
    start: QuantizationResult | None = None,
    mode: str = "min_max",
    rounding: str = "floor",
) -> QatNetwork:
    """A module that trains with anyone's loop.

    Parameters
    ----------
    model: the result of ``pipeline.calibrate``. start: where to begin, typically the result of
        ``reconstruct`` for ``plan``; its grids stay, its codes, scales g, offsets and clips are
        trained. Without it: the float weights and calibrated ranges.
    mode: weight ranges without ``start``: "min_max" (per channel) or "learned_range" (per layer).
    rounding: of activations, "floor" (the paper's) or "nearest"; with ``start`` its own.
    """
    network = model if isinstance(model, FloatNetwork) else model.network
    if start is None:
        return QatNetwork(network, nearest_result(network, plan, rounding), mode, rounding)
    start.check_fits(network)
    return QatNetwork(network, start, "on_grid", start.rounding)


def convert(model: QatNetwork) -> IntegerNetwork:
    """The integer program of a trained module, bit for bit; ``.result`` is what ``build`` takes."""
    return IntegerNetwork(model.network, model.result())


def _key(block: Block) -> str:
    return block.name.replace(".", "__")


def _pooled(mean: torch.Tensor, scale: float, pixels: int) -> torch.Tensor:
    """The mean as the integer program rounds it, ties included; the gradient passes."""
    m0, n0 = decompose(np.array([1.0 / pixels]))
    total = torch.round(mean.detach().double() * (pixels / scale)) + pixels // 2
    codes = torch.floor(total * float(np.ldexp(float(m0[0]), int(n0[0]) - 31)))
    return mean + ((codes * scale).float() - mean).detach()
