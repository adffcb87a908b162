"""The operators of the two graph stages, registered with Relax.

Float blocks (after FuseBlocks), NCHW float32:

    mpq.conv2d, mpq.depthwise_conv2d (x, w, g, h)    act(g[c] * conv(x, w) + h[c])
    mpq.dense (x, w, g, h)                           x is a map; w is O I H W over all of it
    mpq.add (a, b)  mpq.concat (a, b)  mpq.max_pool2d (x)  mpq.global_avg_pool (x)

Integer operators (after RewriteToIcn): the same names with ``icn_``, on codes. Activations have
type uint8, uint4 or uint2, so that their widths show in the printed module; the image is uint8
NHWC; logits are int32. Weights are canonical codes, one a byte: (x, codes, m0, n0, bq, zw).

    mpq.kernel (inputs..., packed w, packed icn)     one chosen kernel, packed buffers
"""

from __future__ import annotations

from typing import Any

from relay_passes.graph import shape_of
from tvm_mpq._tvm_compat import register_op, relax
from tvm_mpq.kernels.spec import KernelSpec

WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")


def window_output(shape: tuple[int, ...], kernel: tuple[int, ...], attrs: Any) -> tuple[int, int]:
    """(height, width) of a sliding window over NCHW ``shape``."""
    top, left, bottom, right = (int(v) for v in attrs["padding"])
    stride_y, stride_x = (int(v) for v in attrs["strides"])
    height = (shape[2] + top + bottom - kernel[0]) // stride_y + 1
    width = (shape[3] + left + right - kernel[1]) // stride_x + 1
    return height, width


def _nchw(call: relax.Call, index: int = 0) -> tuple[int, ...]:
    shape = shape_of(call.args[index])
    if "x_layout" in call.attrs.keys() and str(call.attrs["x_layout"]) == "hwc8":  # noqa: SIM118
        return (shape[0], shape[3], shape[1], shape[2])
    return shape


def _dtype(call: relax.Call) -> str:
    if "y_dtype" in call.attrs.keys():  # noqa: SIM118  (attrs is no dict)
        return str(call.attrs["y_dtype"])
    return "float32"


def _infer_conv2d(call: relax.Call, _builder: Any) -> Any:
    weights = shape_of(call.args[1])
    size = window_output(_nchw(call), weights[2:], call.attrs)
    return relax.TensorType((1, weights[0], *size), _dtype(call))


def _infer_dense(call: relax.Call, _builder: Any) -> Any:
    return relax.TensorType((1, shape_of(call.args[1])[0], 1, 1), _dtype(call))


def _infer_add(call: relax.Call, _builder: Any) -> Any:
    return relax.TensorType(_nchw(call), _dtype(call))


def _infer_concat(call: relax.Call, _builder: Any) -> Any:
    first, second = _nchw(call), _nchw(call, 1)
    return relax.TensorType((1, first[1] + second[1], *first[2:]), _dtype(call))


def _infer_max_pool2d(call: relax.Call, _builder: Any) -> Any:
    shape = _nchw(call)
    kernel = tuple(int(v) for v in call.attrs["window"])
    return relax.TensorType((1, shape[1], *window_output(shape, kernel, call.attrs)), _dtype(call))


def _infer_global_avg_pool(call: relax.Call, _builder: Any) -> Any:
    return relax.TensorType((1, _nchw(call)[1], 1, 1), _dtype(call))


def _infer_kernel(call: relax.Call, _builder: Any) -> Any:
    shape, dtype = KernelSpec.from_json(str(call.attrs["spec"])).output.buffer
    return relax.TensorType(shape, dtype)


_INFER = {
    "conv2d": (_infer_conv2d, "act(g * conv2d(x, w) + h)"),
    "depthwise_conv2d": (_infer_conv2d, "act(g * depthwise_conv2d(x, w) + h)"),
    "dense": (_infer_dense, "act(g * (w x) + h)"),
    "add": (_infer_add, "act(a + b)"),
    "concat": (_infer_concat, "a and b side by side along channels"),
    "max_pool2d": (_infer_max_pool2d, "maximum over a sliding window"),
    "global_avg_pool": (_infer_global_avg_pool, "mean over the map"),
}
for _op, (_infer, _text) in _INFER.items():
    register_op(f"mpq.{_op}", _infer, _text)
    register_op(f"mpq.icn_{_op}", _infer, f"integer {_text}")
register_op("mpq.kernel", _infer_kernel, "a chosen kernel on packed buffers")
