"""Post-training reconstruction: layer by layer, against the float network, without labels.

Each layer sees the codes that the layers before it really give. In order: weights are rounded for
their output (``weight_rounding``), the scale per channel is refit, the offset makes the mean output
that of the float layer, then units and offsets per channel and the range of the output are set
(``activation_ranges``). The result is exact integers; nothing is trained.

Memory: the codes and the float16 reference of one layer's input and output for all images, and
float32 samples of at most ``SAMPLE_BYTES``. A run continues from its checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tvm_mpq.errors import CalibrationError, InvalidValueError
from tvm_mpq.progress import track
from tvm_mpq.quant.activation_ranges import (
    channel_offsets,
    channel_units,
    matching_offset,
    output_range,
    sample,
)
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.checkpoint import Checkpoint, Solved
from tvm_mpq.quant.float_network import FloatTeacher, activate, real_images, weightless
from tvm_mpq.quant.icn import RealLayer
from tvm_mpq.quant.integer_network import JoinStep, PoolStep, convolve, weighted_step
from tvm_mpq.quant.network import KEEPS_RANGE, WEIGHTED, Block, FloatNetwork
from tvm_mpq.quant.quantization import Quantization
from tvm_mpq.quant.result import Channels, QuantizationResult, Range
from tvm_mpq.quant.weight_rounding import Covariance, rounded, target_weights

SAMPLE_BYTES = 64 << 20
COVARIANCE_POSITIONS = 300_000
_BATCH = 5


@dataclass(frozen=True)
class ReconstructionOptions:
    """Which steps are taken; the defaults are the best found on held-out calibration images.

    Attributes
    ----------
    rounding_of_weights: "gptq" or "nearest". bias: match the mean outputs of the float network.
    equalize, equalize_narrow: exponents of cross-layer equalization, 0 for none, 0.5 for half of
        the ratio; of 8-bit activations, and of narrower ones, which lose more than weights do.
    channel_clips: a clip per channel before depthwise layers, and of narrow activations before
        layers with 8-bit weights. channel_offsets: code 0 of narrow activations stands for another
        value in each channel, where no reader has a border.
    asymmetric: round towards the weights that are best on quantized inputs, not the float ones.
        Not in the classifier: it would learn the few images by heart, one position each.
    refit: fit the scale of each channel to its codes. search: look for better weight ranges and
        codes below 8 bits than GPTQ and descent find (``weight_rounding.rounded``).
    range_method: "mse" or "max".
    rounding: of activations, "nearest" or "floor".
    """

    rounding_of_weights: str = "gptq"
    bias: bool = True
    equalize: float = 0.5
    equalize_narrow: float = 0.75
    channel_clips: bool = True
    channel_offsets: bool = True
    asymmetric: bool = True
    refit: bool = True
    search: bool = True
    range_method: str = "mse"
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("rounding_of_weights", ("gptq", "nearest")),
            ("range_method", ("mse", "max")),
            ("rounding", ("nearest", "floor")),
        ):
            if getattr(self, name) not in allowed:
                raise InvalidValueError(
                    f"reconstruction: {name} {getattr(self, name)!r}; allowed are"
                    f" {' and '.join(allowed)}"
                )
        for name in ("equalize", "equalize_narrow"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidValueError(
                    f"reconstruction: {name} {getattr(self, name)!r}; expected 0 (off) to 1"
                )


def reconstruct(
    network: FloatNetwork,
    plan: BitPlan,
    images: npt.NDArray[np.uint8],
    options: ReconstructionOptions | None = None,
    checkpoint: Path | None = None,
    start: QuantizationResult | None = None,
    until: str | None = None,
) -> QuantizationResult:
    """Weights, offsets and ranges for ``plan`` from unlabelled uint8 images [N, H, W, C].

    Deterministic. Where the inputs of a layer never change (one image, or copies of one) nothing
    can be learned: its weights are rounded to nearest, which a warning and ``method`` tell.

    Parameters
    ----------
    checkpoint: a folder where every finished layer is kept; a second call with the same network,
        plan, images, options and start continues there.
    start: of the first layers, perhaps retrained; they stay as they are. until: the last block to
        reconstruct; the result is a beginning, for ``qat.prepare`` or as ``start``.

    Raises CalibrationError for images of a wrong shape; InvalidValueError for a foreign checkpoint,
    a start of another network or rounding, and an unknown ``until``.
    """
    options = options or ReconstructionOptions()
    channels, height, width = network.input_shape
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels) or not len(images):
        raise CalibrationError(
            f"reconstruction: images are {images.dtype} {list(images.shape)}; expected uint8"
            f" [N, {height}, {width}, {channels}], typically 500 of them"
        )
    names = [block.name for block in network.blocks]
    if until is not None and until not in names:
        raise InvalidValueError(f"reconstruction: until {until!r}; expected one of {names}")
    if start is not None:
        start.check_begins(network)
        if start.rounding != options.rounding:
            raise InvalidValueError(
                f"reconstruction: the start rounds {start.rounding!r}, the options say"
                f" {options.rounding!r}; expected the same"
            )
    store = None
    if checkpoint is not None:
        marks = [plan.to_json(), asdict(options), fingerprint(network, images)]
        store = Checkpoint(checkpoint, json.dumps([*marks, start.digest() if start else ""]))
    with torch.no_grad():
        return _Reconstructor(network, plan, images, options, store, start).run(until)


def fingerprint(network: FloatNetwork, images: npt.NDArray[np.uint8]) -> str:
    """A digest of a network and images: what belongs to them can be told from what does not."""
    digest = hashlib.sha256(images.tobytes())
    for block in network.blocks:
        digest.update(f"{block.name} {block.op} {block.inputs}".encode())
        for array in (block.weights, block.g, block.h):
            digest.update(b"" if array is None else array.tobytes())
    return digest.hexdigest()


class _Reconstructor:
    def __init__(
        self,
        network: FloatNetwork,
        plan: BitPlan,
        images: npt.NDArray[np.uint8],
        options: ReconstructionOptions,
        store: Checkpoint | None,
        start: QuantizationResult | None,
    ) -> None:
        self._network, self._plan, self._options, self._store = network, plan, options, store
        self._start = start
        self._teacher = FloatTeacher(network)
        spec, image = network.input_spec, torch.from_numpy(np.ascontiguousarray(images))
        self._images = len(images)
        self._codes = {network.input: image.permute(0, 3, 1, 2)}
        self._float = {network.input: real_images(image, spec).half()}
        image_quantization = Quantization(spec.scale, spec.zero_point, 8, spec.offset)
        self._quantizations = {network.input: image_quantization}
        self._channels = {network.input: Channels.plain(network.input_shape[0])}
        self._layers: dict[str, RealLayer] = {}
        self._ranges: dict[str, Range] = {}
        self._uninformed: list[str] = []

    def run(self, until: str | None) -> QuantizationResult:
        """Every block in order, or those up to ``until``."""
        started = time.perf_counter()
        last_use = self._network.last_use()
        for index, block in enumerate(track(self._network.blocks, "reconstructing")):
            if block.op in WEIGHTED:
                self._weighted(block)
            elif block.op in KEEPS_RANGE:
                self._pooled(block)
            else:
                self._joined(block)
            for name in block.inputs:
                if last_use[name] <= index:
                    self._codes.pop(name, None)
                    self._float.pop(name, None)
            if block.name == until:
                break
        method: dict[str, Any] = {"reconstruction": asdict(self._options), "images": self._images}
        if self._start is not None:
            method["start"] = self._start.method
        if self._uninformed:
            method["nearest"] = self._uninformed
            warnings.warn(
                f"reconstruction: the inputs of {', '.join(self._uninformed)} are the same in all"
                f" {self._images} images; weights there are rounded to nearest. Give images that"
                " differ, typically 500",
                stacklevel=3,
            )
        method["seconds"] = round(time.perf_counter() - started, 1)
        return QuantizationResult(
            self._plan,
            self._layers,
            self._ranges,
            self._network.input_spec,
            self._options.rounding,
            method,
            {name: self._channels[name] for name in self._layers if name in self._channels},
        )

    def _pooled(self, block: Block) -> None:
        (name,) = block.inputs
        x = self._quantizations[name]
        self._channels[block.name] = self._channels[name]
        y = Quantization(x.scale, x.zero_point, x.bits)
        if block.op == "global_avg_pool" and x.bits < 8 and x.zero_point == 0:
            limits = self._ranges[block.name] = self._range_of_means(block)
            y = Quantization.of_range(*limits, x.bits)
        self._quantizations[block.name] = y
        self._advance(block, PoolStep(block, x, y, True), lambda inputs: weightless(block, inputs))

    def _range_of_means(self, block: Block) -> Range:
        """Means of maps reach less far than the maps: a range of their own is a finer one."""
        if self._start is not None and block.name in self._start.ranges:
            return self._start.ranges[block.name]
        (name,) = block.inputs
        units = torch.from_numpy(self._channels[name].unit).float()
        means = [self._real(name, rows).mean((2, 3), True) for rows in _batches(self._images)]
        values, bits = torch.cat(means) * units[:, None, None], self._plan.activations[block.tensor]
        return output_range(values, units, bits, self._options.range_method)

    def _joined(self, block: Block) -> None:
        sources = [self._quantizations[name] for name in block.inputs]
        bits = self._plan.activations[block.tensor]
        limits = self._ranges[block.name] = block.range(bits)
        y = self._quantizations[block.name] = Quantization.of_range(*limits, bits)
        self._channels[block.name] = Channels.plain(block.shape[0])
        step = JoinStep(block, sources, y, self._options.rounding == "nearest")
        self._advance(block, step, lambda inputs: weightless(block, inputs))

    def _weighted(self, block: Block) -> None:
        is_last = block is self._network.last
        found = self._known(block)
        if found is None:
            found = self._solve(block, is_last)
            if self._store:
                self._store.write(found)
        self._layers[block.name] = found.layer
        if is_last:
            return
        self._channels[block.name], self._ranges[block.name] = found.channels, found.limits
        bits = self._plan.activations[block.tensor]
        y = self._quantizations[block.name] = Quantization.of_range(*found.limits, bits)
        x = self._quantizations[block.inputs[0]]
        step = weighted_step(block, found.layer, x, y, self._options.rounding, fast=True)
        self._advance(block, step, lambda inputs: self._teacher.run_block(block, inputs))

    def _known(self, block: Block) -> Solved | None:
        """What the start or the checkpoint has of a layer."""
        start = self._start
        if start is None or block.name not in start.layers:
            return self._store.read(block.name) if self._store else None
        channels = start.channels.get(block.name, Channels.plain(block.shape[0]))
        limits = start.ranges.get(block.name, (0.0, 1.0))
        return Solved(start.layers[block.name], channels, limits)

    def _solve(self, block: Block, is_last: bool) -> Solved:
        """Codes, scales and offsets of a layer, the units, offsets and range of its output."""
        assert block.g is not None and block.h is not None
        layer = self._rounded_weights(block)
        z, teacher = self._pre_activations(block, layer)
        x = self._channels[block.inputs[0]]
        absorbed = layer.absorbed(x.offset / x.unit, block.groups > 1)
        h = torch.from_numpy(block.h + absorbed).float()
        z += h[:, None, None]
        if self._options.bias:
            shift = (teacher - z).mean((0, 2, 3))
            wanted = activate(block, teacher).mean((0, 2, 3))
            shift += matching_offset(block, z + shift[:, None, None], wanted)
            z += shift[:, None, None]
            h = h + shift
        if is_last:
            channels, limits = Channels.plain(block.shape[0]), (0.0, 1.0)
        else:
            channels, limits = self._output(block, sample(activate(block, z)))
        real = replace(
            layer,
            g=block.g / channels.unit,
            h=(h.double().numpy() - channels.offset) / channels.unit,
        )
        return Solved(real, channels, limits)

    def _rounded_weights(self, block: Block) -> RealLayer:
        """Codes on a grid per channel; g and h are those of the block."""
        assert block.weights is not None and block.g is not None and block.h is not None
        options, bits = self._options, self._plan.weights[block.name]
        covariance = self._covariance(block)
        if covariance.is_empty:
            self._uninformed.append(block.name)
        square = covariance.square
        units = torch.from_numpy(self._channels[block.inputs[0]].unit)
        shaped = units[:, None, None, None] if block.groups > 1 else units[:, None, None]
        real = torch.from_numpy(block.weights).double()
        shape = (covariance.groups, -1, square.shape[1])
        weights = (real * shaped).reshape(shape)
        if self._is_asymmetric(block):
            weights = target_weights(weights, covariance.cross, square)
        method = (options.rounding_of_weights, options.refit, options.search)
        codes, grid = rounded(weights, square, bits, *method)
        return RealLayer(
            block.name,
            codes.reshape(block.weights.shape).numpy().astype(np.uint8),
            grid.zero.reshape(-1).numpy().astype(np.uint8),
            grid.scale.reshape(-1).numpy().astype(np.float64),
            block.g,
            block.h,
        )

    def _is_asymmetric(self, block: Block) -> bool:
        return self._options.asymmetric and block is not self._network.last

    def _covariance(self, block: Block) -> Covariance:
        """Of the inputs of a layer, in units of their own; the cross one where it is asked for."""
        (name,) = block.inputs
        pixels = block.shape[1] * block.shape[2]
        images = min(self._images, max(16, COVARIANCE_POSITIONS // pixels))
        covariance = Covariance(block)
        units = torch.from_numpy(self._channels[name].unit).float()[:, None, None]
        asymmetric = self._is_asymmetric(block)
        for rows in _batches(images):
            wanted = self._float[name][rows].float() / units if asymmetric else None
            covariance.update(self._real(name, rows), wanted)
        return covariance

    def _pre_activations(self, block: Block, layer: RealLayer) -> tuple[torch.Tensor, torch.Tensor]:
        """g * conv of quantized inputs and weights, and the float pre-activations, of samples."""
        (name,) = block.inputs
        images = min(self._images, max(16, SAMPLE_BYTES // (4 * int(np.prod(block.shape)))))
        column = (slice(None), None, None, None)
        centred = layer.codes.astype(np.float64) - layer.zw.astype(np.float64)[column]
        weights = torch.from_numpy(centred * (layer.sw * layer.g)[column]).float()
        z, teacher = [], []
        for rows in _batches(images):
            z.append(convolve(block, self._real(name, rows), weights))
            teacher.append(self._teacher.blocks[block.name](self._float[name][rows].float()))
        return torch.cat(z), torch.cat(teacher)

    def _output(self, block: Block, y: torch.Tensor) -> tuple[Channels, Range]:
        """Units and offsets per channel and range of an output, from samples y [N, C, H, W]."""
        options, bits = self._options, self._plan.activations[block.tensor]
        readers = self._network.readers(block.name)
        units, offsets = torch.ones(block.shape[0]), torch.zeros(block.shape[0])
        has_offsets = False
        if block.activation != "none" and all(reader.op in WEIGHTED for reader in readers):
            borders = any(any(reader.padding) for reader in readers)
            has_offsets = options.channel_offsets and bits < 8 and not borders
            if has_offsets:
                offsets = channel_offsets(y, bits)
                y = (y - offsets[:, None, None]).clamp_(min=0.0)
            separate = all(reader.op == "depthwise_conv2d" for reader in readers)
            # 8-bit weights absorb any units of narrow inputs at no loss: a clip a channel again.
            wide = all(self._plan.weights[reader.name] == 8 for reader in readers)
            separate = separate or (bits < 8 and wide)
            exponent = options.equalize if bits == 8 else options.equalize_narrow
            if separate and options.channel_clips:
                exponent = 1.0
            units = channel_units(y, bits, exponent, options.range_method)
        limits = output_range(y, units, bits, options.range_method)
        if has_offsets and block.copies:
            # Half a step from the channels that they repeat: the mean of both is finer.
            step = units * (limits[1] - limits[0]) / ((1 << bits) - 1)
            offsets[-block.copies :] += 0.5 * step[-block.copies :]
        if block.activation == "clip" and offsets.any():
            # The clamp of the codes is the only one: the largest must not lie beyond the clip.
            units = torch.minimum(units, (block.clip_max - offsets) / limits[1])
        return Channels(units.double().numpy(), offsets.double().numpy()), limits

    def _real(self, name: str, rows: slice) -> torch.Tensor:
        """Quantized values of a tensor in units of its channels, float32 [n, C, H, W].

        Without the offsets of its channels, which their readers absorb.
        """
        quantization = self._quantizations[name]
        centred = self._codes[name][rows].float() - quantization.zero_point
        return centred * quantization.scale + quantization.offset

    def _advance(
        self,
        block: Block,
        step: Callable[[list[torch.Tensor]], torch.Tensor],
        teacher: Callable[[list[torch.Tensor]], torch.Tensor],
    ) -> None:
        codes = torch.empty((self._images, *block.shape), dtype=torch.uint8)
        real = torch.empty((self._images, *block.shape), dtype=torch.float16)
        for rows in _batches(self._images):
            codes[rows] = step([self._codes[name][rows] for name in block.inputs])
            real[rows] = teacher([self._float[name][rows].float() for name in block.inputs]).half()
        self._codes[block.name], self._float[block.name] = codes, real


def _batches(images: int) -> Iterator[slice]:
    return (slice(start, min(start + _BATCH, images)) for start in range(0, images, _BATCH))
