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
    FoldFlattened,
    FuseBlocks,
    LegalizeToTir,
    NormalizeScales,
    PackOperands,
    RewriteToIcn,
    SelectKernels,
    SplitChannels,
    layer_specs,
)
from relay_passes.annotate_ranges import check_images
from relay_passes.float_network import float_network
from relay_passes.graph import notes_of, shape_of, with_note
from tvm_mpq._tvm_compat import IRModule, tvm
from tvm_mpq.codegen.program import Program, Step, extract_program
from tvm_mpq.codegen.streaming import kernel_symbol, symbol
from tvm_mpq.description import Description, InputRow, LayerDescription, WidthStrings
from tvm_mpq.frontends.input_range import border_notes, find_input_spec
from tvm_mpq.frontends.proof import check_blocks
from tvm_mpq.images import to_real
from tvm_mpq.kernels.tuned import TunedTable
from tvm_mpq.memory.stages import StagePlan
from tvm_mpq.notes import Note
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.network import FloatNetwork
from tvm_mpq.quant.result import QuantizationResult
from tvm_mpq.specs import InputSpec, LayerSpec
from tvm_mpq.target import Target

# Of the calibration images, to compare our blocks with the imported module on.
_PROOF_IMAGES = 2


@dataclass(frozen=True)
class CalibratedModel:
    """Float blocks with ranges: everything that does not depend on budgets.

    Calibrate once, build for many budgets.
    """

    module: IRModule
    layers: tuple[LayerSpec, ...]
    input_spec: InputSpec
    range_method: str
    notes: tuple[Note, ...] = ()

    def with_resize(self, resize: str) -> CalibratedModel:
        """The same model with another way to bring images to its size."""
        return replace(self, input_spec=replace(self.input_spec, resize=resize))

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
    notes: tuple[Note, ...] = ()


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
    images: uint8 [N, H, W, C]. input_spec: what they stand for; without one it is found from the
        first batch norm, or refused. range_method: "mse" (least squared error) or "max".
    fold_constant_channels: off reproduces published bit plans, which count every channel.
    """
    check_images(images, shape_of(mod["main"].params[0]))
    canonical = tvm.transform.Sequential([Canonicalize()])(mod)
    if input_spec is None:
        input_spec, note = find_input_spec(canonical, images)
        canonical = with_note(canonical, note)
    blocks = tvm.transform.Sequential([FoldFlattened(), FuseBlocks()])(canonical)
    for note in border_notes(blocks, input_spec):
        blocks = with_note(blocks, note)
    fold = [FoldConstantChannels()] if fold_constant_channels else []
    folded = tvm.transform.Sequential(fold)(blocks)
    check_blocks(mod, (blocks, folded), to_real(images[:_PROOF_IMAGES], input_spec))
    measure = [AnnotateRanges(images, input_spec, range_method), NormalizeScales()]
    module = tvm.transform.Sequential(measure)(folded)
    layers = tuple(layer_specs(module))
    return CalibratedModel(module, layers, input_spec, range_method, notes_of(module))


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
    notes = model.notes + (_uninformed(result) if result is not None else ())
    return IntegerModel(integer, program, plan, model.input_spec, rounding, notes)


def _uninformed(result: QuantizationResult) -> tuple[Note, ...]:
    text = "its inputs are the same in all images, so its weights are rounded to nearest"
    return tuple(Note("approximated", name, text) for name in result.method.get("nearest", ()))


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
        notes=model.notes,
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
        symbol=kernel_symbol(program.name, spec),
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
