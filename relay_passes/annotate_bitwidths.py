"""AnnotateBitwidths: 8, 4 or 2 bits for every weight and activation tensor.

    mpq.conv2d(..., name="conv2d_0") --> the same with w_bits=8, y_bits=4

and multiplier_bits=16 where the plan has 16-bit multipliers.

``layer_specs`` turns the module into the plain values that the bit search works on.
"""

from __future__ import annotations

from math import prod
from typing import Any

from relay_passes.graph import CallRewriter, name_of, nodes, shape_of, with_attrs
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule, call_attrs, mutator, relax, tvm
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.specs import LayerSpec

# Their output has the scale and width of their input: one name in the search, one width.
KEEPS_WIDTH = ("max_pool2d", "global_avg_pool")


def layer_specs(mod: IRModule) -> list[LayerSpec]:
    """The float blocks of ``mod`` as the bit search sees them, in order."""
    parameter = mod["main"].params[0]
    tensor = {parameter: name_of(parameter)}
    specs = []
    for node in nodes(mod):
        inputs = node.args[:1] if node.op in WEIGHTED else node.args
        tensor[node.var] = tensor[inputs[0]] if node.op in KEEPS_WIDTH else node.name
        weights = shape_of(node.args[1]) if node.op in WEIGHTED else (0,)
        pointwise = node.op == "conv2d" and weights[2:] == (1, 1)
        specs.append(
            LayerSpec(
                name=node.name,
                op="pointwise_conv2d" if pointwise else node.op,
                x=tuple(tensor[arg] for arg in inputs),
                y=tensor[node.var],
                x_elements=tuple(prod(shape_of(arg)) for arg in inputs),
                y_elements=prod(node.shape),
                weight_elements=prod(weights),
                out_channels=node.shape[1] if node.op in WEIGHTED else 0,
                macs=prod(weights[1:]) * prod(node.shape) if node.op in WEIGHTED else 0,
            )
        )
    return specs


@tvm.transform.module_pass(opt_level=0, name="AnnotateBitwidths")
class AnnotateBitwidths:
    """Write the widths of ``plan`` on the calls.

    Raises InvalidValueError when the plan lacks a tensor or a layer of the module.
    """

    def __init__(self, plan: BitPlan) -> None:
        self.plan = plan

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        specs = {spec.name: spec for spec in layer_specs(mod)}
        for kind, wanted, known in (
            ("tensor", {spec.y for spec in specs.values()}, self.plan.activations),
            ("layer", {s.name for s in specs.values() if s.weight_elements}, self.plan.weights),
        ):
            missing = sorted(wanted - set(known))
            if missing:
                raise InvalidValueError(
                    f"bit plan: no width for {kind} {missing[0]}; it was made for another network"
                )
        return _Annotator(mod, specs, self.plan).transform()


@mutator
class _Annotator(CallRewriter):
    def __init__(self, mod: IRModule, specs: dict[str, LayerSpec], plan: BitPlan) -> None:
        super().__init__(mod)
        self._specs = specs
        self._plan = plan

    def rewrite(self, call: relax.Call) -> Any:
        spec = self._specs[call_attrs(call)["name"]]
        bits = {"y_bits": self._plan.activations[spec.y]}
        if spec.weight_elements:
            bits["w_bits"] = self._plan.weights[spec.name]
            if self._plan.multiplier_bits(spec.name) != 32:
                bits["multiplier_bits"] = self._plan.multiplier_bits(spec.name)
        return with_attrs(call, **bits)
