"""Retraining: ``prepare(model, plan)`` gives a torch module for anyone's loop, ``convert(module)``
the integer program.

The trained module works in float32 on real values that lie on the quantizers' grids. Batch norm is
the per-channel scale and offset of the fused block: its statistics are those of the float network
from the start (the paper freezes them after one epoch), its affine part is trained.

Narrow activations of a reconstruction have learned steps and offsets per channel; of any other
start they are the paper's (PACT). Layers that the start lacks, the last ones, stay float.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.finite import check_finite
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.float_network import FloatTeacher, Observer, real_images, weightless
from tvm_mpq.quant.icn import RealLayer, pool_params
from tvm_mpq.quant.integer_network import IntegerNetwork, check_dtype, convolve
from tvm_mpq.quant.network import KEEPS_RANGE, WEIGHTED, Block, Float64, FloatNetwork
from tvm_mpq.quant.quantizers import ActivationQuantizer, ChannelQuantizer, WeightQuantizer
from tvm_mpq.quant.result import Channels, QuantizationResult, nearest_result

if TYPE_CHECKING:
    from tvm_mpq.pipeline import CalibratedModel


class QatLayer(nn.Module):
    """g * conv(x, Q(w)) + h; the offset and the scale per channel are trained with the weights."""

    def __init__(self, block: Block, layer: RealLayer, bits: int, mode: str) -> None:
        super().__init__()
        assert block.weights is not None
        self.block = block
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

    def forward(
        self,
        x: torch.Tensor,
        x_offset: torch.Tensor,
        sx: torch.Tensor,
        y_origin: torch.Tensor,
    ) -> torch.Tensor:
        """Pre-activations [N, O, H, W].

        ``x_offset``: real value of the inputs' code Zx, [I, 1, 1] or [1, 1, 1]; ``sx``: their step,
        [I] or [1]. ``y_origin``: the pre-activations that become code Zy begin there, [O] or [1].
        """
        check_dtype(self.block, x, self.weight)
        weights = self.quantizer(self.weight)
        h: torch.Tensor = self.h
        if x_offset.requires_grad or x_offset.any():
            # Borders hold code Zx, whose real value is the offset, not 0.
            h, x = h + self.g * self._absorbed(weights, x_offset), x - x_offset
        h = h + self._rounding_of_bq(h.detach() - y_origin, sx)
        # g goes through the weights: a pass over them instead of several over the maps.
        scaled = weights * self.g[:, None, None, None]
        return convolve(self.block, x, scaled, h)

    def _absorbed(self, weights: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """What an offset of the inputs adds to the products, [O]."""
        sums, offset = weights.sum((2, 3)), offset.flatten()
        if self.block.groups > 1:
            return sums[:, 0] * offset
        return sums @ offset.expand(sums.shape[1])

    def _rounding_of_bq(self, h: torch.Tensor, sx: torch.Tensor) -> torch.Tensor:
        """By how much the offset moves when Bq becomes an integer.

        One unit of Bq is M codes of the output: with narrow weights a good part of a code.
        """
        scale, _ = self.quantizer.grid(self.weight)
        unit = (self.g * (sx if self.block.groups > 1 else sx.max()) * scale).detach()
        unit = torch.where(unit == 0, torch.ones_like(unit), unit)
        exact = h.double() / unit.double()
        return ((torch.round(exact) - exact) * unit.double()).float()

    def real_layer(self) -> RealLayer:
        """Codes, grid, scale and offset; the offsets of inputs and outputs are not in them."""
        scale, zero = self.quantizer.grid(self.weight)
        codes = self.quantizer.codes(self.weight)
        zw, sw, g, h = (v.detach().double().cpu().numpy() for v in (zero, scale, self.g, self.h))
        return RealLayer(self.block.name, codes.cpu().numpy(), zw.astype(np.uint8), sw, g, h)


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
        self._channels = start.channels_of(network)
        units = {name: torch.from_numpy(one.unit) for name, one in self._channels.items()}
        self._units = {name: unit.float()[:, None, None] for name, unit in units.items()}
        self.layers, self.quantizers = nn.ModuleDict(), nn.ModuleDict()
        self._ratios: dict[str, float] = {}
        # One a device, because replicas on several share this module's attributes; not part of the
        # module, because its weights are not trained or saved.
        self._float = {torch.device("cpu"): FloatTeacher(network)}
        for block in network.blocks:
            key = _key(block)
            if block.op in WEIGHTED and block.name in start.layers:
                bits, layer = start.plan.weights[block.name], self._unfolded(block, start)
                self.layers[key] = QatLayer(block, layer, bits, mode)
            if block.op in KEEPS_RANGE:
                self._ratios[block.name] = _ratio_of_steps(network, block, start)
            elif block.name in start.ranges and block is not network.last:
                self.quantizers[key] = self._activation_quantizer(block, start, mode)

    def _unfolded(self, block: Block, start: QuantizationResult) -> RealLayer:
        """The layer of ``start`` without the offsets of its inputs and outputs."""
        layer = start.layers[block.name]
        x, y = self._channels[block.inputs[0]], self._channels[block.name]
        absorbed = layer.absorbed(x.offset / x.unit, block.groups > 1)
        return replace(layer, h=layer.h + y.offset / y.unit - absorbed)

    def _activation_quantizer(
        self, block: Block, start: QuantizationResult, mode: str
    ) -> ActivationQuantizer | ChannelQuantizer:
        low, high = start.ranges[block.name]
        bits = start.plan.activations[block.tensor]
        readers = self.network.readers(block.name)
        absorbing = block.op in WEIGHTED and all(reader.op in WEIGHTED for reader in readers)
        if mode == "on_grid" and bits < 8 and block.activation != "none" and absorbing:
            separate = all(reader.op == "depthwise_conv2d" for reader in readers)
            channels = self._channels[block.name]
            origin = torch.from_numpy(channels.offset / channels.unit)
            step = (high - low) / ((1 << bits) - 1)
            return ChannelQuantizer(origin, step, bits, self.rounding, separate)
        limit = max(block.clip_max, high) if block.activation == "clip" else float("inf")
        return ActivationQuantizer(low, high, bits, self.rounding, limit)

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
        return y * self._units[name].to(y.device)

    def run_block(self, block: Block, inputs: list[torch.Tensor]) -> torch.Tensor:
        """One block on real values."""
        if self._is_float(block):
            return self._run_float(block, inputs)
        key, device = _key(block), inputs[0].device
        if block.op in WEIGHTED:
            (name,) = block.inputs
            offset, step = self.offset_of(name).to(device), self.step_of(name).to(device)
            y_origin = self._origin(block).to(device)
            z: torch.Tensor = self.layers[key](inputs[0], offset, step, y_origin)
        else:
            z = weightless(block, inputs)
        if key in self.quantizers:
            quantized: torch.Tensor = self.quantizers[key](z)
            return quantized
        if block.op == "global_avg_pool":
            offset = self.offset_of(block.name).detach().to(device)
            return self._pooled(block, z - offset, inputs[0].shape[2:].numel()) + offset
        return z

    def _pooled(self, block: Block, mean: torch.Tensor, pixels: int) -> torch.Tensor:
        """The mean as the integer program rounds it, ties included; the gradient passes."""
        x_step, y_step = (float(self.step_of(n)) for n in (block.inputs[0], block.name))
        m0, shift, bq = pool_params(pixels, x_step / y_step)
        total = torch.round(mean.detach().double() * (pixels / x_step)) + bq
        largest = (1 << self.plan.activations[block.tensor]) - 1
        codes = torch.floor(total * float(np.ldexp(float(m0), -shift))).clamp(max=largest)
        return mean + ((codes * y_step).float() - mean).detach()

    def _is_float(self, block: Block) -> bool:
        """Whether the start had nothing of it or of a layer before it."""
        if block.op in KEEPS_RANGE:
            (name,) = block.inputs
            return name != self.network.input and self._is_float(self.network.by_name[name])
        return _key(block) not in self.quantizers and _key(block) not in self.layers

    def _run_float(self, block: Block, inputs: list[torch.Tensor]) -> torch.Tensor:
        device = inputs[0].device
        if device not in self._float:
            self._float[device] = FloatTeacher(self.network).to(device)
        teacher = self._float[device]
        pairs = zip(block.inputs, inputs, strict=True)
        return teacher.run_block(block, [self._as_float(name, x) for name, x in pairs])

    def _as_float(self, name: str, x: torch.Tensor) -> torch.Tensor:
        is_input = name == self.network.input
        known = is_input or self._is_float(self.network.by_name[name])
        return x if known else self.in_float_units(name, x)

    def _origin(self, block: Block) -> torch.Tensor:
        """Pre-activations from which on the code is Zy; rounding to nearest begins half a step
        lower."""
        if _key(block) not in self.quantizers:
            return torch.zeros(1)
        half = 0.5 if self.rounding == "nearest" else 0.0
        return self.offset_of(block.name).detach().flatten() - half * self.step_of(block.name)

    def step_of(self, name: str) -> torch.Tensor:
        """Step of a tensor's codes, [1], or [C] before depthwise layers; maximum pools keep it."""
        if name == self.network.input:
            return torch.tensor([self.network.input_spec.scale])
        block = self.network.by_name[name]
        if _key(block) not in self.quantizers:
            return self.step_of(block.inputs[0]) * self._ratios[name]
        return self.quantizer(block).step

    def offset_of(self, name: str) -> torch.Tensor:
        """Real value of a tensor's code Zx, [1, 1, 1] or [C, 1, 1]; pools keep it."""
        if name == self.network.input:
            return torch.full((1, 1, 1), self.network.input_spec.offset)
        block = self.network.by_name[name]
        if _key(block) not in self.quantizers:
            return self.offset_of(block.inputs[0])
        quantizer = self.quantizer(block)
        if isinstance(quantizer, ChannelQuantizer):
            return quantizer.offset
        return torch.zeros(1, 1, 1)

    def quantizer(self, block: Block) -> ActivationQuantizer | ChannelQuantizer:
        """The quantizer of a block's output."""
        found = self.quantizers[_key(block)]
        assert isinstance(found, (ActivationQuantizer, ChannelQuantizer))
        return found

    def layer(self, block: Block) -> QatLayer:
        """The trained layer of a block with weights."""
        found = self.layers[_key(block)]
        assert isinstance(found, QatLayer)
        return found

    def real_layer(self, block: Block) -> RealLayer:
        """What the integer program is made of: steps and offsets per channel are absorbed."""
        layer = self.layer(block).real_layer()
        (name,) = block.inputs
        h = layer.h
        if name != self.network.input:  # its offset is in the arithmetic of the first layer
            offset = np.broadcast_to(self._offsets(name), self._channels[name].unit.shape)
            h = h + layer.absorbed(offset, block.groups > 1)
        g = layer.g * self._shares(name) if block.groups > 1 else layer.g
        if block is self.network.last:
            return replace(layer, g=g, h=h)
        shares = self._shares(block.name)
        return replace(layer, g=g / shares, h=(h - self._offsets(block.name)) / shares)

    def _offsets(self, name: str) -> Float64:
        return self.offset_of(name).detach().double().flatten().cpu().numpy()

    def _shares(self, name: str) -> Float64:
        """Step of each channel over that of the tensor."""
        step = self.step_of(name).double()
        found: Float64 = (step / step.max()).cpu().numpy()
        return found

    def result(self) -> QuantizationResult:
        """Codes, scales, ranges and what outputs stand for, as they are now.

        Raises InvalidValueError for NaN or infinity, and unless all parameters are float32.
        """
        self.check_values()
        trained = [b for b in self.network.weighted if _key(b) in self.layers]
        channels = {}
        for block in trained:
            if block is not self.network.last:
                unit = self._channels[block.name].unit
                offset = np.broadcast_to(self._offsets(block.name) * unit, unit.shape)
                channels[block.name] = Channels(unit * self._shares(block.name), offset)
        ranges = {
            block.name: self.quantizer(block).range()
            for block in self.network.blocks
            if _key(block) in self.quantizers
        }
        for name, ratio in self._ratios.items():
            if ratio != 1.0:
                steps = (1 << self.plan.activations[self.network.by_name[name].tensor]) - 1
                ranges[name] = (0.0, float(self.step_of(name)) * steps)
        return QuantizationResult(
            self.plan,
            {block.name: self.real_layer(block) for block in trained},
            ranges,
            self.network.input_spec,
            self.rounding,
            {"retrained": True},
            channels,
        )

    def check_values(self) -> None:
        """Raise InvalidValueError unless all parameters are finite float32 numbers."""
        names = {_key(block): block.name for block in self.network.blocks}
        for path, tensor in self.state_dict().items():
            _, key, kind = path.split(".", 2)
            what = f"retrained layer {names[key]}: {kind}"
            if tensor.dtype != torch.float32:
                raise InvalidValueError(f"{what} is {tensor.dtype}; call model.float() first")
            fix = "the training diverged: go back to a checkpoint, or take a lower rate"
            check_finite(what, tensor.cpu().numpy(), fix)


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
        trained. Of the first layers only, the others stay float. Without it: the float weights and
        calibrated ranges.
    mode: weight ranges without ``start``: "min_max" (per channel) or "learned_range" (per layer).
    rounding: of activations, "floor" (the paper's) or "nearest"; with ``start`` its own.
    """
    network = model if isinstance(model, FloatNetwork) else model.network
    if start is None:
        return QatNetwork(network, nearest_result(network, plan, rounding), mode, rounding)
    start.check_begins(network)
    return QatNetwork(network, start, "on_grid", start.rounding)


def convert(model: QatNetwork) -> IntegerNetwork:
    """The integer program of a trained module, bit for bit; ``.result`` is what ``build`` takes."""
    return IntegerNetwork(model.network, model.result())


def _key(block: Block) -> str:
    return block.name.replace(".", "__")


def _ratio_of_steps(network: FloatNetwork, pool: Block, start: QuantizationResult) -> float:
    """Step of a pool's output over that of its input."""
    if pool.name not in start.ranges:
        return 1.0
    (name,) = pool.inputs
    while name not in start.ranges:
        (name,) = network.by_name[name].inputs
    return start.ranges[pool.name][1] / start.ranges[name][1]
