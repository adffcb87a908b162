"""``build``: a float network in, a deployment that fits its target out."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.deployment import DEPLOYMENT_FILE, MODEL, PROJECT, Deployment
from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.policies import POLICIES, PaperPolicy, SensitivityPolicy
from tvm_mpq.specs import InputSpec
from tvm_mpq.target import Target, as_target

if TYPE_CHECKING:
    from tvm_mpq._tvm_compat import IRModule
    from tvm_mpq.pipeline import CalibratedModel
    from tvm_mpq.quant.result import QuantizationResult

MEMORY_MODELS = ("linked", "two-tensor")
# The search is repeated with the bytes that linking showed; more rounds never changed a plan.
_ROUNDS = 3


def build(
    mod: IRModule | CalibratedModel,
    target: Target | str = "stm32h7",
    *,
    calibration: npt.NDArray[np.uint8] | None = None,
    input_spec: InputSpec | None = None,
    policy: str = "paper",
    memory_model: str = "linked",
    plan: BitPlan | None = None,
    quantization: QuantizationResult | None = None,
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
    calibration: uint8 images [N, H, W, C]; needed unless ``mod`` is calibrated, and always for
        policy "sensitivity".
    policy: "paper" (memory-driven cuts, MLSys 2020) or "sensitivity" (least measured damage under
        the same budgets; the paper's plan is shown beside it). plan: widths to use instead.
    quantization: weights, ranges and plan of ``quant.reconstruct`` or ``quant.convert``, used as
        they are, instead of a search and of rounding to nearest.
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
    from tvm_mpq.codegen.library import check_module_name
    from tvm_mpq.pipeline import CalibratedModel, calibrate
    from tvm_mpq.quant.calibration import METHODS
    from tvm_mpq.quant.icn import ROUNDINGS

    target = as_target(target)
    _check_option("policy", policy, POLICIES)
    _check_option("memory_model", memory_model, MEMORY_MODELS)
    _check_option("rounding", rounding, ROUNDINGS)
    _check_option("range_method", range_method, METHODS)
    _check_option("input_buffer", input_buffer, ("arena", "caller"))
    check_module_name(name)
    if not isinstance(mod, CalibratedModel):
        from relay_passes.annotate_ranges import check_images
        from relay_passes.canonicalize import check_parameters
        from relay_passes.graph import shape_of

        check_parameters(mod)
        check_images(calibration, shape_of(mod["main"].params[0]))
        mod = calibrate(mod, np.asarray(calibration), input_spec, range_method)
    builder = _Builder(mod, target, rounding, input_buffer, name)
    if quantization is not None:
        return builder.deploy(quantization.plan, quantization)
    if plan is not None:
        return builder.deploy(plan)
    return builder.search(memory_model, _policy(policy, mod, calibration))


def _policy(
    name: str, model: CalibratedModel, images: npt.NDArray[np.uint8] | None
) -> PaperPolicy | SensitivityPolicy:
    if name == "paper":
        return PaperPolicy(model.layers)
    if images is None:
        raise InvalidValueError(
            "policy 'sensitivity': no calibration images; give build(calibration=) the images that"
            " damages are to be measured on, 32 to 128 of them"
        )
    return SensitivityPolicy(model.layers, model.network, np.asarray(images))


def _check_option(option: str, value: str, allowed: tuple[str, ...]) -> None:
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
        self._policies: list[Any] = []

    def search(self, memory_model: str, policy: PaperPolicy | SensitivityPolicy) -> Deployment:
        """Search, link, and search again with the bytes that the link needed beside the plan's."""
        flash, ram = self._target.flash, self._target.ram
        last_round = 1 if memory_model == "two-tensor" else _ROUNDS
        for round_number in range(1, last_round + 1):
            plan = policy.plan(flash, ram)
            self._policies = policy.compared(plan, flash, ram)
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

    def deploy(self, plan: BitPlan, result: QuantizationResult | None = None) -> Deployment:
        """Compile with ``plan`` and link; the folder lives as long as the deployment."""
        from tvm_mpq.codegen.library import generate_library
        from tvm_mpq.codegen.model_library_format import export_folder, metadata
        from tvm_mpq.codegen.program import plan_memory
        from tvm_mpq.micro import generate_project
        from tvm_mpq.pipeline import describe, quantize

        integer = quantize(self._model, plan, self._target, self._rounding, self._name, result)
        arena = plan_memory(integer.program, self._input_in_arena)
        description = describe(integer, self._model.layers)
        description["arena"] = [list(row) for row in arena.rows()]
        description["policies"] = self._policies
        temporary = tempfile.TemporaryDirectory(prefix="tvm_mpq-")
        folder = Path(temporary.name)
        export_folder(
            generate_library(integer.program, arena),
            str(integer.module.script(show_meta=False)),
            metadata(integer.program, arena, self._target, description),
            folder / MODEL,
        )
        if not self._target.is_host:
            generate_project(folder / MODEL, folder / PROJECT, self._target).build()
            shutil.rmtree(folder / MODEL)
        fields = {"target": _target_fields(self._target)}
        (folder / DEPLOYMENT_FILE).write_text(json.dumps(fields))
        return Deployment(folder, self._target, integer, arena, temporary)


def _target_fields(target: Target) -> dict[str, Any]:
    if target.is_host:
        return {"name": target.name}
    limits = {key: getattr(target, key) for key in ("flash", "ram", "scratch", "stack")}
    return {"name": target.name} | limits
