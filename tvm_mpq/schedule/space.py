"""The tuning space of a layer, as MetaSchedule sees it: one design space per micro-kernel family.

A strip kernel packs, multiplies and stores by micro-kernels whose operand layout depends on the
family, so a family cannot be reached from another one by loop transformations. The schedule of a
candidate is therefore one sampled decision on the layer's canonical PrimFunc,

    root: annotated mpq.kernels = [the family's tiles], mpq.choice = sample_categorical(...)

which ``kernel_of`` reads back and ``schedule()`` carries out: trace, database and search strategies
work as for any other schedule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from tvm_mpq._tvm_compat import IRModule, s_tir
from tvm_mpq.kernels.lanes import CHANNELS
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import GEMM_OPS, PIXEL_TILE, KernelSpec
from tvm_mpq.specs import TensorSpec

# All of them share a strip's packing: with fewer, what packs fast would look best.
_OUTPUT_CHANNELS = 128
_DEPTHWISE_CHANNELS = 8
_CACHE_BYTES = 16 * 1024  # of data, STM32H743
_LAYER, _KERNELS, _CHOICE = "mpq.layer", "mpq.kernels", "mpq.choice"


def canonical(layer: KernelSpec) -> KernelSpec:
    """What is measured for ``layer``: equal for all layers that are tuned together.

    Without tiles and zero points, and with few channels where the others would only repeat their
    work: a strip is packed once and multiplied pair by pair, a depthwise channel stands alone.
    """
    bare = untiled(layer)
    x, y = bare.x, bare.output
    if bare.op == "depthwise_conv2d":
        x, y = (_plain(tensor, _DEPTHWISE_CHANNELS) for tensor in (x, y))
        return replace(bare, inputs=(x,), output=y)
    tiled = bare.op in GEMM_OPS and bare.op != "dense"
    most = _measured_channels(bare) if tiled else y.channels
    inputs = tuple(_plain(tensor, tensor.channels) for tensor in bare.inputs)
    return replace(bare, inputs=inputs, output=_plain(y, most))


def untiled(spec: KernelSpec) -> KernelSpec:
    """The layer that ``spec`` does, without anything that choosing a kernel adds.

    With 32-bit multipliers: those of 16 bits cost the same cycles.
    """
    layer = (spec.op, spec.inputs, spec.output, spec.w_bits)
    return KernelSpec(*layer, spec.kernel, spec.strides, spec.padding)


def _measured_channels(layer: KernelSpec) -> int:
    """Output channels that are enough, with weights beyond the cache if the layer's are.

    A strip reads all weights once: from flash, where they are more than the cache holds. Whole
    blocks of the lanes, which would look slow with a block that is partly zeros.
    """
    channel_bytes = -(-layer.reduction * layer.w_bits // 8)
    if layer.output.channels * channel_bytes <= _CACHE_BYTES:
        return _OUTPUT_CHANNELS
    blocks = -(-2 * _CACHE_BYTES // (channel_bytes * CHANNELS))
    return max(_OUTPUT_CHANNELS, blocks * CHANNELS)


def _plain(tensor: TensorSpec, most: int) -> TensorSpec:
    zero_point = 128 if tensor.layout == "hwc8" else 0
    return replace(tensor, zero_point=zero_point, channels=min(tensor.channels, most))


@cache  # parsing a PrimFunc takes longer than many a measurement
def workload(layer: KernelSpec) -> IRModule:
    """The module that MetaSchedule tunes: the unscheduled PrimFunc of the plain kernel."""
    tiled = layer.op in GEMM_OPS and layer.op != "dense"
    function = primfunc(replace(layer, pixels=PIXEL_TILE) if tiled else layer)
    function = function.with_attr("global_symbol", "main").with_attr(_LAYER, layer.to_json())
    return IRModule({"main": function})


def design_spaces(
    layer: KernelSpec, candidates: Sequence[KernelSpec]
) -> Callable[[s_tir.Schedule], list[s_tir.Schedule]]:
    """The schedule function of a ScheduleFn: one space for each variant among ``candidates``."""
    families: dict[str, list[dict[str, Any]]] = {}
    for spec in candidates:
        families.setdefault(spec.variant, []).append(_difference(layer, spec))

    def generate(base: s_tir.Schedule) -> list[s_tir.Schedule]:
        spaces = []
        for tiles in families.values():
            space = base.copy()
            root = space.get_sblock("root", "main")
            space.annotate(root, _KERNELS, json.dumps(tiles))
            even = [1.0 / len(tiles)] * len(tiles)
            space.annotate(
                root, _CHOICE, space.sample_categorical(list(range(len(tiles))), even, 0)
            )
            spaces.append(space)
        return spaces

    return generate


def points(base: IRModule, spaces: Sequence[s_tir.Schedule]) -> list[s_tir.Schedule]:
    """Every schedule of the design spaces, in their order: the space is small and finite."""
    found = []
    for space in spaces:
        trace = space.trace
        (sampled,) = trace.decisions
        for decision in range(len(sampled.attrs[0])):
            point = s_tir.Schedule(base)
            trace.with_decision(sampled, decision, True).apply_to_schedule(
                point, remove_postproc=True
            )
            found.append(point)
    return found


def kernel_of(mod: IRModule) -> KernelSpec:
    """The candidate that a scheduled module stands for. ValueError when it stands for none."""
    function = mod["main"]
    schedule = s_tir.Schedule(mod)
    notes = schedule.get(schedule.get_sblock("root", "main")).annotations
    if _CHOICE not in notes or _LAYER not in (function.attrs or {}):
        raise ValueError("the module is no point of a tuning space")
    tiles = json.loads(str(notes[_KERNELS]))[int(notes[_CHOICE])]
    return replace(KernelSpec.from_json(str(function.attrs[_LAYER])), **tiles)


def _difference(layer: KernelSpec, spec: KernelSpec) -> dict[str, Any]:
    """The fields of ``spec`` that are not those of ``layer``."""
    before = asdict(layer)
    return {name: value for name, value in asdict(spec).items() if value != before[name]}
