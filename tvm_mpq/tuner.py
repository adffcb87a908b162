"""Tuning of a finished deployment: measure, keep the records beside it, build it again."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import Any

from tvm_mpq.builder import rebuild
from tvm_mpq.deployment import Deployment
from tvm_mpq.emulator import MODEL_ERROR
from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.files import install, staged
from tvm_mpq.kernels.choose import candidates
from tvm_mpq.kernels.tuned import TunedTable, shipped_table
from tvm_mpq.micro.places import as_place
from tvm_mpq.micro.tuning import TuningResult, tune_layers
from tvm_mpq.pipeline import select_kernels
from tvm_mpq.recipe import Recipe

TUNED_FILE = "tuned.json"
DATABASE_FOLDER = "tuning"


@dataclass(frozen=True)
class TunedLayer:
    """One layer before and after; cycles are modelled, of the whole network as it runs."""

    name: str
    before_kernel: str
    after_kernel: str
    before: int
    after: int


@dataclass(frozen=True)
class NetworkTuning:
    """What tuning did to a network.

    Attributes
    ----------
    before, after: modelled cycles of one inference, as it was and as built with the records.
    adopted: the new build was faster and took the old one's place; otherwise only records changed.
    measured, known: candidates measured now, and found in the database.
    failures: kernel -> why it could not be measured. stopped: interrupted; run again to go on.
    """

    before: int
    after: int
    adopted: bool
    layers: tuple[TunedLayer, ...]
    measured: int
    known: int
    failures: dict[str, str]
    stopped: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"model_error": MODEL_ERROR}

    def __str__(self) -> str:
        lines = [
            f"{layer.name}: {layer.before_kernel} {layer.before:,} ->"
            f" {layer.after_kernel} {layer.after:,} cycles"
            for layer in self.layers
            if layer.before_kernel != layer.after_kernel
        ]
        lines += [f"not measured: {kernel}: {why}" for kernel, why in self.failures.items()]
        lines.append(f"{self.measured} kernels measured, {self.known} known from before")
        if self.stopped:
            lines.append("stopped: the records are kept; tune again to go on")
        verdict = "" if self.adopted else " (the network stays as it was)"
        lines.append(f"{self.before:,} -> {self.after:,} cycles{verdict}; {MODEL_ERROR}")
        return "\n".join(lines)


def tune_deployment(
    deployment: Deployment, trials: int, on: str, tracker: str | None
) -> NetworkTuning:
    """See ``Deployment.tune``."""
    if deployment.target.is_host:
        raise InvalidValueError("target host: there are no cycles to tune; build for stm32h7")
    recipe, module = Recipe.load(deployment.folder)
    target = deployment.target
    path = deployment.folder / TUNED_FILE
    earlier = TunedTable.load(path) if path.exists() else TunedTable()
    layers = [step.spec for step in select_kernels(module, target, recipe.name).steps]
    result = tune_layers(
        layers,
        lambda layer: candidates(layer, target),
        deployment.folder / DATABASE_FOLDER,
        as_place(on, tracker),
        trials=trials,
    )
    table = result.table.over(earlier)
    table.save(path)
    if result.stopped:
        return _outcome(deployment, deployment, result)
    try:
        built = rebuild(deployment.folder, target, table.over(shipped_table()))
    except DoesNotFitError as error:
        result.failures["the network as a whole"] = str(error)
        return _outcome(deployment, deployment, result)
    tuning = _outcome(deployment, built, result)
    if tuning.adopted:
        _adopt(deployment, built)
    return tuning


def _outcome(before: Deployment, after: Deployment, result: TuningResult) -> NetworkTuning:
    old = before.profile()
    new = old if after is before else after.profile()
    pairs = zip(
        before.description.layers,
        after.description.layers,
        old.layers,
        new.layers,
        strict=True,
    )
    layers = tuple(
        TunedLayer(a.name, a.kernel, b.kernel, x.cycles, y.cycles) for a, b, x, y in pairs
    )
    found = (result.measured, result.known, result.failures, result.stopped)
    return NetworkTuning(old.cycles, new.cycles, new.cycles < old.cycles, layers, *found)


def _adopt(deployment: Deployment, built: Deployment) -> None:
    """Put the files of ``built`` in the place of the deployment's; its records stay."""
    with staged(deployment.folder) as made:
        shutil.copytree(built.folder, made, dirs_exist_ok=True)
        install(made, deployment.folder)
    deployment.adopt(built)
