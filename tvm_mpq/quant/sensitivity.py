"""What each narrower tensor costs, measured: divergence of the logits from the float network's.

One tensor at a time is narrowed in the 8-bit integer network; the network runs again from there on
calibration images. Damages are taken to add up, which the bit search needs and which holds well
enough while they are small (HAWQ, arXiv 1905.03696, and AdaQuant's IP, arXiv 2006.10518).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import convert, read_json, write_text
from tvm_mpq.finite import check_finite
from tvm_mpq.progress import track
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.calibration import rounding_shift
from tvm_mpq.quant.float_network import FloatTeacher, real_images
from tvm_mpq.quant.icn import RealLayer
from tvm_mpq.quant.integer_network import IntegerNetwork, make_step
from tvm_mpq.quant.network import KEEPS_RANGE, WEIGHTED, Block, FloatNetwork
from tvm_mpq.quant.reconstruct import fingerprint
from tvm_mpq.quant.result import QuantizationResult, nearest_result
from tvm_mpq.quant.weight_rounding import Covariance, rounded
from tvm_mpq.specs import WEIGHT_WIDTHS, WIDTHS, check_width, weight_widths

DAMAGE_VERSION = 2
_BATCH = 4
_COVARIANCE_POSITIONS = 100_000


@dataclass(frozen=True)
class DamageTable:
    """Mean divergence in nats that narrowing one tensor adds, by name and width.

    Attributes
    ----------
    weights: layer name -> width -> damage; activations: tensor name -> width -> damage. Width 8
        is 0 and is left out. Tensors that must keep 8 bits are absent.
    baseline: divergence of the 8-bit network. images: how many were measured.
    multipliers: what 16-bit multipliers in all layers add.
    """

    weights: dict[str, dict[int, float]]
    activations: dict[str, dict[int, float]]
    baseline: float
    images: int
    multipliers: float = 0.0

    def __post_init__(self) -> None:
        for field in ("baseline", "multipliers"):
            check_finite(f"damage table: {field}", getattr(self, field), "measure again")
        for kind in ("weights", "activations"):
            for name, costs in getattr(self, kind).items():
                for bits, cost in costs.items():
                    allowed = WEIGHT_WIDTHS if kind == "weights" else WIDTHS
                    check_width(f"damage table: {kind}[{name!r}]", bits, allowed)
                    if not np.isfinite(cost):
                        raise InvalidValueError(
                            f"damage table: {kind}[{name!r}] at {bits} bits is {cost}; expected a"
                            " finite number; measure again"
                        )

    def of_plan(self, plan: BitPlan) -> float:
        """The sum of the damages of a plan; with any 16-bit multiplier, that of all of them."""
        pairs = ((self.weights, plan.weights), (self.activations, plan.activations))
        return self.multipliers * (16 in plan.multipliers.values()) + sum(
            table[name][bits]
            for table, widths in pairs
            for name, bits in widths.items()
            if bits in table.get(name, {})
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"version": DAMAGE_VERSION} | asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> DamageTable:
        """Inverse of ``to_json``. Raises InvalidValueError."""
        try:
            if data["version"] != DAMAGE_VERSION:
                raise InvalidValueError(
                    f"damage table: version {data['version']!r}; this release reads"
                    f" {DAMAGE_VERSION}; measure again"
                )
            weights, activations = (
                {n: {int(b): float(v) for b, v in costs.items()} for n, costs in data[kind].items()}
                for kind in ("weights", "activations")
            )
            baseline, images = float(data["baseline"]), int(data["images"])
            multipliers = float(data.get("multipliers", 0.0))
            return DamageTable(weights, activations, baseline, images, multipliers)
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidValueError(f"damage table: not one ({error!r}); measure again") from None


def measure_damage(
    network: FloatNetwork,
    plan: BitPlan,
    images: npt.NDArray[np.uint8],
    cache: Path | None = None,
    widths: tuple[int, ...] = WIDTHS,
    activations: bool = True,
    multipliers: bool = False,
) -> DamageTable:
    """Measure every tensor at every width below 8.

    Parameters
    ----------
    plan: all 8 bits. images: uint8 [N, H, W, C], 64 to 256 of them. cache: a JSON file that is
        kept up to date; a second call with the same network and images continues from it.
    widths: of weights.
    activations: False where the RAM asks for no cut: weights only, and activations stay 8 bits.
    multipliers: measure 16-bit multipliers as well, all layers at once.

    The even images give the covariances that the weights are rounded for, the odd ones the
    divergences: a rounding looks harmless on the very images it was made for. Runs the tail of the
    network once per tensor and width: for MobileNetV1 about a quarter of 108 * N forward passes.
    """
    with torch.no_grad():
        return _Meter(network, plan, images, cache, widths).measure(activations, multipliers)


class _Meter:
    def __init__(
        self,
        network: FloatNetwork,
        plan: BitPlan,
        images: npt.NDArray[np.uint8],
        cache: Path | None,
        widths: tuple[int, ...],
    ) -> None:
        self._network, self._plan, self._cache = network, plan, cache
        self._widths = [bits for bits in sorted(widths, reverse=True) if bits < 8]
        if len(images) < 2:
            raise InvalidValueError(
                f"sensitivity: {len(images)} images; expected at least 2, typically 256"
            )
        self._images = torch.from_numpy(np.ascontiguousarray(images))
        self._index = {block.name: i for i, block in enumerate(network.blocks)}
        self._key = hashlib.sha256(
            json.dumps([DAMAGE_VERSION, fingerprint(network, images), plan.to_json()]).encode()
        ).hexdigest()
        self._known: dict[str, float] = self._read_cache()

    def measure(self, with_activations: bool, with_multipliers: bool) -> DamageTable:
        weights: dict[str, dict[int, float]] = {b.name: {} for b in self._network.weighted}
        activations: dict[str, dict[int, float]] = {
            b.tensor: {}
            for b in self._network.blocks[:-1]
            if with_activations and b.op not in KEEPS_RANGE
        }
        wanted = [
            ("weights", block.name, bits)
            for block in self._network.weighted
            for bits in weight_widths(block.kernel_op, self._widths)
        ]
        wanted += [("activations", name, bits) for name in activations for bits in WIDTHS[1:]]
        narrow = [("multipliers", "all", 16)] if with_multipliers else []
        missing = [i for i in wanted + narrow if ":".join(map(str, i)) not in self._known]
        if missing or "baseline" not in self._known:
            self._prepare()
        for item in track(missing, "measuring sensitivity"):
            self._known[":".join(map(str, item))] = self._divergence_with(*item)
            self._write_cache()
        baseline = self._known["baseline"]
        for kind, name, bits in wanted:
            table = weights if kind == "weights" else activations
            # Noise may make a narrow tensor look better than a wide one: never reward it.
            found = max(self._known[f"{kind}:{name}:{bits}"] - baseline, 0.0)
            table[name][bits] = max(found, *table[name].values(), 0.0)
        added = max(self._known["multipliers:all:16"] - baseline, 0.0) if narrow else 0.0
        return DamageTable(weights, activations, baseline, len(self._images), added)

    def _prepare(self) -> None:
        """The float logits, the covariances of all inputs, the codes of the 8-bit network."""
        network = self._network
        self._teacher = FloatTeacher(network)
        self._result = nearest_result(network, self._plan)
        self._integer = IntegerNetwork(network, self._result, fast=True)
        covariances = {block.name: Covariance(block) for block in network.weighted}
        logits = []
        self._codes: list[dict[str, torch.Tensor]] = []
        for batch in self._images[::2].split(_BATCH):
            self._teacher_batch(batch, covariances)
        for batch in self._images[1::2].split(_BATCH):
            logits.append(self._teacher(batch))
            values = {network.input: batch.permute(0, 3, 1, 2)}
            for block, step in zip(network.blocks, self._integer.steps, strict=True):
                values[block.name] = step([values[name] for name in block.inputs])
            self._codes.append(values)
        self._logits = torch.cat(logits).log_softmax(1)
        self._squares = {name: found.square for name, found in covariances.items()}
        found = torch.cat([v[network.last.name].flatten(1) for v in self._codes])
        self._known["baseline"] = self._divergence(found * self._integer.logits_scale)

    def _teacher_batch(self, batch: torch.Tensor, covariances: dict[str, Covariance]) -> None:
        readers: dict[str, list[Block]] = {}
        for block in self._network.weighted:
            readers.setdefault(block.inputs[0], []).append(block)

        def see(name: str, tensor: torch.Tensor) -> None:
            for block in readers.get(name, []):
                covariance = covariances[block.name]
                if covariance.count < _COVARIANCE_POSITIONS:
                    covariance.update(tensor)

        see(self._network.input, real_images(batch, self._network.input_spec))
        self._teacher(batch, lambda block, y: see(block.name, y))

    def _divergence(self, logits: torch.Tensor) -> float:
        student = logits.double().log_softmax(1)
        teacher = self._logits.double()
        return float(functional.kl_div(student, teacher, reduction="batchmean", log_target=True))

    def _divergence_with(self, kind: str, name: str, bits: int) -> float:
        if kind == "multipliers":
            return self._divergence_with_multipliers(bits)
        if kind == "weights":
            changed = self._narrow_weights(name, bits)
            replaced = [name]
        else:
            changed = self._narrow_activation(name, bits)
            made = [b.name for b in self._network.blocks if b.tensor == name]
            reading = [b.name for b in self._network.blocks if set(b.inputs) & set(made)]
            replaced = sorted({*made, *reading}, key=lambda n: self._index[n])
        original = {n: self._integer.steps[self._index[n]] for n in replaced}
        quantizations = self._network.quantizations(changed.plan, changed.ranges)
        for n in replaced:
            block = self._network.by_name[n]
            step = make_step(block, changed, quantizations, block is self._network.last, True)
            self._integer.steps[self._index[n]] = step
        start = self._index[replaced[0]]
        scale = self._integer.last_scale
        logits = torch.cat([self._integer.run_from(start, values) for values in self._codes])
        for n, step in original.items():
            self._integer.steps[self._index[n]] = step
        return self._divergence(logits * scale)

    def _divergence_with_multipliers(self, bits: int) -> float:
        plan = replace(self._plan, multipliers=dict.fromkeys(self._plan.weights, bits))
        integer = IntegerNetwork(self._network, replace(self._result, plan=plan), fast=True)
        image = self._network.input
        logits = [integer.run_from(0, {image: values[image]}) for values in self._codes]
        return self._divergence(torch.cat(logits) * integer.logits_scale)

    def _narrow_weights(self, name: str, bits: int) -> QuantizationResult:
        layer = rounded_layer(self._network.by_name[name], self._squares[name], bits)
        plan = replace(self._plan, weights=self._plan.weights | {name: bits})
        return replace(self._result, plan=plan, layers=self._result.layers | {name: layer})

    def _narrow_activation(self, name: str, bits: int) -> QuantizationResult:
        plan = replace(self._plan, activations=self._plan.activations | {name: bits})
        made = [b for b in self._network.blocks[:-1] if b.tensor == name]
        limits = {b.name: b.range(bits) for b in made if b.op not in KEEPS_RANGE}
        return replace(self._result, plan=plan, ranges=self._result.ranges | limits)

    def _read_cache(self) -> dict[str, float]:
        if self._cache is None or not self._cache.exists():
            return {}
        key, damage = read_damages(self._cache)
        return damage if key == self._key else {}

    def _write_cache(self) -> None:
        if self._cache is None:
            return
        write_text(self._cache, json.dumps({"key": self._key, "damage": self._known}))


@dataclass(frozen=True)
class _Kept:
    """The file of damages; ``key`` tells what they were measured with."""

    key: str
    damage: dict[str, float]


def read_damages(path: Path) -> tuple[str, dict[str, float]]:
    """(what tells the run, damages) of a file that a run keeps; InvalidValueError if damaged."""
    try:
        kept = convert(read_json(path), _Kept, "damages")
        return kept.key, kept.damage
    except InvalidValueError as error:
        raise InvalidValueError(f"{path}: damaged ({error}); remove it") from None


def rounded_layer(block: Block, square: torch.Tensor, bits: int) -> RealLayer:
    """GPTQ-class codes of one layer whose inputs have covariance ``square`` [G, K, K]."""
    assert block.op in WEIGHTED and block.weights is not None
    assert block.g is not None and block.h is not None and block.x_means is not None
    weights = torch.from_numpy(block.weights).double().reshape(len(square), -1, square.shape[1])
    found, grid = rounded(weights, square, bits)
    codes = found.reshape(block.weights.shape).numpy().astype(np.uint8)
    zw = grid.zero.reshape(-1).numpy().astype(np.uint8)
    sw = grid.scale.reshape(-1).numpy().astype(np.float64)
    shift = rounding_shift(block.weights, codes, zw, sw, block.x_means)
    return RealLayer(block.name, codes, zw, sw, block.g, block.h - block.g * shift)
