"""Which range the images of a network had, by the statistics of its first batch norm.

A network of images in 0..1 that is fed -1..1 loses nearly all accuracy without a word, so the range
is never guessed: it is given, or the first layer's running statistics tell it clearly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from relay_passes.graph import bindings, name_of, nodes, op_name
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.images import to_real
from tvm_mpq.notes import Note
from tvm_mpq.specs import INPUT_RANGES, InputSpec

Float64 = npt.NDArray[np.float64]
# What torchvision's networks are trained with, for images in 0..1; an InputSpec has one scale.
_IMAGENET = "ImageNet's mean and standard deviation"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGES = 64
# The range that fits best must fit this many times better than the next one, and well enough:
# calibration images are never quite those of the training.
_CLEARLY, _WELL = 3.0, 1.0


@dataclass(frozen=True)
class _FirstLayer:
    """A convolution on the input, and the mean and variance that its outputs had in training."""

    name: str
    attrs: Any
    weights: npt.NDArray[np.float32]
    bias: Float64
    mean: Float64
    variance: Float64


def find_input_spec(
    mod: IRModule, images: npt.NDArray[np.uint8], resize: str = "whole"
) -> tuple[InputSpec, Note]:
    """The input of a canonical module, found on uint8 images [N, H, W, C], and what to tell of it.

    Raises InvalidValueError where the module does not tell it clearly.
    """
    name = name_of(mod["main"].params[0])
    first = _first_layer(mod)
    if first is None:
        raise _unknown(name, "its first layer has no batch norm that tells it")
    misfits = sorted((misfit, text) for text, misfit in _misfits(first, images[:_IMAGES]).items())
    (best, text), (second, other) = misfits[:2]
    if best > _WELL or second < _CLEARLY * best:
        raise _unknown(name, f"the batch norm of {first.name} fits {text} and {other} alike")
    if text == _IMAGENET:
        raise _normalized(name, first.name)
    ratio = second / max(best, 1e-9)
    told = (
        f"images are taken as {text}: the batch norm of {first.name} fits that"
        f" {min(ratio, 1000):.0f} times better than {other}"
    )
    return InputSpec.from_range(text, resize), Note("found", name, told)


def border_notes(blocks: IRModule, spec: InputSpec) -> Iterator[Note]:
    """What to tell where float blocks pad an input that has no code for 0."""
    parameter = blocks["main"].params[0]
    padded = any(parameter in n.args and any(n.attrs.get("padding", ())) for n in nodes(blocks))
    if padded and spec.offset:
        text = (
            f"beyond the border of the image lies code {spec.zero_point}, which stands for"
            f" {spec.offset:.2g} and not for 0"
        )
        yield Note("approximated", name_of(parameter), text)


def _unknown(name: str, why: str) -> InvalidValueError:
    ranges = ", ".join(f"'{text}'" for text in INPUT_RANGES)
    return InvalidValueError(
        f"input {name}: the range of the images is not given, and {why}. Give the range that the"
        f" model was trained with: build(input_spec=InputSpec.from_range(...)) or --input-range,"
        f" one of {ranges}"
    )


def _normalized(name: str, layer: str) -> InvalidValueError:
    return InvalidValueError(
        f"input {name}: the batch norm of {layer} fits images normalized by {_IMAGENET}, which an"
        " input of one scale cannot have. Fold them into the first convolution (weights / std, bias"
        " - sum of weights * mean / std) and give the range '0,1'"
    )


def _first_layer(mod: IRModule) -> _FirstLayer | None:
    values = dict(bindings(mod))
    for var, value in values.items():
        if op_name(value) == "relax.nn.batch_norm":
            found = _layer_of(mod, var, value, values)
            if found is not None:
                return found
    return None


def _layer_of(mod: IRModule, var: Any, norm: Any, values: dict[Any, Any]) -> _FirstLayer | None:
    """What ``norm`` normalizes, if that is a convolution on the input and at most a bias."""
    source: Any = values.get(norm.args[0])
    bias: Float64 = np.zeros(1)
    if op_name(source) == "relax.add":
        terms = [values.get(arg, arg) for arg in source.args]
        constants = [constant_array(term) for term in terms if is_constant(term)]
        if len(constants) != 1 or constants[0].size not in (1, constant_array(norm.args[1]).size):
            return None
        source = next(term for term in terms if not is_constant(term))
        bias = constants[0].astype(np.float64).reshape(-1)
    if op_name(source) != "relax.nn.conv2d" or source.args[0] not in tuple(mod["main"].params):
        return None
    mean, variance = (constant_array(arg).astype(np.float64) for arg in norm.args[3:5])
    weights = constant_array(source.args[1])
    return _FirstLayer(name_of(var), source.attrs, weights, bias, mean, variance)


def _misfits(layer: _FirstLayer, images: npt.NDArray[np.uint8]) -> dict[str, float]:
    """For each range, how far the layer's outputs lie from the statistics of its batch norm.

    The Kullback-Leibler divergence of two normal distributions, in nats; the median of the
    channels, because some of them may be dead.
    """
    inputs = {text: to_real(images, InputSpec.from_range(text)) for text in INPUT_RANGES}
    if images.shape[-1] == len(_MEAN):
        normalized = (inputs["0,1"] - np.reshape(_MEAN, (3, 1, 1))) / np.reshape(_STD, (3, 1, 1))
        inputs[_IMAGENET] = normalized.astype(np.float32)
    found = {}
    for text, real in inputs.items():
        mean, variance = _statistics(layer, real)
        ratio = np.maximum(variance, 1e-30) / np.maximum(layer.variance, 1e-30)
        shift = (mean - layer.mean) ** 2 / np.maximum(layer.variance, 1e-30)
        found[text] = float(np.median(0.5 * (ratio + shift - 1 - np.log(ratio))))
    return found


def _statistics(layer: _FirstLayer, real: npt.NDArray[np.float32]) -> tuple[Float64, Float64]:
    import torch
    from torch.nn import functional

    top, left, bottom, right = (int(v) for v in layer.attrs.padding)
    padded = functional.pad(torch.from_numpy(real), (left, right, top, bottom))
    strides = [int(v) for v in layer.attrs.strides]
    y = functional.conv2d(
        padded,
        torch.from_numpy(layer.weights.astype(np.float32)),
        stride=strides,
        groups=int(layer.attrs.groups),
    ).double()
    mean = y.mean((0, 2, 3)).numpy() + layer.bias
    return mean, y.var((0, 2, 3), correction=0).numpy()
