"""A training loop for quantized networks: distillation, schedules, exact resume, several processes.

Every process of a distributed run sees its share of each batch; gradients are averaged, so that two
processes with half the batch make the same steps as one. A run is a folder: ``checkpoint.pt`` and
``metrics.csv``. The same command continues it, to the bit on the same machine.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import write_bytes
from tvm_mpq.quant.float_network import FloatTeacher, Observer
from tvm_mpq.quant.metrics import METRICS_FILE, keep_metrics
from tvm_mpq.quant.network import KEEPS_RANGE, Block, FloatNetwork
from tvm_mpq.quant.qat import QatLayer, QatNetwork
from tvm_mpq.quant.quantizers import ChannelQuantizer
from tvm_mpq.zips import read_members

Outputs = dict[str, torch.Tensor]

TRAINED = ("all", "narrow", "features")
RATE_UNITS = ("absolute", "steps")
# With rates in steps: the rate of each kind of parameter beside that of the weights. A weight has
# to travel half a step before its code changes; everything else acts at once, on a whole channel.
_SHARES = {"weight": 1.0, "h": 0.2, "g": 0.05, "alpha": 0.1, "low": 0.1, "high": 0.1}
_SHARES |= {"size": 0.1, "offset": 0.2}  # of activations with a range for each channel


@runtime_checkable
class HasEpochs(Protocol):
    """A dataset that shows other views of its images in every epoch, the same ones each time."""

    def set_epoch(self, epoch: int) -> None:
        """Called before the first item of an epoch."""


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the paper's (MLSys 2020): Adam, ten epochs of 128 images.

    Attributes
    ----------
    epochs: passes over the data. batch: images a step, over all processes together.
    rates: learning rate from each epoch on, ((epoch, rate), ...), epochs from 0.
    clip_decay, range_decay: weight decay of alphas and of learned weight ranges; nothing else.
    distillation: weight of the divergence from the float network's logits, 0 to 1; the rest is the
        cross entropy with the labels. temperature: of that divergence; with a higher one classes
        count that the float network thinks unlikely, times its square (arXiv 1503.02531).
    matching: weight of the squared error of the outputs between layers, relative to the variance
        of the float network's, in the mean over the layers that mix channels; of means where only
        the mean of a map is read. It keeps a training on few images from overfitting.
    trained: "all"; "narrow": only weights and clips below 8 bits, and the scales g and offsets h
        of every layer; or "features": the same without the classifier, which with few images a
        class would learn these images by heart.
    rate_unit: "absolute"; or "steps": rates are parts of what a parameter is counted in (the step
        of a layer's weights, of its output's codes; its clip; its usual g), so that one rate fits
        every layer and width.
    seed: order of the images. amp: bfloat16 autocast on a GPU (rounding stays float32).
    save_every: steps between checkpoints, 0 for the end of each epoch only.
    """

    epochs: int = 10
    batch: int = 128
    rates: tuple[tuple[int, float], ...] = ((0, 1e-4), (5, 5e-5), (8, 1e-5))
    clip_decay: float = 1e-4
    range_decay: float = 5e-4
    distillation: float = 0.0
    temperature: float = 1.0
    matching: float = 0.0
    trained: str = "all"
    rate_unit: str = "absolute"
    seed: int = 0
    amp: bool = False
    save_every: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise InvalidValueError(
                f"recipe: {self.epochs} epochs, batch {self.batch}; expected positive numbers"
            )
        if not 0.0 <= self.distillation <= 1.0:
            raise InvalidValueError(f"recipe: distillation {self.distillation}; expected 0 to 1")
        if not self.temperature > 0.0:
            raise InvalidValueError(f"recipe: temperature {self.temperature}; expected above 0")
        if not self.matching >= 0.0:
            raise InvalidValueError(f"recipe: matching {self.matching}; expected 0 or more")
        for name, allowed in (("trained", TRAINED), ("rate_unit", RATE_UNITS)):
            if getattr(self, name) not in allowed:
                raise InvalidValueError(
                    f"recipe: {name} {getattr(self, name)!r}; allowed are {' and '.join(allowed)}"
                )
        if not self.rates or self.rates[0][0] != 0:
            raise InvalidValueError(f"recipe: rates {self.rates}; the first must begin at epoch 0")
        numbers = (self.clip_decay, self.range_decay, self.temperature, self.matching)
        for value in (*numbers, *(rate for _, rate in self.rates)):
            if not (math.isfinite(value) and value >= 0.0):
                raise InvalidValueError(
                    f"recipe: {value} among rates {self.rates}, decays, temperature and matching"
                    f" {numbers}; expected finite numbers, 0 or more"
                )

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch."""
        return [rate for start, rate in self.rates if start <= epoch][-1]


def cosine_rates(rate: float, epochs: int) -> tuple[tuple[int, float], ...]:
    """``Recipe.rates`` that fall from ``rate`` to nearly 0 along half a cosine, epoch by epoch."""
    falling = (0.5 * rate * (1.0 + math.cos(math.pi * (e + 0.5) / epochs)) for e in range(epochs))
    return tuple(enumerate(falling))


def fit(
    student: QatNetwork,
    data: Dataset[Any],
    recipe: Recipe,
    folder: Path,
    teacher: nn.Module | None = None,
    workers: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> QatNetwork:
    """Train ``student`` in place on (uint8 [H, W, C], label) pairs, continuing a run in ``folder``.

    ``data`` that draws views at random should have ``set_epoch``, so that a resumed run sees what
    an uninterrupted one would have seen.

    With ``distillation=1`` and no ``teacher`` the labels are the float network's logits, float32
    [classes], so that it runs but once.

    Under torchrun (a process group is initialized) every process calls this with the same
    arguments; the first one writes the files.

    Raises InvalidValueError: distillation without teacher or logits, fewer images than a batch, a
    folder of another recipe.
    """
    if recipe.distillation and teacher is None and not _has_logits(data, recipe):
        raise InvalidValueError(
            "recipe: distillation needs a teacher, the float network; or, as the whole loss, its"
            " logits in the place of labels"
        )
    if recipe.matching and not isinstance(teacher, FloatTeacher):
        raise InvalidValueError("recipe: matching needs the float network as FloatTeacher")
    return _Run(student, data, recipe, folder, teacher, workers).train(on_step)


class _Run:
    def __init__(
        self,
        student: QatNetwork,
        data: Dataset[Any],
        recipe: Recipe,
        folder: Path,
        teacher: nn.Module | None,
        workers: int,
    ) -> None:
        self.student, self.data, self.recipe, self.folder = student, data, recipe, folder
        self.workers = workers
        self.rank, self.world = rank_and_world()
        self.images = len(data)  # type: ignore[arg-type]
        if recipe.batch % self.world or self.images < recipe.batch:
            raise InvalidValueError(
                f"training: {self.images} images, batch {recipe.batch}, {self.world} processes;"
                " expected at least one batch, and a batch that the processes can share evenly"
            )
        self.device = _device(self.rank)
        student.to(self.device)
        self.teacher = teacher.to(self.device).eval() if teacher else None
        self.matched = _matched(student.network) if recipe.matching else []
        self.optimizer = torch.optim.Adam(_groups(student, recipe))
        self.epoch, self.step = 0, 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def train(self, on_step: Callable[[int, float], None] | None) -> QatNetwork:
        """All epochs that are left."""
        steps = self.images // self.recipe.batch
        while self.epoch < self.recipe.epochs:
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.epoch) * group["unit"]
            started = time.perf_counter()
            for images, labels in self._batches(self.epoch, self.step):
                loss = self._one_step(images.to(self.device), labels.to(self.device))
                self.step += 1
                if not math.isfinite(loss):
                    raise InvalidValueError(
                        f"training: the loss is {loss} at step {self.step} of epoch {self.epoch};"
                        f" take a lower rate, or check labels and start; {self.folder} has the"
                        " last checkpoint"
                    )
                row = {
                    "epoch": self.epoch,
                    "step": self.step,
                    "loss": loss,
                    "rate": self.recipe.rate(self.epoch),
                    "seconds": round(time.perf_counter() - started, 2),
                }
                self._log(row)
                if on_step:
                    on_step(self.epoch * steps + self.step, loss)
                if self.recipe.save_every and self.step % self.recipe.save_every == 0:
                    self._save()
            self.epoch, self.step = self.epoch + 1, 0
            self._save()
        return self.student.cpu()

    def _batches(self, epoch: int, done: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's share of each batch of an epoch, from step ``done`` on."""
        if isinstance(self.data, HasEpochs):
            self.data.set_epoch(epoch)
        generator = torch.Generator().manual_seed(self.recipe.seed * 100_003 + epoch)
        order = torch.randperm(self.images, generator=generator)
        share = self.recipe.batch // self.world
        mine = []
        for start in range(0, self.images - self.recipe.batch + 1, self.recipe.batch):
            first = start + self.rank * share
            mine.append(order[first : first + share])
        chosen = torch.cat(mine[done:]).tolist() if mine[done:] else []
        subset = Subset(self.data, chosen)
        return iter(DataLoader(subset, batch_size=share, num_workers=self.workers))

    def _one_step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        device = self.device.type
        found: Outputs = {}
        with torch.autocast(device, torch.bfloat16, enabled=self.recipe.amp and device == "cuda"):
            logits = self.student(images, _collect(found, self.matched)).float()
        loss = self._loss(logits, images, labels, found)
        self.optimizer.zero_grad()
        loss.backward()
        self._average_gradients()
        self.optimizer.step()
        value = loss.detach()
        if self.world > 1:
            distributed.all_reduce(value)
        return float(value) / self.world

    def _loss(
        self, logits: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, found: Outputs
    ) -> torch.Tensor:
        recipe = self.recipe
        loss = logits.new_zeros(())
        if recipe.distillation < 1.0:
            loss = loss + (1.0 - recipe.distillation) * functional.cross_entropy(logits, labels)
        if not recipe.distillation and not recipe.matching:
            return loss
        known, wanted = labels, Outputs()
        if self.teacher is not None:
            with torch.no_grad():
                extra = (_collect(wanted, self.matched),) if recipe.matching else ()
                known = self.teacher(images, *extra)
        if recipe.distillation:
            heat = recipe.temperature
            ours, theirs = ((y.float() / heat).log_softmax(1) for y in (logits, known))
            divergence = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
            loss = loss + recipe.distillation * heat**2 * divergence
        if recipe.matching:
            loss = loss + recipe.matching * self._mismatch(found, wanted)
        return loss

    def _mismatch(self, found: Outputs, wanted: Outputs) -> torch.Tensor:
        """Squared error of the matched outputs over the float ones' variance, in the mean."""
        errors = []
        for name, y in wanted.items():
            error = (self.student.in_float_units(name, found[name]).float() - y).flatten()
            variance = y.var()
            variance = torch.where(variance > 0, variance, torch.ones_like(variance))
            errors.append(error.dot(error) / (y.numel() * variance))
        return torch.stack(errors).mean()

    def _average_gradients(self) -> None:
        if self.world == 1:
            return
        # One call for all of them; the networks are small.
        gradients = [p.grad for p in self.student.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.world
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def _log(self, row: dict[str, Any]) -> None:
        if self.rank:
            return
        path = self.folder / METRICS_FILE
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _save(self) -> None:
        self.student.check_values()
        if not self.rank:
            state = {
                "recipe": asdict(self.recipe),
                "epoch": self.epoch,
                "step": self.step,
                "student": self.student.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            file = io.BytesIO()
            torch.save(state, file)
            write_bytes(self.folder / "checkpoint.pt", file.getvalue())
        if self.world > 1:
            distributed.barrier()

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if path.exists():
            state = _read_state(path, self.device)
            self._check_recipe(path, state["recipe"])
            try:
                self.student.load_state_dict(state["student"])
                self.optimizer.load_state_dict(state["optimizer"])
            except Exception as error:  # torch raises by what differs
                raise InvalidValueError(
                    f"{path}: of another network ({_first_line(error)});"
                    " give another folder, or remove it"
                ) from None
            self.student.check_values()
            self.epoch, self.step = state["epoch"], state["step"]
        if not self.rank:
            keep_metrics(self.folder / METRICS_FILE, self.epoch, self.step)

    def _check_recipe(self, path: Path, found: dict[str, Any]) -> None:
        free = {name: found.get(name) for name in ("epochs", "save_every")}
        if found != asdict(self.recipe) | free:
            raise InvalidValueError(
                f"{path}: trained with recipe {found}, now {asdict(self.recipe)};"
                " give another folder, or remove it"
            )


def _read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint; nothing in it is executed. InvalidValueError for a damaged or foreign file."""
    try:
        members = read_members(path)  # checksums, which torch does not verify
        del members
        state = torch.load(path, map_location=device, weights_only=True)
        kinds = {"recipe": dict, "epoch": int, "step": int, "student": dict, "optimizer": dict}
        if not all(isinstance(state[name], kind) for name, kind in kinds.items()):
            raise InvalidValueError("fields of other types")
        if min(state["epoch"], state["step"]) < 0:
            raise InvalidValueError("a negative epoch or step")
    except Exception as error:  # torch raises whatever its reader meets
        raise InvalidValueError(
            f"{path}: not a checkpoint of a training ({_first_line(error)});"
            " give another folder, or remove it"
        ) from None
    found: dict[str, Any] = state
    return found


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:200]


def _matched(network: FloatNetwork) -> list[str]:
    """The outputs of layers that mix channels, as the next layers read them.

    Most of what the last maps differ by is gone in their means, which are all that is read.
    """
    mixing = (b for b in network.weighted if b.groups == 1 and b is not network.last)
    return [_as_read(network, block.name) for block in mixing]


def _as_read(network: FloatNetwork, name: str) -> str:
    """A tensor, or the pool that alone reads it."""
    readers = [block for block in network.blocks if name in block.inputs]
    if len(readers) == 1 and readers[0].op in KEEPS_RANGE:
        return _as_read(network, readers[0].name)
    return name


def _collect(outputs: Outputs, names: Sequence[str]) -> Observer | None:
    """An observer that keeps the outputs of these blocks; None where nobody looks."""

    def keep(block: Block, y: torch.Tensor) -> None:
        if block.name in names:
            outputs[block.name] = y

    return keep if names else None


def _has_logits(data: Dataset[Any], recipe: Recipe) -> bool:
    label = data[0][1]
    floating = isinstance(label, torch.Tensor) and label.is_floating_point()
    return floating and recipe.distillation == 1.0


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; 0 of 1 without torchrun."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _device(rank: int) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", rank % torch.cuda.device_count())
    return torch.device("cpu")


def _groups(student: QatNetwork, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters with their weight decay and what their rate is counted in.

    Those that the recipe leaves alone get no gradient.
    """
    groups = []
    decays = {"alpha": recipe.clip_decay, "low": recipe.range_decay, "high": recipe.range_decay}
    for name, parameter in student.named_parameters():
        owner, _, kind = name.rpartition(".")
        if recipe.trained != "all":
            parameter.requires_grad_(kind in ("g", "h") or _bits(student, owner) < 8)
        if recipe.trained == "features" and _is_last(student, owner):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            unit = _SHARES[kind] * _step(student, owner, kind) if recipe.rate_unit == "steps" else 1
            decay = decays.get(kind, 0.0)
            groups.append({"params": [parameter], "weight_decay": decay, "unit": unit})
    return groups


def _bits(student: QatNetwork, owner: str) -> int:
    """Width of a layer's weights or of a quantizer's codes, by the name of its module."""
    module = student.get_submodule(owner)
    bits: int = module.quantizer.bits if isinstance(module, QatLayer) else module.bits  # type: ignore[assignment]
    return bits


def _is_last(student: QatNetwork, owner: str) -> bool:
    module = student.get_submodule(owner)
    return isinstance(module, QatLayer) and module.block is student.network.last


def _step(student: QatNetwork, owner: str, kind: str) -> float:
    """What a parameter is counted in: the step of weights or outputs, its own size for the rest."""
    module = student.get_submodule(owner)
    if isinstance(module, QatLayer):
        if kind == "g":
            return float(module.g.detach().abs().median())
        if kind == "weight":
            return float(module.quantizer.grid(module.weight)[0].median())
        return 1.0 if _is_last(student, owner) else float(student.step_of(module.block.name).mean())
    if isinstance(module, ChannelQuantizer):
        return float(module.step.mean())
    return float(module.get_parameter(kind).detach().abs().mean())
