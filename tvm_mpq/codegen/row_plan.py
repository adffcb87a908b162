"""From a program to its rows: the graph that the stage planner sees, and the two kinds of plan."""

from __future__ import annotations

from dataclasses import replace

from tvm_mpq.codegen.program import Program, Step, plan_memory
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.bands import band_cycles
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.memory.bands import widen_bands
from tvm_mpq.memory.replay import replay
from tvm_mpq.memory.rows import INPUT_BUFFERS, RowGraph, RowLayer, RowTensor
from tvm_mpq.memory.stages import StagePlan, plan_stages

_POOL = "global_avg_pool_rows"


def check_input_buffer(value: str) -> str:
    """``value`` if it is one of ``INPUT_BUFFERS``."""
    if value not in INPUT_BUFFERS:
        raise InvalidValueError(f"input_buffer {value!r}: allowed are {', '.join(INPUT_BUFFERS)}")
    return value


def pooled_by_rows(program: Program) -> Program:
    """``program`` with global pools that sum rows as they come; the results are the same."""
    steps = []
    functions = dict(program.functions)
    for step in program.steps:
        if step.spec.op == "global_avg_pool":
            step = replace(step, spec=replace(step.spec, op=_POOL))
            functions[step.spec.symbol] = primfunc(step.spec)
        steps.append(step)
    return replace(program, steps=tuple(steps), functions=functions)


def row_graph(program: Program, input_buffer: str = "arena") -> RowGraph:
    """The rows of ``program``; with ``input_buffer="rows"`` a first layer stands for the camera."""
    check_input_buffer(input_buffer)
    layers = [row_layer(step) for step in program.steps]
    tensors = {
        name: RowTensor(name, spec.height, spec.row_bytes, in_arena=name != program.output)
        for name, spec in program.tensors.items()
    }
    image = tensors[program.input]
    tensors[program.input] = replace(image, in_arena=input_buffer != "caller")
    if input_buffer == "rows":
        layers.insert(0, RowLayer("image", (), program.input, image.height))
    for step in program.steps:
        if step.spec.op == _POOL:
            sums = 4 * step.spec.output.channels
            tensors[step.output] = replace(tensors[step.output], min_bytes=sums)
    return RowGraph(tuple(layers), tensors, program.input, program.output)


def row_layer(step: Step) -> RowLayer:
    """The rows that one kernel call reads and makes."""
    spec = step.spec
    if spec.op == _POOL:
        return RowLayer(step.name, step.inputs, step.output, spec.x.height, accumulates=True)
    window = spec.x.height if spec.op == "global_avg_pool" else spec.kernel[0]
    return RowLayer(
        step.name,
        step.inputs,
        step.output,
        spec.output.height,
        window,
        spec.strides[0],
        spec.padding[0],
    )


def plan_layer_by_layer(program: Program, input_buffer: str = "arena") -> StagePlan:
    """Whole tensors and one call a layer; only an add lies on a dying input."""
    if input_buffer == "rows":
        raise InvalidValueError(
            "input_buffer 'rows' needs row-streamed stages; layer by layer, allowed are arena and"
            " caller"
        )
    graph = row_graph(program, input_buffer)
    arena = plan_memory(program, input_buffer == "arena")
    stages = tuple((i, i + 1) for i in range(len(graph.layers)))
    heights = {name: tensor.height for name, tensor in graph.tensors.items()}
    return StagePlan(graph, stages, heights, arena)


def plan_streamed(
    program: Program,
    input_buffer: str = "arena",
    budget: int | None = None,
    minimize: str = "streaming",
) -> StagePlan:
    """Row-streamed stages for a program made by ``pooled_by_rows``; see ``plan_stages``.

    What ``budget`` leaves goes to bands of several rows, unless ``minimize`` is "ram". The plan is
    proven before it is used: its schedule is replayed row by row.
    """
    plan = plan_stages(row_graph(program, input_buffer), budget, minimize)
    if minimize == "streaming":
        costs = {step.name: band_cycles(step.spec) for step in program.steps}
        plan = widen_bands(plan, budget, costs)
    replay(plan)
    return plan
