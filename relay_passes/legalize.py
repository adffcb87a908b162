"""LegalizeToTir: chosen kernels --> call_tir of S-TIR PrimFuncs on whole tensors.

    mpq.kernel(x, w, icn, spec=...)
        --> R.call_tir(mpq_pw_x8w4y8_..., (x, w, icn, H_in, H_out, 0, H_out))

Rings are whole tensors here: x_ring = H_in, y_ring = H_out, y0 = 0, rows = H_out. Streaming only
gives the same functions other scalars, later. Equal kernels become one PrimFunc.
"""

from __future__ import annotations

from typing import Any

from relay_passes.graph import Rebuilder
from tvm_mpq._tvm_compat import IRModule, call_attrs, relax, tirx, tvm
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import KernelSpec


@tvm.transform.module_pass(opt_level=0, name="LegalizeToTir")
class LegalizeToTir:
    """Every ``mpq.kernel`` becomes a ``call_tir``; runs in TVM's virtual machine as it is."""

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        return _Legalizer(mod).transform()


class _Legalizer(Rebuilder):
    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self._functions: dict[str, Any] = {}

    def convert(self, _var: relax.Var, value: Any) -> Any:
        attrs = call_attrs(value)
        spec = KernelSpec.from_json(attrs["spec"])
        if spec.symbol not in self._functions:
            function = primfunc(spec).with_attr("mpq.spec", spec.to_json())
            self._functions[spec.symbol] = self.builder.add_func(function, spec.symbol)
        rows = [tensor.height for tensor in spec.inputs]
        scalars = [*rows, spec.output.height, 0, spec.output.height]
        operands = self.arguments(value) + [
            relax.prim_value(tirx.IntImm("int32", scalar)) for scalar in scalars
        ]
        shape, dtype = spec.output.buffer
        call = relax.call_tir(
            self._functions[spec.symbol], operands, out_ty=relax.TensorType(shape, dtype)
        )
        return self.builder.emit(call, name_hint=attrs["name"])
