"""``build``: a network in, a deployment out that runs on the host, the emulator or a board."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.specs import InputSpec
from tvm_mpq.target import Target, as_target

if TYPE_CHECKING:
    from tvm_mpq._tvm_compat import IRModule
    from tvm_mpq.codegen.host import HostLibrary
    from tvm_mpq.micro import Firmware
    from tvm_mpq.pipeline import CalibratedModel, IntegerModel
    from tvm_mpq.report.tables import Report

_PROJECT = "project"
_MODEL = "model"
MEMORY_MODELS = ("linked", "two-tensor")
# The search is repeated with the bytes that linking showed; more rounds never changed a plan.
_ROUNDS = 3


class Deployment:
    """A built network: a folder with the C library and, but for the host, a firmware project.

    Attributes
    ----------
    folder: ``model/`` (Model Library Format) or ``project/`` (which holds ``model/`` as well).
    integer: the integer module and program; None when loaded from a folder.
    """

    def __init__(
        self, folder: Path, target: Target, integer: IntegerModel | None = None
    ) -> None:
        self.folder = folder
        self.target = target
        self.integer = integer

    @staticmethod
    def load(folder: Path | str) -> Deployment:
        """A deployment saved by ``save`` or by ``tvm-mpq compile -o``."""
        folder = Path(folder)
        path = folder / "deployment.json"
        try:
            fields = json.loads(path.read_text())["target"]
            return Deployment(folder, Target(fields.pop("name"), **fields))
        except FileNotFoundError:
            raise InvalidValueError(
                f"{folder}: no deployment.json; expected a folder made by tvm-mpq compile -o"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidValueError(f"{path}: damaged ({error}); compile again") from None

    @property
    def model_folder(self) -> Path:
        """The Model Library Format folder."""
        inside = self.folder / _PROJECT / _MODEL
        return inside if inside.is_dir() else self.folder / _MODEL

    @cached_property
    def description(self) -> dict[str, Any]:
        """The ``tvm_mpq`` part of metadata.json: layers, bits, input, logits scale."""
        modules = json.loads((self.model_folder / "metadata.json").read_text())["modules"]
        ((self._name, content),) = modules.items()
        description: dict[str, Any] = content["tvm_mpq"]
        return description

    @property
    def input_spec(self) -> InputSpec:
        """How image bytes become real numbers."""
        return InputSpec(**self.description["input_spec"])

    @cached_property
    def firmware(self) -> Firmware:
        """The linked program and its sizes. Raises InvalidValueError for the host target."""
        from tvm_mpq.micro import Project

        if self.target.is_host:
            raise InvalidValueError("target host has no firmware; build for stm32h7")
        return Project.open(self.folder / _PROJECT).firmware()

    @cached_property
    def _host(self) -> HostLibrary:
        from tvm_mpq.codegen.host import HostLibrary

        code = self.model_folder / "codegen" / "host"
        self._scratch = tempfile.TemporaryDirectory(prefix="tvm_mpq-host-")
        classes = self.description["classes"]
        build = Path(self._scratch.name)
        return HostLibrary(self._name, code / "include", code / "src", build, classes)

    def run(
        self, images: npt.NDArray[np.uint8], on: str = "host"
    ) -> npt.NDArray[np.int32]:
        """int32 logits [N, classes] of uint8 images [N, H, W, C] (or [classes] of [H, W, C]).

        ``on``: "host" (the C sources on this machine) or "emulator" (the firmware on the modelled
        STM32H743). Both give the same bits. Real logits are ``logits * logits_scale``.
        """
        images = np.asarray(images)
        shape = tuple(self.description["input_shape"])
        if images.dtype != np.uint8 or images.shape[-3:] != shape or images.ndim not in (3, 4):
            raise InvalidValueError(
                f"images: {images.dtype} {list(images.shape)}; expected uint8 [N, {shape[0]},"
                f" {shape[1]}, {shape[2]}]"
            )
        batch = images.reshape(-1, *shape)
        if on == "host":
            logits = np.stack([self._host.run(image) for image in batch])
        elif on == "emulator":
            from tvm_mpq.micro import run_on_emulator

            logits, _ = run_on_emulator(self.firmware, batch.reshape(len(batch), -1))
        else:
            raise InvalidValueError(f"run on {on!r}: allowed are 'host' and 'emulator'")
        return logits if images.ndim == 4 else logits[0]

    def report(self) -> Report:
        """Bits, bytes and MACs per layer, totals, and the sections of the ELF; prints as tables."""
        from tvm_mpq.report.tables import Report

        return Report(self.description, None if self.target.is_host else self.firmware)

    def export_library(self, path: Path | str) -> Path:
        """Write the Model Library Format as a tar (``.tar``) or as a folder."""
        from tvm_mpq.micro.library import pack_library

        path = Path(path)
        if path.exists():
            raise InvalidValueError(f"{path} exists; give a new path, or remove it first")
        if path.suffix == ".tar":
            pack_library(self.model_folder, path)
        else:
            shutil.copytree(self.model_folder, path)
        return path

    def save(self, folder: Path | str) -> Deployment:
        """Copy everything to a new folder; it appears whole or not at all."""
        folder = Path(folder).resolve()
        if folder.exists():
            raise InvalidValueError(f"{folder} exists; give a new path, or remove it first")
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            shutil.copytree(self.folder, work, dirs_exist_ok=True)
            work.chmod(0o755)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return Deployment(folder, self.target, self.integer)


def build(
    mod: IRModule | CalibratedModel,
    target: Target | str = "stm32h7",
    *,
    calibration: npt.NDArray[np.uint8] | None = None,
    input_spec: InputSpec | None = None,
    policy: str = "paper",
    memory_model: str = "linked",
    plan: BitPlan | None = None,
    rounding: str = "nearest",
    range_method: str = "mse",
    input_buffer: str = "arena",
    name: str = "default",
) -> Deployment:
    """Compile a float network to an integer-only program that fits ``target``.

    Parameters
    ----------
    mod: float Relax module with bound parameters (``frontends.from_torch``), or the result of
        ``pipeline.calibrate``.
    calibration: uint8 images [N, H, W, C]; needed unless ``mod`` is calibrated.
    policy: "paper" (memory-driven cuts, MLSys 2020). plan: widths to use instead of a search.
    memory_model: what the search counts against the budgets. "linked": the program as linked, code
        and arena included; "two-tensor": the paper's accounting, which knows neither.
    rounding: "nearest" (post-training) or "floor" (as trained with floor).
    range_method: "mse" or "max". input_buffer: "arena", or "caller" when the image has a buffer of
        its own that the network must not overwrite. name: module name in C.

    Raises
    ------
    DoesNotFitError: with the bytes over, by section and by tensor.
    CalibrationError, InvalidValueError, UnsupportedOperatorError, ToolError.
    """
    from tvm_mpq.pipeline import CalibratedModel, calibrate

    target = as_target(target)
    _check_options(policy, memory_model, input_buffer)
    if not isinstance(mod, CalibratedModel):
        from relay_passes.annotate_ranges import check_images
        from relay_passes.canonicalize import check_parameters
        from relay_passes.graph import shape_of

        check_parameters(mod)
        check_images(calibration, shape_of(mod["main"].params[0]))
        mod = calibrate(mod, np.asarray(calibration), input_spec, range_method)
    builder = _Builder(mod, target, rounding, input_buffer, name)
    if plan is not None:
        return builder.deploy(plan)
    return builder.search(memory_model)


def _check_options(policy: str, memory_model: str, input_buffer: str) -> None:
    for option, value, allowed in (
        ("policy", policy, ("paper",)),
        ("memory_model", memory_model, MEMORY_MODELS),
        ("input_buffer", input_buffer, ("arena", "caller")),
    ):
        if value not in allowed:
            raise InvalidValueError(f"{option} {value!r}: allowed are {', '.join(allowed)}")


class _Builder:
    def __init__(
        self, model: CalibratedModel, target: Target, rounding: str, input_buffer: str, name: str
    ) -> None:
        self._model = model
        self._target = target
        self._rounding = rounding
        self._input_in_arena = input_buffer == "arena"
        self._name = name

    def search(self, memory_model: str) -> Deployment:
        """Search, link, and search again with the bytes that the link needed beside the plan's."""
        from tvm_mpq.quant.bit_search import paper_bit_plan

        flash, ram = self._target.flash, self._target.ram
        last_round = 1 if memory_model == "two-tensor" else _ROUNDS
        for round_number in range(1, last_round + 1):
            plan = paper_bit_plan(self._model.layers, flash, ram)
            try:
                return self.deploy(plan)
            except DoesNotFitError as error:
                if round_number == last_round or error.flash_bytes is None:
                    raise
                flash = self._target.flash - (error.flash_bytes - plan.ro_bytes)
                ram = self._target.ram - ((error.ram_bytes or 0) - plan.rw_bytes)
                if min(flash, ram) <= 0:
                    raise
        raise AssertionError("unreachable")

    def deploy(self, plan: BitPlan) -> Deployment:
        """Compile with ``plan`` and link; the folder lives as long as the deployment."""
        from tvm_mpq.codegen.library import generate_library
        from tvm_mpq.codegen.model_library_format import export_folder, metadata
        from tvm_mpq.codegen.program import plan_memory
        from tvm_mpq.micro import generate_project
        from tvm_mpq.pipeline import describe, quantize

        integer = quantize(self._model, plan, self._target, self._rounding, self._name)
        arena = plan_memory(integer.program, self._input_in_arena)
        description = describe(integer, self._model.layers)
        description["arena"] = [list(row) for row in arena.rows()]
        temporary = tempfile.TemporaryDirectory(prefix="tvm_mpq-")
        folder = Path(temporary.name)
        export_folder(
            generate_library(integer.program, arena),
            str(integer.module.script(show_meta=False)),
            metadata(integer.program, arena, self._target, description),
            folder / _MODEL,
        )
        if not self._target.is_host:
            generate_project(folder / _MODEL, folder / _PROJECT, self._target).build()
            shutil.rmtree(folder / _MODEL)
        (folder / "deployment.json").write_text(json.dumps({"target": _target_fields(self._target)}))
        deployment = Deployment(folder, self._target, integer)
        deployment._temporary = temporary  # type: ignore[attr-defined]
        return deployment


def _target_fields(target: Target) -> dict[str, Any]:
    if target.is_host:
        return {"name": target.name}
    limits = {key: getattr(target, key) for key in ("flash", "ram", "scratch", "stack")}
    return {"name": target.name} | limits
