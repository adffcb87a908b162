"""Expected cycles of float blocks at every width of their weights, from the tuned kernels."""

from __future__ import annotations

from collections.abc import Sequence

from relay_passes.annotate_bitwidths import layer_specs
from relay_passes.graph import Node, nodes, shape_of
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tuned import TunedTable, shipped_table
from tvm_mpq.specs import TensorSpec, weight_widths

_GEOMETRY = (("strides", (1, 1)), ("padding", (0, 0, 0, 0)))


def layer_cycles(
    mod: IRModule, widths: Sequence[int], table: TunedTable | None = None
) -> dict[str, dict[int, float]]:
    """Layer name -> width of its weights -> cycles, with 8-bit activations.

    ``table``: the one that ships with the package when None.
    Raises InvalidValueError where no tuned kernel is near a layer.
    """
    table = table or shipped_table()
    ops = {spec.name: spec.op for spec in layer_specs(mod)}
    image, found = mod["main"].params[0], {}
    for node in nodes(mod):
        if node.op not in WEIGHTED:
            continue
        costs = {}
        for bits in weight_widths(ops[node.name], widths):
            spec = _spec(node, ops[node.name], bits, node.args[0].same_as(image))
            cycles = table.cycles(spec)
            if cycles is None:
                raise InvalidValueError(
                    f"latency: no tuned kernel is near layer {node.name} ({spec.name}), so that"
                    " its cycles cannot be told; leave the latency out"
                )
            costs[bits] = cycles
        found[node.name] = costs
    return found


def _spec(node: Node, op: str, bits: int, reads_image: bool) -> KernelSpec:
    """The kernel's record with zero points left out: they play no part in its cycles."""
    _, channels, height, width = shape_of(node.args[0])
    x = TensorSpec.of_map(channels, height, width, 8)
    if reads_image:
        x = TensorSpec(channels, height, width, 8, 0, "hwc8")
    _, out, rows, columns = node.shape
    kernel = shape_of(node.args[1])[2:]
    strides, padding = (tuple(node.attrs.get(k, d)) for k, d in _GEOMETRY)
    op = "dense" if (rows, columns) == (1, 1) and op != "depthwise_conv2d" else op
    return KernelSpec(
        op,
        (x,),
        TensorSpec.of_map(out, rows, columns, 8),
        bits,
        (kernel[0], kernel[1]),
        strides,
        padding,
    )
