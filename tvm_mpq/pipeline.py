"""The way through the passes: float Relax module -> calibrated -> integer -> program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from relay_passes import (
    AnnotateBitwidths,
    AnnotateRanges,
    Canonicalize,
    FoldConstantChannels,
    FuseBlocks,
    LegalizeToTir,
    PackOperands,
    RewriteToIcn,
    SelectKernels,
    SplitChannels,
    layer_specs,
)
from relay_passes.float_network import float_network
from tvm_mpq._tvm_compat import IRModule, tvm
from tvm_mpq.codegen.program import Program, Step, extract_program
from tvm_mpq.codegen.streaming import symbol
from tvm_mpq.description import Description, InputRow, LayerDescription, Note, WidthStrings
from tvm_mpq.kernels.tuned import TunedTable
from tvm_mpq.memory.stages import StagePlan
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.network import FloatNetwork
from tvm_mpq.quant.result import QuantizationResult
from tvm_mpq.specs import InputSpec, LayerSpec
from tvm_mpq.target import Target


@dataclass(frozen=True)
class CalibratedModel:
    """Float blocks with ranges: everything that does not depend on budgets.

    Calibrate once, build for many budgets.
    """

    module: IRModule
    layers: tuple[LayerSpec, ...]
    input_spec: InputSpec
    range_method: str

    @property
    def network(self) -> FloatNetwork:
        """The blocks as plain values, for reconstruction, sensitivity and retraining."""
        return float_network(self.module, self.input_spec)


@dataclass(frozen=True)
class IntegerModel:
    """The integer network: ``module`` holds operators on codes, ``program`` kernel calls."""

    module: IRModule
    program: Program
    plan: BitPlan
    input_spec: InputSpec
    rounding: str


def calibrate(
    mod: IRModule,
    images: npt.NDArray[np.uint8],
    input_spec: InputSpec | None = None,
    range_method: str = "mse",
    fold_constant_channels: bool = True,
) -> CalibratedModel:
    """Canonicalize, fuse blocks, fold constant channels and measure ranges.

    Parameters
    ----------
    mod: float Relax module with bound parameters, one NCHW input.
    images: uint8 [N, H, W, C]. range_method: "mse" (least squared error) or "max".
    fold_constant_channels: off reproduces published bit plans, which count every channel.
    """
    spec = input_spec or InputSpec()
    fold = [FoldConstantChannels()] if fold_constant_channels else []
    passes = [Canonicalize(), FuseBlocks(), *fold, AnnotateRanges(images, spec, range_method)]
    module = tvm.transform.Sequential(passes)(mod)
    return CalibratedModel(module, tuple(layer_specs(module)), spec, range_method)


def split_channels(model: CalibratedModel, plan: BitPlan) -> CalibratedModel:
    """The same network with copies of important channels that ``plan`` makes narrow.

    For reconstruction and retraining with this plan, which still fits: layers and tensors keep
    their names.
    """
    module = tvm.transform.Sequential([SplitChannels(plan)])(model.module)
    return replace(model, module=module, layers=tuple(layer_specs(module)))


def quantize(
    model: CalibratedModel,
    plan: BitPlan,
    target: Target,
    rounding: str = "nearest",
    name: str = "default",
    result: QuantizationResult | None = None,
) -> IntegerModel:
    """Apply a bit plan, rewrite to ICN, choose kernels, pack, legalize.

    ``result``: weights and ranges of reconstruction or retraining, used as they are; its rounding
    takes the place of ``rounding``.
    """
    if result is not None:
        result.check_fits(float_network(model.module, model.input_spec))
        rounding = result.rounding
    to_integer = [
        AnnotateBitwidths(plan),
        RewriteToIcn(model.input_spec, rounding, model.range_method, result),
    ]
    integer = tvm.transform.Sequential(to_integer)(model.module)
    program = select_kernels(integer, target, name)
    return IntegerModel(integer, program, plan, model.input_spec, rounding)


def select_kernels(
    integer: IRModule, target: Target, name: str, records: TunedTable | None = None
) -> Program:
    """The program of an integer module: kernels chosen (see ``choose``), operands packed."""
    passes = [SelectKernels(target, records), PackOperands(), LegalizeToTir()]
    return extract_program(tvm.transform.Sequential(passes)(integer), name)


def describe(
    model: IntegerModel,
    layers: tuple[LayerSpec, ...],
    stages: StagePlan,
    policies: list[Any],
    notes: tuple[Note, ...] = (),
) -> Description:
    """What a person wants to know of the network."""
    program = model.program
    first = len(stages.stage_of) - len(program.steps)
    x = program.tensors[program.input]
    return Description(
        input_spec=model.input_spec,
        input_shape=(x.height, x.width, x.channels),
        input_row=InputRow(x.row_bytes, x.height),
        input_buffer=_input_buffer(stages),
        arena=tuple(stages.arena.rows()),
        stages=tuple(stages.rows()),
        classes=program.tensors[program.output].channels,
        logits_scale=program.logits_scale,
        rounding=model.rounding,
        plan=model.plan,
        bits=WidthStrings(model.plan.activation_string(layers), model.plan.weight_string(layers)),
        layers=tuple(
            _describe_layer(program, step, stages, stage)
            for step, stage in zip(program.steps, stages.stage_of[first:], strict=True)
        ),
        policies=tuple(tuple(map(str, row)) for row in policies),
        notes=notes,
    )


def _describe_layer(
    program: Program, step: Step, stages: StagePlan, stage: int
) -> LayerDescription:
    spec = step.spec
    return LayerDescription(
        name=step.name,
        stage=stage,
        order=stages.order_text(stage),
        ring_rows=stages.rings[step.output],
        kernel=spec.name,
        symbol=spec.symbol,
        constant=symbol(program, step.icn) if step.icn else "",
        inputs=tuple((t.channels, t.height, t.width) for t in spec.inputs),
        output=(spec.output.channels, spec.output.height, spec.output.width),
        x_bits=tuple(t.bits for t in spec.inputs),
        w_bits=spec.w_bits,
        y_bits=spec.output.bits,
        macs=spec.macs,
        weight_bytes=4 * spec.weight_words,
        side_bytes=4 * spec.icn_words,
        output_bytes=spec.output.nbytes,
        scratch_bytes=spec.scratch_bytes,
    )


def _input_buffer(stages: StagePlan) -> str:
    if stages.graph.by_rows:
        return "rows"
    return "arena" if stages.graph.tensors[stages.graph.input].in_arena else "caller"
