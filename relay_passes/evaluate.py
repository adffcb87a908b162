"""Run a module of ``mpq.*`` operators: float blocks with torch, integer operators with numpy.

The integer run is the numpy reference of a whole network: what every other implementation of it
must equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from relay_passes.graph import Node, name_of, nodes, output_of
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant
from tvm_mpq.kernels import reference
from tvm_mpq.quant.icn import IcnParams

Observer = Callable[[str, Any], None]


def evaluate_float(
    mod: IRModule, images: npt.NDArray[np.float32], observe: Observer | None = None
) -> npt.NDArray[np.float32]:
    """Outputs [N, C] of float blocks for real images [N, C, H, W]; ``observe(layer, tensor)``."""
    import torch

    with torch.no_grad():
        values: dict[Any, Any] = {mod["main"].params[0]: torch.from_numpy(images)}
        if observe:
            observe(name_of(mod["main"].params[0]), values[mod["main"].params[0]])
        for node in nodes(mod):
            args = [_float_operand(arg, values) for arg in node.args]
            values[node.var] = _float_node(node, args)
            if observe:
                observe(node.name, values[node.var])
        result: npt.NDArray[np.float32] = values[output_of(mod)].flatten(1).numpy()
    return result


def _float_operand(arg: Any, values: dict[Any, Any]) -> Any:
    import torch

    if not is_constant(arg):
        return values[arg]
    return torch.from_numpy(constant_array(arg).astype(np.float32))


def _float_node(node: Node, args: list[Any]) -> Any:
    import torch
    from torch.nn import functional

    attrs = node.attrs
    if node.op in ("conv2d", "depthwise_conv2d"):
        top, left, bottom, right = attrs["padding"]
        groups = args[0].shape[1] if node.op == "depthwise_conv2d" else 1
        padded = functional.pad(args[0], (left, right, top, bottom))
        y = functional.conv2d(padded, args[1], stride=attrs["strides"], groups=groups)
        return _activation(y * args[2][:, None, None] + args[3][:, None, None], attrs)
    if node.op == "dense":
        y = args[0].flatten(1) @ args[1].flatten(1).T
        return _activation((y * args[2] + args[3])[:, :, None, None], attrs)
    if node.op == "add":
        return _activation(args[0] + args[1], attrs)
    if node.op == "concat":
        return torch.cat(args, 1)
    if node.op == "max_pool2d":
        top, left, bottom, right = attrs["padding"]
        padded = functional.pad(args[0], (left, right, top, bottom), value=-float("inf"))
        return functional.max_pool2d(padded, attrs["window"], attrs["strides"])
    return args[0].mean((2, 3), keepdim=True)


def _activation(y: Any, attrs: dict[str, Any]) -> Any:
    if attrs["activation"] == "none":
        return y
    return y.clamp(0.0, attrs["clip_max"] if attrs["activation"] == "clip" else None)


def evaluate_integer(
    mod: IRModule, image: npt.NDArray[np.uint8], observe: Observer | None = None
) -> npt.NDArray[np.int32]:
    """int32 logits [C] of integer operators for one uint8 image [H, W, C]."""
    values: dict[Any, Any] = {mod["main"].params[0]: image.transpose(2, 0, 1)}
    for node in nodes(mod):
        args = [constant_array(a) if is_constant(a) else values[a] for a in node.args]
        values[node.var] = _integer_node(node, args)
        if observe:
            observe(node.name, values[node.var])
    result: npt.NDArray[np.int32] = values[output_of(mod)].reshape(-1)
    return result


def _integer_node(node: Node, args: list[Any]) -> Any:
    attrs = node.attrs
    op = node.op.removeprefix("icn_")
    if op in ("conv2d", "depthwise_conv2d", "dense"):
        return _weighted_node(op, attrs, args)
    if op == "add":
        params = reference.AddParams(tuple(attrs["m"]), attrs["shift"], attrs["nearest"])
        zeros = tuple(attrs["x_zero_points"])
        return reference.add(
            args[0], args[1], params, zeros, attrs["y_zero_point"], attrs["y_bits"]
        )
    if op == "concat":
        parts = []
        for i, x in enumerate(args):
            params_i = reference.RescaleParams(attrs["m"][i], attrs["shift"][i], attrs["nearest"])
            zero = attrs["x_zero_points"][i]
            parts.append(
                reference.rescale(x, params_i, zero, attrs["y_zero_point"], attrs["y_bits"])
            )
        return np.concatenate(parts)
    if op == "max_pool2d":
        return reference.max_pool2d(args[0], attrs["window"], attrs["strides"], attrs["padding"])
    return reference.global_avg_pool(
        args[0],
        attrs["x_zero_points"][0],
        attrs["bq"],
        attrs["m"],
        attrs["shift"],
        attrs["y_zero_point"],
        attrs["y_bits"],
    )


def _weighted_node(op: str, attrs: dict[str, Any], args: list[Any]) -> Any:
    x, codes, m0, n0, bq, zw = args
    phi_of = reference.conv2d_phi
    if op == "depthwise_conv2d":
        phi_of = reference.depthwise_conv2d_phi
    strides = attrs.get("strides", (1, 1))
    padding = attrs.get("padding", (0, 0, 0, 0))
    phi = phi_of(x, codes, attrs["x_zero_points"][0], zw, strides, padding)
    icn = IcnParams(m0, n0, bq, zw)
    return reference.layer(phi, icn, attrs["y_zero_point"], attrs["y_bits"])
