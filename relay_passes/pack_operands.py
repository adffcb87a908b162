"""PackOperands: canonical codes --> the packed buffers of the chosen kernels.

mpq.icn_conv2d(X, W, M0, N0, Bq, Zw, kernel=..., spec=...)     uint4 NCHW, codes one a byte
    --> mpq.kernel(x, w, icn, kernel=..., spec=...)            uint32 H C words
"""

from __future__ import annotations

from typing import Any

from relay_passes.graph import Rebuilder, name_of, nodes
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant, make_call, relax, tvm
from tvm_mpq.kernels.pack import pack_add, pack_concat, pack_icn, pack_pool, pack_weights
from tvm_mpq.kernels.reference import AddParams, RescaleParams
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.quant.icn import IcnParams


@tvm.transform.module_pass(opt_level=0, name="PackOperands")
class PackOperands:
    """Pack weights and requantization parameters; tensors get the types of their buffers.

    Raises AccumulatorOverflowError when a kernel's partial sums cannot be proven to fit int32.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        return _Packer(mod).transform()


class _Packer(Rebuilder):
    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self._nodes = {node.var: node for node in nodes(mod)}

    def input(self, old: relax.Var) -> relax.Var:
        readers = [n for n in self._nodes.values() if any(old.same_as(a) for a in n.args)]
        shape, dtype = KernelSpec.from_json(readers[0].attrs["spec"]).x.buffer
        return relax.Var(name_of(old), relax.TensorType(shape, dtype))

    def convert(self, var: relax.Var, value: Any) -> Any:
        node = self._nodes[var]
        spec = KernelSpec.from_json(node.attrs["spec"])
        activations = [self.new[arg] for arg in node.args if not is_constant(arg)]
        arrays = [constant_array(arg) for arg in node.args if is_constant(arg)]
        op = node.op.removeprefix("icn_")
        if op in WEIGHTED:
            codes = arrays[0]
            packed = [pack_weights(spec, codes), pack_icn(spec, IcnParams(*arrays[1:]), codes)]
        else:
            packed = _pack_weightless(op, node.attrs)
        attrs = {"name": node.name, "kernel": spec.name, "spec": spec.to_json()}
        operands = activations + [relax.const(array) for array in packed]
        return self.builder.emit(make_call("mpq.kernel", operands, attrs), name_hint=node.name)


def _pack_weightless(op: str, attrs: dict[str, Any]) -> list[Any]:
    if op == "add":
        return [pack_add(AddParams(tuple(attrs["m"]), attrs["shift"], attrs["nearest"]))]
    if op == "concat":
        first, second = (
            RescaleParams(m, shift, attrs["nearest"])
            for m, shift in zip(attrs["m"], attrs["shift"], strict=True)
        )
        return [pack_concat((first, second))]
    if op == "global_avg_pool":
        return [pack_pool(attrs["bq"], attrs["m"], attrs["shift"])]
    return []
