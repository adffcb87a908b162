"""FoldFlattened: what is done to each feature on its own goes into the dense layer that reads it.

    matmul(batch_norm(reshape(map)), w) --> add(matmul(reshape(map), s * w), t @ w)

with s and t the batch norm's scale and offset of each feature; so are add, subtract, multiply and
divide with a constant. A convolution could not absorb them: features of a flattened map are more
than its channels. What a convolution or dense layer right before it can absorb stays where it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from relay_passes.graph import CallRewriter, op_name, shape_of
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant, mutator, relax, tvm

Float64 = npt.NDArray[np.float64]
_OPENS_BLOCK = ("relax.nn.conv2d", "relax.matmul", "relax.add", "relax.nn.batch_norm")


@tvm.transform.module_pass(opt_level=0, name="FoldFlattened")
class FoldFlattened:
    """Fold scales and offsets of features [1, F] into the dense layers behind them, exactly."""

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        return _Folder(mod).transform()


@mutator
class _Folder(CallRewriter):
    def rewrite(self, call: relax.Call) -> Any:
        if op_name(call) != "relax.matmul" or not is_constant(self.producer(call.args[1])):
            return call
        step = self._affine(call.args[0])
        if step is None:
            return call
        source, scale, offset = step
        while (step := self._affine(source)) is not None:
            source, s, t = step
            scale, offset = scale * s, offset + scale * t
        if self._is_absorbed(source):
            return call
        weights = constant_array(self.producer(call.args[1])).astype(np.float64)
        scaled = np.broadcast_to(scale, weights.shape[:1])[:, None] * weights
        shift = np.broadcast_to(offset, weights.shape[:1]) @ weights
        product = self.builder_.emit(relax.op.matmul(source, _float32(scaled)))
        return relax.op.add(product, _float32(shift))

    def _affine(self, expr: Any) -> tuple[Any, Float64, Float64] | None:
        """(x, s, t) with ``expr`` = s * x + t per feature, if it is that."""
        value = self.producer(expr)
        if isinstance(value, relax.TupleGetItem):
            value = self.producer(value.tuple_value)
        if len(shape_of(expr)) != 2 or not isinstance(value, relax.Call):
            return None
        if op_name(value) == "relax.nn.batch_norm":
            return self._batch_norm(value)
        kind = op_name(value).removeprefix("relax.")
        if kind not in ("add", "subtract", "multiply", "divide"):
            return None
        a, b = (self.producer(arg) for arg in value.args)
        if is_constant(a) == is_constant(b) or (is_constant(a) and kind == "divide"):
            return None
        c = constant_array(a if is_constant(a) else b).astype(np.float64).reshape(-1)
        one, zero = np.ones(1), np.zeros(1)
        if kind in ("add", "multiply"):
            return value.args[int(is_constant(a))], *((one, c) if kind == "add" else (c, zero))
        if kind == "divide":
            return value.args[0], one / c, zero
        return (value.args[1], -one, c) if is_constant(a) else (value.args[0], one, -c)

    def _batch_norm(self, call: relax.Call) -> tuple[Any, Float64, Float64] | None:
        parameters = [self.producer(arg) for arg in call.args[1:5]]
        if not all(map(is_constant, parameters)) or int(call.attrs.axis) != 1:
            return None
        gamma, beta, mean, variance = (constant_array(p).astype(np.float64) for p in parameters)
        spread = variance + float(call.attrs.epsilon)
        if not (spread > 0).all():
            return None  # FuseBlocks names it
        scale = gamma / np.sqrt(spread)
        return call.args[0], scale, beta - mean * scale

    def _is_absorbed(self, source: Any) -> bool:
        """Whether features are the outputs of a layer without an activation, one by one."""
        value = self.producer(source)
        if op_name(value) == "relax.reshape":
            flattened = shape_of(value.args[0])
            if len(flattened) == 4 and flattened[2:] != (1, 1):
                return False
            value = self.producer(value.args[0])
        if isinstance(value, relax.TupleGetItem):
            value = self.producer(value.tuple_value)
        return op_name(value) in _OPENS_BLOCK


def _float32(values: Float64) -> relax.Constant:
    return relax.const(np.ascontiguousarray(values, np.float32))
