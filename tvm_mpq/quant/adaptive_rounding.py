"""Adaptive rounding: codes of narrow weights refined block by block against the float network.

A block is a layer that mixes channels with the depthwise layers right before it. Each of its codes
may stay what the reconstruction made it, or move by one towards the float weight; a share between
the two is trained for the output of the whole block and pressed towards 0 or 1 (AdaRound, arXiv
2004.10568, on blocks as in BRECQ, arXiv 2102.05426), on what the blocks before it really give. No
labels. What does not lower the error on held-out images is taken back.

Memory: the inputs and outputs of a block for all images in float16, at most ``IMAGE_BYTES`` each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.progress import track
from tvm_mpq.quant.checkpoint import Checkpoint, Solved
from tvm_mpq.quant.float_network import FloatTeacher, real_images
from tvm_mpq.quant.icn import RealLayer
from tvm_mpq.quant.network import WEIGHTED, Block, FloatNetwork
from tvm_mpq.quant.qat import QatLayer, prepare
from tvm_mpq.quant.reconstruct import fingerprint
from tvm_mpq.quant.result import Channels, QuantizationResult

IMAGE_BYTES = 512 << 20
_HELD_OUT = 8  # every so many images one is held out
_EVALUATED = 32  # images at a time
_WARM_UP = 0.2  # share of the steps without pressure
_SHARPENING = 0.4  # share of the steps in which the pressure reaches from the ends to the middle
_STRETCH = 0.1


@dataclass(frozen=True)
class AdaptiveOptions:
    """How long and how fast.

    Attributes
    ----------
    steps: of Adam, for each block. batch: images a step. rate: of the shares. pressure: weight of
        the term that presses shares to 0 or 1, beside the output's error relative to the start's.
    seed: of the order of images.
    """

    steps: int = 500
    batch: int = 16
    rate: float = 0.05
    pressure: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or not self.rate > 0:
            raise InvalidValueError(
                f"adaptive rounding: steps {self.steps}, batch {self.batch}, rate {self.rate};"
                " expected positive numbers"
            )


def adapt_rounding(
    network: FloatNetwork,
    start: QuantizationResult,
    images: npt.NDArray[np.uint8],
    options: AdaptiveOptions | None = None,
    checkpoint: Path | None = None,
) -> QuantizationResult:
    """Better codes and offsets for the layers of ``start`` with weights below 8 bits.

    Parameters
    ----------
    start: of ``reconstruct``; its grids, ranges and units per channel stay.
    images: uint8 [N, H, W, C], unlabelled. checkpoint: a folder where every finished layer is
        kept; the same call continues there.

    Raises InvalidValueError: fewer than two batches of images, or a foreign checkpoint.
    """
    options = options or AdaptiveOptions()
    largest = max(int(np.prod(block.shape)) for block in network.blocks)
    images = images[: max(1, IMAGE_BYTES // (2 * largest))]
    if len(images) < 2 * options.batch:
        raise InvalidValueError(
            f"adaptive rounding: {len(images)} images; expected at least {2 * options.batch}, two"
            f" batches of {options.batch}"
        )
    start.check_fits(network)
    store = None
    if checkpoint is not None:
        marks = [
            start.plan.to_json(),
            asdict(options),
            fingerprint(network, images),
            start.digest(),
        ]
        store = Checkpoint(checkpoint, json.dumps(marks))
    return _Adapter(network, start, images, options, store).run()


def blocks_of(network: FloatNetwork) -> Iterator[list[Block]]:
    """The layers that are trained together, in order; weightless ones stand alone."""
    group: list[Block] = []
    for index, block in enumerate(network.blocks):
        group.append(block)
        readers = network.readers(block.name)
        feeds_next = len(readers) == 1 and readers[0] is network.blocks[index + 1]
        if block.op == "depthwise_conv2d" and feeds_next and readers[0].op in WEIGHTED:
            continue
        yield group
        group = []


class SoftRounding(nn.Module):
    """Stands in for a layer's weight quantizer: code + share * direction, with a trained share.

    ``share`` is a logit; its sigmoid is stretched and clipped, so that 0 and 1 are reached.
    """

    code: torch.Tensor
    direction: torch.Tensor

    def __init__(self, layer: QatLayer, weights: torch.Tensor) -> None:
        super().__init__()
        self.bits, self._grid = layer.quantizer.bits, layer.quantizer.grid(layer.weight)
        scale, zero = (v[:, None, None, None] for v in self._grid)
        code = torch.round(layer.weight / scale) + zero
        distance = weights / scale + zero - code
        direction = torch.sign(distance)
        moved = code + direction
        inside = (moved >= 0) & (moved <= (1 << self.bits) - 1)
        self.register_buffer("code", code)
        self.register_buffer("direction", direction * inside)
        start = distance.abs().clamp(0.05, 0.5)
        inner = (start + _STRETCH) / (1 + 2 * _STRETCH)
        self.share = nn.Parameter(torch.log(inner / (1 - inner)))

    def grid(self, _weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(scale, zero point) [O]."""
        return self._grid

    def forward(self, _weights: torch.Tensor) -> torch.Tensor:
        """Real weights between two codes."""
        return self._real(self._shares())

    def hard(self) -> torch.Tensor:
        """Real weights on the grid."""
        return self._real(torch.round(self._shares())).detach()

    def undecided(self, sharpness: float) -> torch.Tensor:
        """1 where a share is a half, 0 where it is 0 or 1, in the mean."""
        return (1 - (2 * self._shares() - 1).abs() ** sharpness).mean()

    def _shares(self) -> torch.Tensor:
        stretched = torch.sigmoid(self.share) * (1 + 2 * _STRETCH) - _STRETCH
        return stretched.clamp(0.0, 1.0)

    def _real(self, shares: torch.Tensor) -> torch.Tensor:
        scale, zero = (v[:, None, None, None] for v in self._grid)
        return (self.code + shares * self.direction - zero) * scale


class _Adapter:
    def __init__(
        self,
        network: FloatNetwork,
        start: QuantizationResult,
        images: npt.NDArray[np.uint8],
        options: AdaptiveOptions,
        store: Checkpoint | None,
    ) -> None:
        self._network, self._start, self._options, self._store = network, start, options, store
        self._narrow = {name for name, bits in start.plan.weights.items() if bits < 8}
        self._done = self._stored()
        self._student = prepare(network, start.plan, self._with_done()).requires_grad_(False)
        self._teacher = FloatTeacher(network)
        channels = start.channels_of(network)
        self._units = {name: torch.from_numpy(one.unit).float() for name, one in channels.items()}
        real = real_images(torch.from_numpy(np.ascontiguousarray(images)), network.input_spec)
        self._found = {network.input: real.half()}
        self._wanted = {network.input: real.half()}
        # Which images are held out.
        self._held_out = torch.arange(len(images)) % _HELD_OUT == 0

    def run(self) -> QuantizationResult:
        """Every block in order."""
        index, last_use = -1, self._network.last_use()
        for group in track(list(blocks_of(self._network)), "adapting the rounding"):
            targets = self._advance_teacher(group)
            trained = self._trained(group)
            if {block.name for block in trained} - set(self._done):
                self._train(group, targets)
                self._keep(trained)
            index += len(group)
            self._found[group[-1].name] = self._outputs(group, torch.arange(len(targets)))
            self._wanted[group[-1].name] = targets
            for name in [n for n in self._found if last_use.get(n, index + 1) <= index]:
                del self._found[name], self._wanted[name]
        method = self._start.method | {"adaptive_rounding": asdict(self._options)}
        return replace(self._with_done(), method=method)

    def _trained(self, group: list[Block]) -> list[Block]:
        """Its layers if any has narrow weights; the offsets of 8-bit ones move as well."""
        layers = [block for block in group if block.op in WEIGHTED]
        return layers if any(block.name in self._narrow for block in layers) else []

    def _train(self, group: list[Block], targets: torch.Tensor) -> None:
        """Shares, then codes, of the narrow layers; back to the start if that did not help."""
        held_out = self._held_out.nonzero().flatten()
        before = self._error(group, targets, held_out)
        layers = [self._student.layer(block) for block in self._trained(group)]
        saved = [(layer.weight.clone(), layer.h.clone()) for layer in layers]
        narrow = [layer for layer in layers if layer.block.name in self._narrow]
        grids = [layer.quantizer for layer in narrow]
        soft = [SoftRounding(layer, self._float_weights(layer.block)) for layer in narrow]
        for layer, shares in zip(narrow, soft, strict=True):
            layer.quantizer = shares  # type: ignore[assignment]
        self._descend(group, targets, soft, before / len(held_out))
        for layer, grid, shares in zip(narrow, grids, soft, strict=True):
            layer.weight.copy_(shares.hard())
            layer.quantizer = grid
        for layer in layers:
            layer.requires_grad_(False)
        if self._error(group, targets, held_out) >= before:
            for layer, (weight, h) in zip(layers, saved, strict=True):
                layer.weight.copy_(weight)
                layer.h.copy_(h)

    def _descend(
        self, group: list[Block], targets: torch.Tensor, soft: list[SoftRounding], error: float
    ) -> None:
        options = self._options
        seen = (~self._held_out).nonzero().flatten()
        optimizer = torch.optim.Adam(self._parameters(group, soft))
        generator = torch.Generator().manual_seed(options.seed)
        for step in range(options.steps):
            chosen = seen[torch.randperm(len(seen), generator=generator)[: options.batch]]
            loss = self._loss(group, targets, chosen) / (error + 1e-12)
            done = step / options.steps
            if done > _WARM_UP:
                sharpness = max(2.0, 20.0 - 18.0 * (done - _WARM_UP) / _SHARPENING)
                loss = loss + options.pressure * sum(one.undecided(sharpness) for one in soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _parameters(self, group: list[Block], soft: list[SoftRounding]) -> list[dict[str, object]]:
        rate = self._options.rate
        found: list[dict[str, object]] = [{"params": [one.share for one in soft], "lr": rate}]
        for block in self._trained(group):
            h = self._student.layer(block).h.requires_grad_(True)
            last = block is self._network.last
            spread = 1.0 if last else float(self._student.step_of(block.name).mean())
            found.append({"params": [h], "lr": 0.1 * rate * spread})
        return found

    def _float_weights(self, block: Block) -> torch.Tensor:
        """The float weights in the units of the layer's input channels."""
        assert block.weights is not None
        units = self._units[block.inputs[0]]
        weights = torch.from_numpy(block.weights)
        return weights * (units[:, None, None, None] if block.groups > 1 else units[:, None, None])

    def _loss(self, group: list[Block], targets: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the block's output, in the float network's units."""
        found = self._student.in_float_units(group[-1].name, self._forward(group, rows))
        return ((found - targets[rows].float()) ** 2).mean()

    def _forward(self, group: list[Block], rows: torch.Tensor) -> torch.Tensor:
        inputs = [self._found[name][rows].float() for name in group[0].inputs]
        for block in group:
            inputs = [self._student.run_block(block, inputs)]
        return inputs[0]

    @torch.no_grad()
    def _error(self, group: list[Block], targets: torch.Tensor, rows: torch.Tensor) -> float:
        parts = rows.split(_EVALUATED)
        return sum(float(self._loss(group, targets, part)) * len(part) for part in parts)

    @torch.no_grad()
    def _outputs(self, group: list[Block], rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._forward(group, part).half() for part in rows.split(_EVALUATED)])

    @torch.no_grad()
    def _advance_teacher(self, group: list[Block]) -> torch.Tensor:
        parts = []
        for rows in torch.arange(len(self._held_out)).split(_EVALUATED):
            inputs = [self._wanted[name][rows].float() for name in group[0].inputs]
            for block in group:
                inputs = [self._teacher.run_block(block, inputs)]
            parts.append(inputs[0].half())
        return torch.cat(parts)

    def _stored(self) -> dict[str, RealLayer]:
        """Layers of finished blocks; half a block would start from other codes than before."""
        found: dict[str, RealLayer] = {}
        for group in blocks_of(self._network) if self._store else ():
            assert self._store is not None
            names = [block.name for block in self._trained(group)]
            kept = {name: self._store.read(name) for name in names}
            if all(kept.values()):
                found |= {name: one.layer for name, one in kept.items() if one}
        return found

    def _keep(self, blocks: list[Block]) -> None:
        for block in blocks:
            layer = self._student.real_layer(block)
            self._done[block.name] = layer
            if self._store:
                self._store.write(Solved(layer, Channels.plain(0), (0.0, 0.0)))

    def _with_done(self) -> QuantizationResult:
        return replace(self._start, layers=self._start.layers | self._done)
