"""Canonicalize: one form for each idea that frontends spell in several ways.

nn.pad + nn.conv2d / nn.max_pool2d      --> the window's own padding
nn.relu6, clip(x, 0, a)                 --> clip(x, 0, a)
avg_pool2d over the map, adaptive_avg_pool2d to 1x1, mean over (H, W)
                                        --> mean(axis=[2, 3], keepdims=True)
reshape / permute_dims of a constant    --> the constant
(a, b)[i]                               --> a or b
softmax at the end                      --> dropped: it does not move the argmax
a 1-tuple as result                     --> its element
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from relay_passes.graph import (
    CallRewriter,
    bindings,
    name_of,
    op_name,
    shape_of,
    unsupported,
    with_note,
)
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant, mutator, relax, tvm
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.finite import check_finite
from tvm_mpq.notes import Note

_KEEPS_ARGMAX = ("relax.nn.softmax", "relax.nn.log_softmax")


@tvm.transform.module_pass(opt_level=0, name="Canonicalize")
class Canonicalize:
    """Bring an imported float module into canonical form.

    Raises
    ------
    InvalidValueError: dynamic shapes, a batch other than 1, NaN or infinite constants.
    UnsupportedOperatorError: batch norm in training mode, several outputs, odd paddings.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        check_parameters(mod)
        _check_constants(mod)
        canonical = _unwrap_result(_Canonicalizer(mod).transform())
        dropped = final_softmax(mod)
        if dropped is None:
            return canonical
        name = op_name(dropped).removeprefix("relax.nn.")
        text = f"the {name} at the end is left out: outputs are its inputs, the logits"
        return with_note(canonical, Note("dropped", "output", text))


def final_softmax(mod: IRModule) -> Any:
    """The call at the end of ``mod`` that does not move the argmax, and is dropped; or None."""
    last = _last_call(mod)
    return last if op_name(last) in _KEEPS_ARGMAX else None


@mutator
class _Canonicalizer(CallRewriter):
    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self._dropped = final_softmax(mod)

    def visit_call_(self, call: relax.Call) -> Any:
        if self._dropped is not None and call.same_as(self._dropped):
            return self.visit_expr(call.args[0])
        return super().visit_call_(call)

    def rewrite(self, call: relax.Call) -> Any:
        handler = getattr(self, "_" + op_name(call).removeprefix("relax.").replace(".", "_"), None)
        return handler(call) if handler else call

    def visit_tuple_getitem_(self, item: relax.TupleGetItem) -> Any:
        item = self.visit_expr_post_order(item)
        source = self.producer(item.tuple_value)
        return source.fields[item.index] if isinstance(source, relax.Tuple) else item

    def _nn_conv2d(self, call: relax.Call) -> Any:
        if str(call.attrs.data_layout) != "NCHW" or str(call.attrs.kernel_layout) != "OIHW":
            raise unsupported(
                "conv2d",
                f"layout {call.attrs.data_layout}/{call.attrs.kernel_layout}",
                "Only NCHW / OIHW is supported: convert the layout first",
            )
        if [int(v) for v in call.attrs.dilation] != [1, 1]:
            raise unsupported(
                "conv2d", f"dilation {list(call.attrs.dilation)}", "Only dilation 1 is supported"
            )
        source, padding = self._absorb_pad(call)
        return relax.op.nn.conv2d(
            source,
            call.args[1],
            strides=list(call.attrs.strides),
            padding=padding,
            groups=int(call.attrs.groups),
        )

    def _nn_max_pool2d(self, call: relax.Call) -> Any:
        if bool(call.attrs.ceil_mode) or [int(v) for v in call.attrs.dilation] != [1, 1]:
            raise unsupported(
                "max_pool2d",
                "ceil_mode or dilation",
                "Only floor mode and dilation 1 are supported",
            )
        # The padding of a max pool is -inf, a padded zero is not: leave an nn.pad in front alone.
        return call

    def _absorb_pad(self, call: relax.Call) -> tuple[Any, list[int]]:
        padding = [int(v) for v in call.attrs.padding]
        pad = self.producer(call.args[0])
        if op_name(pad) != "relax.nn.pad":
            return call.args[0], padding
        width = [int(v) for v in pad.attrs.pad_width]
        if any(width[:4]) or min(width) < 0 or str(pad.attrs.pad_mode) != "constant":
            raise unsupported(
                "nn.pad",
                f"pad_width {width}, mode {pad.attrs.pad_mode}",
                "Only zero padding of height and width is supported",
            )
        if float(getattr(pad.attrs, "pad_value", 0.0)) != 0.0:
            raise unsupported("nn.pad", "a value other than 0", "Only zero padding is supported")
        top, bottom, left, right = width[4:]
        extra = [top, left, bottom, right]
        return pad.args[0], [a + b for a, b in zip(padding, extra, strict=True)]

    def _nn_batch_norm(self, call: relax.Call) -> Any:
        if bool(call.attrs.training):
            raise unsupported(
                "batch_norm",
                "the module was exported in training mode",
                "Call model.eval() before torch.export.export",
            )
        return call

    def _nn_relu6(self, call: relax.Call) -> Any:
        return relax.op.clip(call.args[0], 0, 6)

    def _nn_dropout(self, call: relax.Call) -> Any:
        return relax.Tuple([call.args[0], call.args[0]])

    def _nn_adaptive_avg_pool2d(self, call: relax.Call) -> Any:
        size = [int(v) for v in call.attrs.output_size or (1, 1)]
        if size != [1, 1]:
            raise unsupported("adaptive_avg_pool2d", f"output {size}", "Only 1x1 is supported")
        return relax.op.mean(call.args[0], axis=[2, 3], keepdims=True)

    def _nn_avg_pool2d(self, call: relax.Call) -> Any:
        window = [int(v) for v in call.attrs.pool_size]
        if window != list(shape_of(call.args[0])[2:]) or any(int(v) for v in call.attrs.padding):
            raise unsupported(
                "avg_pool2d",
                f"a window of {window} over {shape_of(call.args[0])[2:]}",
                "Only a pool over the whole map is supported",
            )
        return relax.op.mean(call.args[0], axis=[2, 3], keepdims=True)

    def _mean(self, call: relax.Call) -> Any:
        rank = len(shape_of(call.args[0]))
        axes = sorted(int(a) % rank for a in call.attrs.axis)
        if rank != 4 or axes != [2, 3]:
            raise unsupported("mean", f"axes {axes}", "Only height and width can be averaged")
        if bool(call.attrs.keepdims):
            return call
        pooled = self.builder_.emit(relax.op.mean(call.args[0], axis=[2, 3], keepdims=True))
        return relax.op.reshape(pooled, shape_of(pooled)[:2])

    def _reshape(self, call: relax.Call) -> Any:
        if is_constant(call.args[0]):
            shape = [int(v) for v in call.args[1].values]
            return relax.const(constant_array(call.args[0]).reshape(shape))
        return call

    def _permute_dims(self, call: relax.Call) -> Any:
        if is_constant(call.args[0]):
            axes = None if call.attrs.axes is None else [int(v) for v in call.attrs.axes]
            array = np.ascontiguousarray(constant_array(call.args[0]).transpose(axes))
            return relax.const(array)
        return call


def check_parameters(mod: IRModule) -> None:
    """Raise InvalidValueError unless ``main`` has one input [1, C, H, W] of fixed shape."""
    if len(mod["main"].params) != 1:
        names = ", ".join(name_of(p) for p in mod["main"].params)
        raise InvalidValueError(
            f"main has {len(mod['main'].params)} inputs ({names}); expected one image, with the"
            " weights bound as constants (relax.transform.BindParams)"
        )
    for parameter in mod["main"].params:
        extents = list(parameter.ty.shape or [])
        if not extents or not all(hasattr(extent, "value") for extent in extents):
            raise InvalidValueError(
                f"input {name_of(parameter)}: shape {parameter.ty.shape} is dynamic; export the"
                " model with a fixed example input"
            )
        if len(extents) != 4 or int(extents[0]) != 1:
            raise InvalidValueError(
                f"input {name_of(parameter)}: shape {[int(v) for v in extents]}; expected"
                " [1, channels, height, width]: a microcontroller sees one image at a time"
            )


def _check_constants(mod: IRModule) -> None:
    for var, value in bindings(mod):
        for constant in filter(is_constant, _leaves(value)):
            array = constant_array(constant)
            if array.dtype.kind == "f":
                what = f"{name_of(var)} = {op_name(value) or 'constant'}: its constant"
                check_finite(f"{what} of shape {array.shape}", array, "check the weights")


def _leaves(value: Any) -> Iterator[Any]:
    """What a value is made of: the operands of a call, the fields of a tuple."""
    inner = [*getattr(value, "args", ()), *getattr(value, "fields", ())]
    yield from (leaf for part in inner for leaf in _leaves(part)) if inner else [value]


def _last_call(mod: IRModule) -> Any:
    """The value that ``main`` returns, seen through aliases and a 1-tuple."""
    values = dict(bindings(mod))
    result = mod["main"].body.body
    while isinstance(result, relax.Var) and result in values:
        result = values[result]
        if isinstance(result, relax.Tuple) and len(result.fields) == 1:
            result = result.fields[0]
    return result


def _unwrap_result(mod: IRModule) -> IRModule:
    result = mod["main"].body.body
    value = dict(bindings(mod)).get(result, result)
    if not isinstance(value, relax.Tuple):
        return mod
    if len(value.fields) != 1:
        raise unsupported(
            "main", f"{len(value.fields)} outputs", "Only a single output is supported"
        )
    return _Unwrapper(mod, value).transform()


@mutator
class _Unwrapper(CallRewriter):
    """Drops the 1-tuple that torch.export wraps around a single result."""

    def __init__(self, mod: IRModule, result: relax.Tuple) -> None:
        super().__init__(mod)
        self._result = result

    def visit_tuple_(self, value: relax.Tuple) -> Any:
        is_result = value.same_as(self._result)
        value = self.visit_expr_post_order(value)
        return value.fields[0] if is_result else value
