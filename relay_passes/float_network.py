"""float_network: the fused blocks of a module as plain values (no rewriting)."""

from __future__ import annotations

from typing import Any

import numpy as np

from relay_passes.annotate_bitwidths import layer_specs
from relay_passes.graph import Node, name_of, nodes, output_of, shape_of
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant
from tvm_mpq.errors import UnsupportedOperatorError
from tvm_mpq.quant.network import Block, FloatNetwork
from tvm_mpq.specs import InputSpec


def float_network(mod: IRModule, input_spec: InputSpec) -> FloatNetwork:
    """The network of a module of calibrated float blocks (after AnnotateRanges).

    Raises UnsupportedOperatorError unless it ends in a dense layer without activation.
    """
    parameter = mod["main"].params[0]
    tensors = {spec.name: spec.y for spec in layer_specs(mod)}
    names = {parameter: name_of(parameter)}
    blocks = []
    for node in nodes(mod):
        names[node.var] = node.name
        blocks.append(_block(node, names, tensors[node.name]))
    if blocks[-1].op != "dense" or names[output_of(mod)] != blocks[-1].name:
        raise UnsupportedOperatorError(
            f"main: the network ends in {blocks[-1].op}. It must end in a dense layer without"
            " activation, whose outputs are the logits"
        )
    _, *shape = shape_of(parameter)
    return FloatNetwork(names[parameter], _three(shape), tuple(blocks), input_spec)


def _block(node: Node, names: dict[Any, str], tensor: str) -> Block:
    attrs, constants = node.attrs, [constant_array(a) for a in node.args if is_constant(a)]
    weights, g, h = constants if node.op in WEIGHTED else (None, None, None)
    return Block(
        name=node.name,
        op=node.op,
        inputs=tuple(names[a] for a in node.args if not is_constant(a)),
        tensor=tensor,
        shape=_three(node.shape[1:]),
        weights=weights,
        g=g,
        h=h,
        activation=attrs.get("activation", "none"),
        clip_max=float(attrs.get("clip_max", 0.0)),
        kernel=tuple(attrs.get("window", (1, 1))) if weights is None else weights.shape[2:],
        strides=tuple(attrs.get("strides", (1, 1))),
        padding=tuple(attrs.get("padding", (0, 0, 0, 0))),
        ranges=tuple(attrs.get("y_ranges", ())),
        x_means=np.array(attrs["x_means"]) if "x_means" in attrs else None,
        copies=attrs.get("copies", 0),
    )


def _three(shape: Any) -> tuple[int, int, int]:
    channels, height, width = (int(extent) for extent in shape)
    return channels, height, width
