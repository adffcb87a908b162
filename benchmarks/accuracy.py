"""Top-1 of quantized networks, every number from the integer program (the C library on the host).

``python -m benchmarks.accuracy --data DIR [--row NAME] [--work DIR] [--json]``: one row or all.
Everything slow is kept in ``--work`` (plans, quantization results, logits), so that an interrupted
run continues. ``--deployment FOLDER --images DIR`` measures a finished deployment on any other set:
a folder with an ``images.csv`` of ``file,label_0based``.

Calibration, reconstruction and retraining see imagenet_calib only; the measured set is nips17_dev
(vww_even for visual wake words, calibrated on the same imagenet_calib).
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import datasets, mobilenet_v1_tflite
from benchmarks.accuracy_rows import M100, ROWS, VWW, Row, Stage
from benchmarks.mobilenet_v1 import load_keras_npz, predict, top1
from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.files import write_bytes
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.specs import InputSpec, LayerSpec
from tvm_mpq.target import Target, parse_bytes

CALIBRATION_IMAGES = 64
SENSITIVITY_IMAGES = 256
_CHUNK = 25
# First guess of code, constants and alignment beside the weights; then the linked program tells.
_CODE_BYTES = 20_000
_ROUNDS = 5
_MARGIN = 256
# Random views of each image are reconstructed beside it: narrow weights of the last layers have few
# positions to see. 1.0/224 with 3-bit weights: divergence .121 -> .105.
_VIEWS = 2
# Half of the views to train with are mixed of two. Other images are from other cameras and
# distances.
_BLENDED, _ZOOM, _COLOUR = 0.5, 0.6, 0.4


class Bench:
    """One row: what it needs is made when asked for and kept in the work folder."""

    def __init__(self, name: str, row: Row, data: Path, work: Path) -> None:
        self.name, self.row, self.data, self.work = name, row, data, work
        # A row with retraining shares the plan and the reconstruction of the row without.
        self._shared = work / name.removesuffix("-qat")
        self.seconds: dict[str, float] = {}
        work.mkdir(parents=True, exist_ok=True)

    def result(self) -> dict[str, Any]:
        """The row as JSON."""
        path = self.work / f"{self.name}.json"
        if path.exists():
            done: dict[str, Any] = json.loads(path.read_text())
            return done
        logits, labels = self.logits(), self.measured[1]
        row, float_logits = self.row, self.float_logits
        found = {
            "row": self.name,
            "network": row.network,
            "flash_budget": parse_bytes(row.flash) if row.flash else None,
            "ram_budget": parse_bytes(row.ram) if row.ram else None,
            "policy": row.policy,
            "method": self.quantization.method | {"name": row.method},
            "ram_model": "two tensors" if row.policy == "paper" else "row-streamed",
            "top1": top1(logits.astype(np.float32), labels),
            "top1_float": top1(float_logits, labels),
            "divergence": divergence(float_logits, logits),
            "images": len(labels),
            "elf": self.elf,
            "bits": {
                "activations": self.plan.activation_string(self.model.layers),
                "weights": self.plan.weight_string(self.model.layers),
            },
            "paper_ro_bytes": self.plan.ro_bytes,
            "seconds": {key: round(value, 1) for key, value in self.seconds.items()},
        }
        _write(path, json.dumps(found, indent=1))
        return found

    @cached_property
    def spec(self) -> InputSpec:
        """How image bytes become real."""
        specs = {VWW: datasets.VWW_INPUT, M100: mobilenet_v1_tflite.INPUT}
        return specs.get(self.row.network, datasets.IMAGENET_INPUT)

    @cached_property
    def float_model(self) -> Any:
        """The float network."""
        if self.row.network == M100:
            halves = [self.data / "models" / name for name in mobilenet_v1_tflite.HALVES]
            return mobilenet_v1_tflite.load_tflite(halves)
        return load_keras_npz(self.data / "models" / f"{self.row.network}.npz")

    @cached_property
    def measured(self) -> tuple[datasets.Images, datasets.Labels]:
        """The measured images and labels."""
        if self.row.network == VWW:
            return datasets.load_vww_even(self.data)
        return datasets.load_nips17_dev(self.data, self.float_model.resolution)

    @cached_property
    def calibration(self) -> datasets.Images:
        """All of imagenet_calib in a fixed random order."""
        images, _ = datasets.load_imagenet_calib(self.data, self.float_model.resolution)
        return images[np.random.default_rng(0).permutation(len(images))]

    @cached_property
    def float_logits(self) -> NDArray[np.float32]:
        """Of the measured images."""
        path = self.work / f"{self.row.network}-float.npy"
        if not path.exists():
            _save(path, predict(self.float_model, self.measured[0], self.spec, batch=5))
        logits: NDArray[np.float32] = np.load(path)
        return logits

    @cached_property
    def calibrated(self) -> Any:
        """The calibrated float blocks; the same for every row of a network."""
        path = self.work / f"{self.row.network}-calibrated.pickle"
        if not path.exists():
            model = self._timed("calibrate", self._calibrated)
            _write(path, pickle.dumps(model))
        return pickle.loads(path.read_bytes())

    def _calibrated(self) -> Any:
        import torch

        from tvm_mpq.frontends import from_torch
        from tvm_mpq.pipeline import calibrate

        size = self.float_model.resolution
        mod = from_torch(self.float_model.eval(), torch.zeros(1, 3, size, size))
        return calibrate(mod, self.calibration[:CALIBRATION_IMAGES], self.spec)

    @cached_property
    def model(self) -> Any:
        """What the row deploys: the calibrated blocks, with copies of channels if it wants them."""
        return self._with_copies(self.plan)

    def _with_copies(self, plan: BitPlan) -> Any:
        from tvm_mpq.pipeline import split_channels

        return split_channels(self.calibrated, plan) if self.row.copies else self.calibrated

    @cached_property
    def plan(self) -> BitPlan:
        """The widths; with a flash budget, found with the bytes of the linked program."""
        path = self._beside("plan.json")
        if not path.exists():
            plan = self._timed("plan", self._find_plan)
            _write(path, json.dumps(plan.to_json()))
        return BitPlan.from_json(path.read_text())

    def _find_plan(self) -> BitPlan:
        from tvm_mpq.quant.bit_search import paper_bit_plan

        row, layers = self.row, self.calibrated.layers
        if not row.flash:
            plan = _uniform_plan(layers, row.policy)
            return _uniform_plan(self._with_copies(plan).layers, row.policy)
        flash, ram = parse_bytes(row.flash), parse_bytes(row.ram)
        if row.policy == "paper":
            return paper_bit_plan(layers, flash, ram)
        return self._sensitivity_plan(flash, ram)

    def _sensitivity_plan(self, flash: int, ram: int) -> BitPlan:
        from relay_passes.row_geometry import streamed_ram_model
        from tvm_mpq.quant.policies import SensitivityPolicy

        images = self.calibration[:SENSITIVITY_IMAGES]
        cache = self.work / f"{self.row.network}-damage.json"
        model = self.calibrated
        policy = SensitivityPolicy(model.layers, model.network, images, cache)
        ram_model = streamed_ram_model(model.module, "arena", ram)
        found, beside, beside_ram = None, _CODE_BYTES, 0
        for _ in range(_ROUNDS):
            plan = policy.plan(flash - beside, ram - beside_ram, ram_model)
            linked = link(model, plan, flash, ram)
            # What stands beside the plan's own bytes; room left over is used in the next round.
            needed = linked["flash"] - plan.ro_bytes
            if linked["fits"]:
                found = plan
                _write(self._elf_path, json.dumps(linked))
                if needed >= beside:
                    break
            # Other widths need other kernels: what missed by little would miss again.
            beside = needed if linked["fits"] else needed + _MARGIN
            beside_ram = linked["ram"] - ram_model(plan.activations)[0]
        if found is None:
            raise DoesNotFitError(f"{self.name}: no plan found that links; the last: {linked}")
        return replace(found, flash_budget=flash, ram_budget=ram)

    @cached_property
    def quantization(self) -> Any:
        """Codes and ranges."""
        from tvm_mpq.quant.result import QuantizationResult, nearest_result

        path = self.work / f"{self.name}-quantization.npz"
        if path.exists():
            return QuantizationResult.load(path)
        plan = self.plan
        method: dict[str, Callable[[], Any]] = {
            "nearest": lambda: nearest_result(self.model.network, plan),
            "reconstruct": self._reconstructed,
            "qat": self._retrained,
        }
        result = self._timed(self.row.method, method[self.row.method])
        result.save(path)
        return result

    def _reconstructed(self) -> Any:
        from tvm_mpq.quant.result import QuantizationResult

        path = self._beside("reconstruction.npz")
        if not path.exists():
            self._reconstruct(self._beside("layers")).save(path)
        return QuantizationResult.load(path)

    def _reconstruct(self, folder: Path, **options: Any) -> Any:
        from tvm_mpq.quant.reconstruct import reconstruct

        network, images = self.model.network, self._reconstructed_images
        return reconstruct(network, self.plan, images, checkpoint=folder, **options)

    @cached_property
    def _reconstructed_images(self) -> datasets.Images:
        return np.concatenate([self.calibration[: self.row.images], *self._whole_views()])

    def _whole_views(self) -> Iterator[datasets.Images]:
        views = self._views(self.float_model.resolution, blended=0.0)
        for epoch in range(_VIEWS):
            views.set_epoch(epoch)
            yield np.stack([views[index][0].numpy() for index in range(len(views))])

    def _views(self, side: int, blended: float) -> Any:
        """Square views of the calibration images with their borders."""
        from tvm_mpq.quant.views import RandomViews

        whole = round(self.float_model.resolution / datasets.CALIBRATION_CROP)
        images = datasets.load_imagenet_calib(self.data, whole, self.row.images, crop=1.0)
        pairs = list(zip(*images, strict=True))
        return RandomViews(pairs, (side, side), blended=blended, zoom=_ZOOM, colour=_COLOUR)

    def _retrained(self) -> Any:
        """Stage after stage, and what the last one leaves is reconstructed."""
        # Up to the first stage, the same layers as in the row without retraining.
        folder, result = self._beside("layers"), None
        for number, stage in enumerate(self.row.stages):
            if stage.until or number:
                start = self._reconstruct(folder, start=result, until=stage.until or None)
            else:
                start = self._reconstructed()
            result = self._trained(start, stage, self.work / f"{self.name}-stage{number}")
            folder = self.work / f"{self.name}-layers{number}"
        return self._reconstruct(folder, start=result) if stage.until else result

    def _trained(self, start: Any, stage: Stage, folder: Path) -> Any:
        """``start`` after a stage of retraining."""
        from tvm_mpq.quant.float_network import FloatTeacher
        from tvm_mpq.quant.qat import prepare
        from tvm_mpq.quant.training import fit

        student = prepare(self.model, self.plan, start)
        views = self._views(stage.side, _BLENDED)
        teacher = FloatTeacher(self.model.network)
        fit(student, views, stage.recipe, folder, teacher, on_step=_say_step)
        return student.result()

    @cached_property
    def elf(self) -> dict[str, Any]:
        """Bytes of the linked firmware, whether or not it fits the budgets."""
        path = self._elf_path
        if not path.exists():
            flash, ram = self.row.flash or None, self.row.ram or None
            _write(path, json.dumps(link(self.model, self.plan, flash, ram)))
        sizes: dict[str, Any] = json.loads(path.read_text())
        return sizes

    @property
    def _elf_path(self) -> Path:
        return self._beside("elf.json")

    def _beside(self, ending: str) -> Path:
        return self._shared.with_name(f"{self._shared.name}-{ending}")

    def logits(self) -> NDArray[np.float64]:
        """Real logits of the measured images from the C library, a chunk at a time."""
        from tvm_mpq.builder import build

        images, _ = self.measured
        path = self.work / f"{self.name}-logits.npy"
        done = list(np.load(path)) if path.exists() else []
        if len(done) < len(images):
            quantization = self.quantization
            started = time.perf_counter()
            deployment = build(self.model, Target("host"), quantization=quantization)
            scale = deployment.description.logits_scale
            while len(done) < len(images):
                chunk = images[len(done) : len(done) + _CHUNK]
                done += list(deployment.run(chunk).astype(np.float64) * scale)
                _save(path, np.stack(done))
                _say(f"{self.name}: {len(done)} of {len(images)} images")
            self.seconds["measure"] = time.perf_counter() - started
        return np.stack(done)

    def _timed(self, what: str, make: Callable[[], Any]) -> Any:
        _say(f"{self.name}: {what}")
        started = time.perf_counter()
        made = make()
        self.seconds[what] = time.perf_counter() - started
        return made


def _uniform_plan(layers: Sequence[LayerSpec], policy: str) -> BitPlan:
    from tvm_mpq.quant.bit_search import uniform_bit_plan

    first, outputs = layers[0], {}
    if policy.startswith("all4"):
        plan, weights = uniform_bit_plan(layers, 4, 4), {first.name: 8}
        outputs = {first.y: 8} if policy == "all4" else {}
    else:
        plan, mixing = uniform_bit_plan(layers, 8, 8), ("pointwise_conv2d", "dense")
        weights = {x.name: 4 for x in layers if policy == "pointwise4" and x.op in mixing}
    weights, outputs = plan.weights | weights, plan.activations | outputs
    return replace(plan, weights=weights, activations=outputs, policy=policy)


def link(
    model: Any, plan: BitPlan, flash: int | str | None, ram: int | str | None
) -> dict[str, Any]:
    """Bytes of the linked firmware of a plan, and whether it keeps the budgets.

    Row by row as far as the RAM budget asks for it. The codes do not matter to the bytes, so they
    are rounded to nearest.
    """
    from tvm_mpq.builder import build

    try:
        firmware = build(model, Target("stm32h7", flash=flash, ram=ram), plan=plan).firmware
    except DoesNotFitError as error:
        if error.flash_bytes is None:
            raise
        found = {"flash": error.flash_bytes, "ram": error.ram_bytes}
        return found | {"fits": False, "error": str(error)}
    return {
        "flash": firmware.flash_bytes,
        "ram": firmware.ram_bytes,
        "axi_sram": firmware.axi_sram_bytes,
        "dtcm": firmware.dtcm_bytes,
        "fits": True,
    }


def divergence(teacher: NDArray[Any], student: NDArray[Any]) -> float:
    """Mean Kullback-Leibler divergence in nats of [N, C] logits."""
    logs = []
    for logits in (teacher, student):
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        logs.append(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1).mean())


def measure_deployment(folder: Path, images: Path) -> dict[str, Any]:
    """Top-1 of a saved deployment on a folder of labelled images."""
    from tvm_mpq.deployment import Deployment
    from tvm_mpq.specs import parse_resize

    deployment = Deployment.load(folder)
    size = deployment.description.input_shape[0]
    crop = parse_resize(deployment.input_spec.resize)
    started = time.perf_counter()
    data, labels = datasets.load_labelled_images(images, size, crop)
    found = top1(deployment.run(data).astype(np.float32), labels)
    seconds = round(time.perf_counter() - started, 1)
    return {"top1": found, "images": len(labels), "seconds": seconds}


def _say_step(step: int, loss: float) -> None:
    if step % 50 == 0:
        _say(f"step {step}: loss {loss:.4f}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(path: Path, content: str | bytes) -> None:
    write_bytes(path, content.encode() if isinstance(content, str) else content)


def _save(path: Path, array: NDArray[Any]) -> None:
    file = io.BytesIO()
    np.save(file, array)
    write_bytes(path, file.getvalue())


def _print(found: dict[str, Any]) -> None:
    flash = found["elf"]["flash"]
    seconds = sum(found["seconds"].values())
    print(
        f"{found['row']:38s} {found['top1']:5.1f} (float {found['top1_float']:.1f}),"
        f" KL {found['divergence']:.3f}, {found['images']} images, flash {flash}, {seconds:.0f} s"
    )


def main() -> None:
    """Print rows."""
    parser = argparse.ArgumentParser(description="Top-1 of quantized networks")
    parser.add_argument("--data", help="data folder (default: $TVM_MPQ_DATA)")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="default: all rows")
    parser.add_argument("--work", type=Path, default=Path("accuracy-work"), help="kept results")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--deployment", type=Path, help="measure this deployment instead")
    parser.add_argument("--images", type=Path, help="folder with an images.csv, for --deployment")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.deployment:
        if not arguments.images:
            raise InvalidValueError("--deployment needs --images DIR")
        print(json.dumps(measure_deployment(arguments.deployment, arguments.images)))
        return
    import torch

    torch.set_num_threads(arguments.threads)
    data = datasets.data_folder(arguments.data)
    rows = []
    for name in arguments.row or ROWS:
        rows.append(Bench(name, ROWS[name], data, arguments.work).result())
        if not arguments.json:
            _print(rows[-1])
    if arguments.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
