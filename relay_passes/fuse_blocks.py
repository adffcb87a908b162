"""FuseBlocks: convolution or dense, bias, batch norm and activation become one block.

    clip(batch_norm(add(conv2d(x, w), b)), 0, 6)
        --> mpq.conv2d(x, w, g, h, activation="clip", clip_max=6)

Batch norm is not folded into the weights: g = gamma / sigma and h = beta + (b - mu) * g stay
per-channel float64 constants, because ICN absorbs them exactly (see quant/icn.py).
"""

from __future__ import annotations

from math import isfinite, prod
from typing import Any

import numpy as np

from relay_passes import ops  # noqa: F401  (registers the operators)
from relay_passes.graph import Rebuilder, name_of, op_name, shape_of, unsupported, use_counts
from tvm_mpq._tvm_compat import (
    IRModule,
    call_attrs,
    constant_array,
    is_constant,
    make_call,
    relax,
    tvm,
)
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.names import c_name

_SUPPORTED = (
    "conv2d, depthwise conv2d, linear, batch_norm, relu, relu6, clip(0, a), add, concat,"
    " max_pool2d, mean over the map, flatten"
)


@tvm.transform.module_pass(opt_level=0, name="FuseBlocks")
class FuseBlocks:
    """Canonical float operators --> ``mpq.*`` blocks, every one with a unique ``name``.

    Raises UnsupportedOperatorError for anything that has no integer counterpart; InvalidValueError
    for a batch norm whose variance and epsilon are not above 0.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        return _Fuser(mod).transform()


class _Fuser(Rebuilder):
    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self._uses = use_counts(mod)
        self._blocks = 0
        # The only names that come from the user.
        self._taken = {c_name(name_of(parameter)) for parameter in mod["main"].params}

    def convert(self, var: relax.Var, value: Any) -> Any:
        if isinstance(value, relax.TupleGetItem):
            return self.new[value.tuple_value]
        name = op_name(value)
        handler = getattr(self, "_" + name.removeprefix("relax.").replace(".", "_"), None)
        if handler is None:
            what = name or type(value).__name__
            raise unsupported(
                f"{name_of(var)} = {what}", "no integer counterpart", f"Supported: {_SUPPORTED}"
            )
        return handler(var, value)

    # Operators that open a block.

    def _nn_conv2d(self, var: relax.Var, call: relax.Call) -> Any:
        x, weights = self.arguments(call)
        array = self._weights(var, weights)
        channels, groups = shape_of(x)[1], int(call.attrs.groups)
        padding = [int(v) for v in call.attrs.padding]
        attrs = {"strides": [int(v) for v in call.attrs.strides], "padding": padding}
        if groups == 1:
            covers = array.shape[2:] == shape_of(x)[2:] and not any(padding)
            return self._open("dense" if covers else "conv2d", x, array, {} if covers else attrs)
        if groups == channels and array.shape[:2] == (channels, 1):
            return self._open("depthwise_conv2d", x, array, attrs)
        raise unsupported(
            f"{name_of(var)} = conv2d",
            f"groups={groups} with weights {array.shape}",
            "Only groups=1 and depthwise with multiplier 1 are supported",
        )

    def _matmul(self, var: relax.Var, call: relax.Call) -> Any:
        x, weights = self.arguments(call)
        array = self._weights(var, weights).T
        channels, height, width = shape_of(x)[1:]
        if array.shape[1] != channels * height * width:
            raise unsupported(
                f"{name_of(var)} = matmul",
                f"weights {array.shape} on a map {shape_of(x)}",
                "Only a dense layer over the whole flattened map is supported",
            )
        reshaped = array.reshape(array.shape[0], channels, height, width)
        return self._open("dense", x, reshaped, {})

    def _nn_max_pool2d(self, _var: relax.Var, call: relax.Call) -> Any:
        attrs = {
            "window": [int(v) for v in call.attrs.pool_size],
            "strides": [int(v) for v in call.attrs.strides],
            "padding": [int(v) for v in call.attrs.padding],
        }
        return self._emit("max_pool2d", self.arguments(call), attrs)

    def _mean(self, _var: relax.Var, call: relax.Call) -> Any:
        return self._emit("global_avg_pool", [self.new[call.args[0]]], {})

    def _concat(self, var: relax.Var, call: relax.Call) -> Any:
        if int(call.attrs.axis) % len(shape_of(var)) != 1:
            raise unsupported(
                f"{name_of(var)} = concat", f"axis {call.attrs.axis}", "Only channels (1) can be"
            )
        maps = self._joinable(var, call.args[0].fields)
        joined = maps[0]
        for other in maps[1:]:
            joined = self._emit("concat", [joined, other], {})
        return joined

    def _joinable(self, var: relax.Var, fields: Any) -> list[Any]:
        """The new operands of a concat: maps of one height and width."""
        what = f"{name_of(var)} = concat"
        if any(is_constant(field) for field in fields):
            raise unsupported(what, "a constant among its inputs", "Only maps can be joined")
        maps = [self.new[field] for field in fields]
        if len({shape_of(one)[2:] for one in maps}) > 1:
            shapes = ", ".join(str(shape_of(one)) for one in maps)
            raise unsupported(
                what,
                f"maps {shapes}",
                "Only maps of one height and width can be joined, flattened or not; pool them to"
                " one size first",
            )
        return maps

    # Operators that extend the block of their input.

    def _add(self, var: relax.Var, call: relax.Call) -> Any:
        a, b = self.arguments(call)
        if not is_constant(a) and not is_constant(b):
            if shape_of(a) != shape_of(b):
                raise unsupported(
                    f"{name_of(var)} = add",
                    f"shapes {shape_of(a)} and {shape_of(b)}",
                    "Only maps of one shape can be added",
                )
            return self._emit("add", [a, b], {"activation": "none", "clip_max": 0.0})
        source, constant = (call.args[1], a) if is_constant(a) else (call.args[0], b)
        block = self._block_of(var, source, "add")
        g, h = self._scale_and_offset(block)
        return self._replace(block, g, h + self._channels(var, block, constant))

    def _nn_batch_norm(self, var: relax.Var, call: relax.Call) -> Any:
        block = self._block_of(var, call.args[0], "batch_norm")
        gamma, beta, mean, variance = (
            constant_array(arg).astype(np.float64) for arg in self.arguments(call)[1:5]
        )
        spread = variance + float(call.attrs.epsilon)
        if not (spread > 0).all():
            channel = int(spread.argmin())
            raise InvalidValueError(
                f"{name_of(var)} = batch_norm after {call_attrs(block)['name']}: the variance of"
                f" channel {channel} is {variance[channel]:g}, with epsilon {spread[channel]:g};"
                " expected more than 0; check the running statistics"
            )
        g, h = self._scale_and_offset(block)
        if int(call.attrs.axis) != 1 or gamma.shape != g.shape:
            raise unsupported(
                f"{name_of(var)} = batch_norm",
                f"{gamma.size} channels along axis {int(call.attrs.axis)} of a tensor"
                f" {list(shape_of(call.args[0]))}",
                f"Only the {g.size} channels of the layer before it, along axis 1, can be"
                " normalized",
            )
        scale = gamma / np.sqrt(spread)
        return self._replace(block, g * scale, beta + (h - mean) * scale)

    def _nn_relu(self, var: relax.Var, call: relax.Call) -> Any:
        return self._activate(var, call, "relu", 0.0)

    def _clip(self, var: relax.Var, call: relax.Call) -> Any:
        low, high = (float(arg.value) for arg in call.args[1:3])
        if low != 0.0 or not high > 0.0:
            raise unsupported(
                f"{name_of(var)} = clip", f"range [{low}, {high}]", "Only [0, a] is supported"
            )
        return self._activate(var, call, *(("clip", high) if isfinite(high) else ("relu", 0.0)))

    def _reshape(self, var: relax.Var, call: relax.Call) -> Any:
        source = self.new[call.args[0]]
        if shape_of(var) not in ((1, prod(shape_of(source))), shape_of(source)):
            raise unsupported(
                f"{name_of(var)} = reshape",
                f"{shape_of(source)} to {shape_of(var)}",
                "Only flatten is supported",
            )
        return source

    # Helpers.

    def _weights(self, var: relax.Var, expr: Any) -> Any:
        if not is_constant(expr):
            raise unsupported(
                f"{name_of(var)}",
                "weights that are not a constant",
                "Bind the parameters first (relax.transform.BindParams)",
            )
        return constant_array(expr).astype(np.float32)

    def _open(self, op: str, x: Any, weights: Any, attrs: dict[str, Any]) -> Any:
        channels = weights.shape[0]
        operands = [x, relax.const(np.ascontiguousarray(weights))]
        operands += [_float64(np.ones(channels)), _float64(np.zeros(channels))]
        return self._emit(op, operands, attrs | {"activation": "none", "clip_max": 0.0})

    def _emit(self, op: str, operands: list[Any], attrs: dict[str, Any]) -> Any:
        name = f"{op}_{self._blocks}"
        if name in self._taken:
            name += "_layer"
        self._blocks += 1
        return self.builder.emit(make_call(f"mpq.{op}", operands, attrs | {"name": name}))

    def _block_of(self, var: relax.Var, source: Any, what: str) -> relax.Call:
        """The open block that produced ``source``, if nothing else reads it."""
        bound = self.builder.lookup_binding(self.new[source])
        block = op_name(bound).removeprefix("mpq.")
        fusable = ("conv2d", "depthwise_conv2d", "dense", "add")
        if block not in fusable or str(bound.attrs["activation"]) != "none":
            raise unsupported(
                f"{name_of(var)} = {what}",
                f"it follows {block or 'the input'}",
                "It must follow a convolution, a dense layer or an add directly",
            )
        if what != "activation" and block == "add":
            raise unsupported(
                f"{name_of(var)} = {what}", "it follows an add", "Move it before the add"
            )
        if self._uses[source] != 1:
            raise unsupported(
                f"{name_of(var)} = {what}",
                f"{name_of(source)} is also read elsewhere",
                "A tensor between a convolution and its activation can have one reader only",
            )
        return bound

    def _scale_and_offset(self, block: relax.Call) -> tuple[Any, Any]:
        return constant_array(block.args[2]), constant_array(block.args[3])

    def _channels(self, var: relax.Var, block: relax.Call, constant: Any) -> Any:
        """A constant operand as one value a channel, by the shape that it broadcasts over."""
        values = constant_array(constant).astype(np.float64)
        channels, shape = shape_of(block.args[1])[0], shape_of(var)
        refused = unsupported(
            f"{name_of(var)} = add",
            f"a constant of shape {list(values.shape)} to a tensor {list(shape)}",
            f"Only one value a channel can be added: shape [{channels}, 1, 1], or [{channels}]"
            " after a linear layer",
        )
        if prod(shape) != prod(shape_of(block)) or shape[1] != channels:
            raise refused
        whole = np.broadcast_to(values, shape).reshape(channels, -1)
        if (whole != whole[:, :1]).any():
            raise refused
        return whole[:, 0]

    def _replace(self, block: relax.Call, g: Any, h: Any) -> Any:
        operands = [*block.args[:2], _float64(g), _float64(h)]
        return self.builder.emit(make_call(str(block.op.name), operands, call_attrs(block)))

    def _activate(self, var: relax.Var, call: relax.Call, kind: str, high: float) -> Any:
        source = self.new[call.args[0]]
        before = self.builder.lookup_binding(source)
        if self._is_inside(before, kind, high):
            return source
        block = self._block_of(var, call.args[0], "activation")
        attrs = call_attrs(block) | {"activation": kind, "clip_max": high}
        return self.builder.emit(make_call(str(block.op.name), list(block.args), attrs))

    def _is_inside(self, block: Any, kind: str, high: float) -> bool:
        """Whether a block's own activation makes a further one a no-op."""
        if not op_name(block).startswith("mpq.") or "activation" not in call_attrs(block):
            return False
        attrs = call_attrs(block)
        if attrs["activation"] == "clip":
            return kind == "relu" or attrs["clip_max"] <= high
        return attrs["activation"] == "relu" and kind == "relu"


def _float64(values: Any) -> relax.Constant:
    # Without a dtype, relax.const makes float32 of a float64 array.
    return relax.const(np.ascontiguousarray(values), "float64")
