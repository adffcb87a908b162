"""``build``: a float network in, a deployment that fits its target out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.deployment import (
    ARENA_PICTURE,
    DEPLOYMENT_FILE,
    MODEL,
    PROJECT,
    Deployment,
    TargetFields,
)
from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.files import temporary_folder, write_text
from tvm_mpq.memory.picture import arena_svg
from tvm_mpq.memory.rows import INPUT_BUFFERS
from tvm_mpq.memory.stages import MINIMIZE
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.policies import POLICIES, PaperPolicy, SensitivityPolicy
from tvm_mpq.recipe import MEMORY_MODELS, Recipe
from tvm_mpq.specs import MULTIPLIER_WIDTHS, WEIGHT_WIDTHS, WIDTHS, InputSpec
from tvm_mpq.target import Target, as_target
from tvm_mpq.toolchain import require_cross_compiler

if TYPE_CHECKING:
    from tvm_mpq._tvm_compat import IRModule
    from tvm_mpq.kernels.tuned import TunedTable
    from tvm_mpq.memory.stages import StagePlan
    from tvm_mpq.pipeline import CalibratedModel, IntegerModel
    from tvm_mpq.quant.bit_program import Limit
    from tvm_mpq.quant.bit_search import RamModel
    from tvm_mpq.quant.result import QuantizationResult

# The search is repeated with the bytes that linking showed; more rounds never changed a plan.
_ROUNDS = 3


def build(
    mod: IRModule | CalibratedModel,
    target: Target | str = "stm32h7",
    *,
    calibration: npt.NDArray[np.uint8] | None = None,
    input_spec: InputSpec | None = None,
    policy: str = "paper",
    widths: tuple[int, ...] | None = None,
    multipliers: tuple[int, ...] | None = None,
    latency: int | None = None,
    memory_model: str = "streamed",
    minimize: str = "streaming",
    plan: BitPlan | None = None,
    quantization: QuantizationResult | None = None,
    reconstruct: bool = False,
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
        policy "sensitivity". input_spec: what they stand for, ``InputSpec.from_range("0,1")`` for
        example; without one it is found from the first batch norm, and told, or refused.
    policy: "paper" (memory-driven cuts, MLSys 2020) or "sensitivity" (least measured damage under
        the same budgets; the paper's plan is shown beside it). plan: widths to use instead.
    widths: that weights may have, (8, 4, 2) or (8, 4, 3, 2); 3 is for pointwise and dense layers.
        By default the paper's policy has no 3.
    multipliers: bits that the multipliers M0 of the requantization may have, (32,), (16,) or
        (32, 16): 16 save two bytes of flash a channel, and are taken in all layers where flash is
        short. By default the paper's policy has 32 only.
    latency: sensitivity only; a third budget, in cycles of one inference: the layers with weights,
        by the table of tuned kernels.
    quantization: weights, ranges and plan of ``quant.reconstruct`` or ``quant.convert``, used as
        they are, instead of a search and of rounding to nearest. reconstruct: recover accuracy for
        the widths found, from the calibration images alone (``quant.reconstruct``; minutes).
    memory_model: what the search counts against the budgets. "streamed": the program as linked,
        its layers run together row by row as far as the RAM budget asks for it; "linked": the same
        layer by layer; "two-tensor": layer by layer, and the search uses the paper's accounting,
        which knows neither code nor arena.
    minimize: streamed only. "streaming": as few layers row by row as the budget allows; "ram": the
        smallest arena.
    rounding: "nearest" (post-training) or "floor" (as trained with floor).
    range_method: "mse" or "max". input_buffer: "arena"; "caller" when the image has a buffer of
        its own that the network must not overwrite; "rows" when it arrives row by row and never
        exists as a whole (streamed only). name: module name in C.

    Raises
    ------
    DoesNotFitError: with the bytes over, by section and by tensor.
    CalibrationError, InvalidValueError, UnsupportedOperatorError, ToolError.
    """
    from tvm_mpq.names import check_module_name
    from tvm_mpq.pipeline import CalibratedModel, calibrate
    from tvm_mpq.quant.calibration import METHODS
    from tvm_mpq.quant.icn import ROUNDINGS

    target = as_target(target)
    _check_option("policy", policy, POLICIES)
    _check_option("memory_model", memory_model, MEMORY_MODELS)
    _check_option("rounding", rounding, ROUNDINGS)
    _check_option("range_method", range_method, METHODS)
    _check_option("input_buffer", input_buffer, INPUT_BUFFERS)
    _check_option("minimize", minimize, MINIMIZE)
    _check_option("widths", widths or WIDTHS, (WIDTHS, WEIGHT_WIDTHS))
    _check_option("multipliers", multipliers or (32,), ((32,), (16,), MULTIPLIER_WIDTHS))
    _check_rows(input_buffer, memory_model)
    if reconstruct and quantization is not None:
        raise InvalidValueError(
            "reconstruct: a quantization is given as well; leave one of them out"
        )
    check_module_name(name)
    if not target.is_host:
        require_cross_compiler()  # now, not after minutes of search
    if not isinstance(mod, CalibratedModel):
        from relay_passes.annotate_ranges import check_images
        from relay_passes.canonicalize import check_parameters
        from relay_passes.graph import shape_of

        check_parameters(mod)
        check_images(calibration, shape_of(mod["main"].params[0]))
        mod = calibrate(mod, np.asarray(calibration), input_spec, range_method)
    builder = _Builder(mod, target, rounding, input_buffer, name, memory_model, minimize)
    if quantization is not None:
        return builder.build(quantization.plan, None, quantization)
    limits = _limits(mod, policy, widths, latency)
    deployment = builder.build(
        plan, None if plan else _policy(policy, mod, calibration, widths, multipliers, limits)
    )
    if not reconstruct:
        return deployment
    plan, result = _reconstructed(mod, deployment, calibration, rounding)
    return builder.build(plan, None, result)


def _reconstructed(
    model: CalibratedModel,
    deployment: Deployment,
    images: npt.NDArray[np.uint8] | None,
    rounding: str,
) -> tuple[BitPlan, QuantizationResult]:
    """The plan of a deployment that fits, and weights reconstructed for it."""
    from tvm_mpq.quant.reconstruct import ReconstructionOptions, reconstruct

    if images is None:
        raise InvalidValueError(
            "reconstruct: no calibration images; give build(calibration=), typically 500 of them"
        )
    assert deployment.integer is not None
    plan = deployment.integer.plan
    options = ReconstructionOptions(rounding=rounding)
    result = reconstruct(model.network, plan, np.asarray(images), options)
    return plan, result


def rebuild(folder: Path, target: Target, records: TunedTable) -> Deployment:
    """Build the deployment in ``folder`` again with the kernels that ``records`` name.

    Bits and weights stay as they are. Raises DoesNotFitError as ``build`` does.
    """
    from tvm_mpq.pipeline import CalibratedModel, IntegerModel, select_kernels

    recipe, module = Recipe.load(folder)
    program = select_kernels(module, target, recipe.name, records)
    integer = IntegerModel(
        module, program, recipe.plan, recipe.input_spec, recipe.rounding, recipe.notes
    )
    builder = _Builder(
        CalibratedModel(module, recipe.layers, recipe.input_spec, ""),
        target,
        recipe.rounding,
        recipe.input_buffer,
        recipe.name,
        recipe.memory_model,
        recipe.minimize,
        recipe.policies,
    )
    return builder.build(recipe.plan, None, ready=integer)


def _policy(
    name: str,
    model: CalibratedModel,
    images: npt.NDArray[np.uint8] | None,
    widths: tuple[int, ...] | None,
    multipliers: tuple[int, ...] | None,
    limits: list[Limit],
) -> PaperPolicy | SensitivityPolicy:
    if name == "paper":
        return PaperPolicy(model.layers, widths or WIDTHS, multipliers or (32,))
    if images is None:
        raise InvalidValueError(
            "policy 'sensitivity': no calibration images; give build(calibration=) the images that"
            " damages are to be measured on, 64 to 256 of them"
        )
    return SensitivityPolicy(
        model.layers,
        model.network,
        np.asarray(images),
        widths=widths or WEIGHT_WIDTHS,
        limits=limits,
        multipliers=multipliers or MULTIPLIER_WIDTHS,
    )


def _limits(
    model: CalibratedModel,
    policy: str,
    widths: tuple[int, ...] | None,
    latency: int | None,
) -> list[Limit]:
    if latency is None:
        return []
    if not isinstance(latency, int) or latency < 1:
        raise InvalidValueError(f"latency {latency}: expected a positive whole number of cycles")
    if policy != "sensitivity":
        raise InvalidValueError(f"latency with policy {policy!r}: it needs policy 'sensitivity'")
    from relay_passes.latency import layer_cycles
    from tvm_mpq.quant.bit_program import latency_limit

    return [latency_limit(latency, layer_cycles(model.module, widths or WEIGHT_WIDTHS))]


def _check_option(option: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise InvalidValueError(f"{option} {value!r}: allowed are {', '.join(map(str, allowed))}")


def _check_rows(input_buffer: str, memory_model: str) -> None:
    if input_buffer == "rows" and memory_model != "streamed":
        raise InvalidValueError(
            f"input_buffer 'rows' with memory_model {memory_model!r}: an image that arrives by rows"
            " needs memory_model 'streamed'"
        )


class _Builder:
    def __init__(
        self,
        model: CalibratedModel,
        target: Target,
        rounding: str,
        input_buffer: str,
        name: str,
        memory_model: str,
        minimize: str,
        policies: list[Any] | None = None,
    ) -> None:
        self._model = model
        self._target = target
        self._rounding = rounding
        self._input_buffer = input_buffer
        self._name = name
        self._memory_model = memory_model
        self._minimize = minimize
        self._policies = policies or []

    def build(
        self,
        given: BitPlan | None,
        policy: PaperPolicy | SensitivityPolicy | None,
        result: QuantizationResult | None = None,
        ready: IntegerModel | None = None,
    ) -> Deployment:
        """Search, link, and search again with the bytes that the link needed beside the plan's.

        ``ready`` takes the place of quantization: its kernels are chosen already.
        """
        if policy is None:
            return self._fit(lambda _flash, _ram: given, result, ready, least=True)
        try:
            return self._fit(lambda flash, ram: self._search(policy, flash, ram), result)
        except DoesNotFitError as error:
            found = error
        if self._memory_model == "two-tensor":
            raise found
        # The search counts neither all code nor every way out: the leanest plan decides, and its
        # bytes are those to give.
        if self._leanest(policy, self._target.flash, self._target.ram) is None:
            raise found
        try:
            return self._fit(lambda f, r: self._leanest(policy, f, r), result, least=True)
        except DoesNotFitError as error:
            raise self._with_rows(error, policy) from None

    def _with_rows(
        self, error: DoesNotFitError, policy: PaperPolicy | SensitivityPolicy
    ) -> DoesNotFitError:
        """``error``, and whether an image that arrives by rows fits: it is tried."""
        over = (error.ram_bytes or 0) > self._target.ram
        if not over or self._input_buffer == "rows" or self._memory_model != "streamed":
            return error
        by_rows = copy(self)
        by_rows._input_buffer = "rows"
        try:
            firmware = by_rows.build(None, policy).firmware
        except DoesNotFitError:
            return error
        return DoesNotFitError(
            f"{error}\n    or: give --input-buffer rows; an image that arrives by rows needs"
            f" {firmware.ram_bytes} bytes of RAM in all",
            flash_bytes=error.flash_bytes,
            ram_bytes=error.ram_bytes,
        )

    def _fit(
        self,
        plan_for: Callable[[int, int], BitPlan | None],
        result: QuantizationResult | None,
        ready: IntegerModel | None = None,
        least: bool = False,
    ) -> Deployment:
        """Link, and again with what the first link needed beside the plan's bytes.

        ``least``: no other plan needs less flash, so that only RAM is worth another round.
        """
        flash, ram = self._target.flash, self._target.ram
        last_round = 1 if self._memory_model == "two-tensor" else _ROUNDS
        for round_number in range(1, last_round + 1):
            plan = plan_for(flash, ram)
            assert plan is not None
            integer = ready or self._quantize(plan, result)
            integer, stages = self._plan_stages(integer, ram)
            try:
                return self._deploy(integer, stages)
            except DoesNotFitError as error:
                if round_number == last_round or error.flash_bytes is None:
                    raise
                if least and (error.ram_bytes or 0) <= self._target.ram:
                    raise
                planned = stages.arena_bytes
                if self._memory_model == "linked":
                    planned = plan.rw_bytes
                flash = self._target.flash - (error.flash_bytes - plan.ro_bytes)
                ram = self._target.ram - ((error.ram_bytes or 0) - planned)
                if min(flash, ram) <= 0:
                    raise
        raise AssertionError("unreachable")

    def _search(self, policy: PaperPolicy | SensitivityPolicy, flash: int, ram: int) -> BitPlan:
        plan = policy.plan(flash, ram, self._ram_model(ram))
        self._policies = policy.compared(plan, flash, ram)
        return plan

    def _leanest(
        self, policy: PaperPolicy | SensitivityPolicy, flash: int, ram: int
    ) -> BitPlan | None:
        plan = policy.leanest(flash, ram, self._ram_model(ram))
        self._policies = policy.compared(plan, flash, ram) if plan else []
        return plan

    def _ram_model(self, ram: int) -> RamModel | None:
        if self._memory_model != "streamed":
            return None
        from relay_passes.row_geometry import streamed_ram_model

        return streamed_ram_model(self._model.module, self._input_buffer, ram)

    def _quantize(self, plan: BitPlan, result: QuantizationResult | None) -> IntegerModel:
        from tvm_mpq.pipeline import quantize

        return quantize(self._model, plan, self._target, self._rounding, self._name, result)

    def _plan_stages(self, integer: IntegerModel, ram: int) -> tuple[IntegerModel, StagePlan]:
        from tvm_mpq.codegen.row_plan import plan_layer_by_layer, plan_streamed, pooled_by_rows

        if self._memory_model != "streamed":
            return integer, plan_layer_by_layer(integer.program, self._input_buffer)
        integer = replace(integer, program=pooled_by_rows(integer.program))
        stages = plan_streamed(integer.program, self._input_buffer, ram, self._minimize)
        return integer, stages

    def _deploy(self, integer: IntegerModel, stages: StagePlan) -> Deployment:
        """Generate and link; the folder lives as long as the deployment."""
        from tvm_mpq.codegen.library import generate_library
        from tvm_mpq.codegen.model_library_format import export_folder, metadata
        from tvm_mpq.micro import generate_project
        from tvm_mpq.pipeline import describe

        description = describe(integer, self._model.layers, stages, self._policies)
        temporary = temporary_folder("build")
        folder = Path(temporary.name)
        export_folder(
            generate_library(integer.program, stages),
            str(integer.module.script(show_meta=False)),
            metadata(integer.program, stages, self._target, description.to_json()),
            folder / MODEL,
        )
        if not self._target.is_host:
            generate_project(folder / MODEL, folder / PROJECT, self._target).build()
            shutil.rmtree(folder / MODEL)
        self._recipe(integer).save(folder, integer.module)
        write_text(folder / ARENA_PICTURE, arena_svg(stages))
        fields = {"target": asdict(TargetFields.of(self._target))}
        write_text(folder / DEPLOYMENT_FILE, json.dumps(fields))
        return Deployment(folder, self._target, integer, stages.arena, temporary)

    def _recipe(self, integer: IntegerModel) -> Recipe:
        return Recipe(
            self._model.layers,
            integer.plan,
            integer.input_spec,
            integer.rounding,
            self._name,
            self._memory_model,
            self._minimize,
            self._input_buffer,
            self._policies,
            integer.notes,
        )
