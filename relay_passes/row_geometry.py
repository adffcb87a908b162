"""The rows of a float module, and the RAM that its streamed plan needs at given widths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay_passes.annotate_bitwidths import layer_specs
from relay_passes.graph import Node, name_of, nodes, output_of, shape_of
from relay_passes.ops import WEIGHTED
from relay_passes.rewrite_to_icn import LOGITS_BITS
from tvm_mpq._tvm_compat import IRModule
from tvm_mpq.memory.rows import RowGraph, RowLayer, RowTensor
from tvm_mpq.memory.stages import plan_stages
from tvm_mpq.quant.bit_search import RamModel
from tvm_mpq.specs import TensorSpec


def module_rows(
    mod: IRModule, activations: Mapping[str, int], input_buffer: str = "arena"
) -> RowGraph:
    """The row graph of float blocks whose outputs have the widths ``activations`` (by name)."""
    width_of = {spec.name: activations[spec.y] for spec in layer_specs(mod)}
    parameter, result = mod["main"].params[0], output_of(mod)
    names = {parameter: name_of(parameter)}
    _, channels, height, width = shape_of(parameter)
    image = RowTensor(names[parameter], height, width * channels, 0, input_buffer != "caller")
    tensors = {image.name: image}
    layers = [RowLayer("image", (), image.name, height)] if input_buffer == "rows" else []
    for node in nodes(mod):
        names[node.var] = node.name
        layers.append(_layer(node, names))
        _, channels, height, width = node.shape
        is_result = node.var.same_as(result)
        spec = TensorSpec.of_map(channels, height, width, width_of[node.name])
        if is_result:
            spec = TensorSpec(channels, 1, 1, LOGITS_BITS, 0, "logits")
        sums = 4 * channels if node.op == "global_avg_pool" else 0
        tensors[node.name] = RowTensor(node.name, height, spec.row_bytes, sums, not is_result)
    return RowGraph(tuple(layers), tensors, image.name, names[result])


def _layer(node: Node, names: Mapping[Any, str]) -> RowLayer:
    operands = node.args[:1] if node.op in WEIGHTED else node.args
    inputs = tuple(names[arg] for arg in operands)
    if node.op == "global_avg_pool":
        steps = shape_of(node.args[0])[2]
        return RowLayer(node.name, inputs, node.name, steps, accumulates=True)
    window = tuple(node.attrs.get("kernel", (1, 1)))
    if node.op in WEIGHTED:
        window = shape_of(node.args[1])[2:]
    stride = tuple(node.attrs.get("strides", (1, 1)))[0]
    top = tuple(node.attrs.get("padding", (0, 0, 0, 0)))[0]
    return RowLayer(node.name, inputs, node.name, node.shape[2], window[0], stride, top)


def streamed_ram_model(mod: IRModule, input_buffer: str, budget: int) -> RamModel:
    """What the bit search may call: the arena streamed as ``budget`` asks, and what fills it."""
    tensor_of = {spec.name: spec.y for spec in layer_specs(mod)}

    def ram(activations: Mapping[str, int]) -> tuple[int, Mapping[str, int]]:
        plan = plan_stages(module_rows(mod, activations, input_buffer), budget)
        alive: dict[str, int] = {}
        for name, size in plan.fullest().items():
            tensor = tensor_of.get(name, name)
            alive[tensor] = alive.get(tensor, 0) + size
        return plan.arena_bytes, alive

    return ram
