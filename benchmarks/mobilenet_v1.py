"""MobileNetV1 (arXiv 1704.04861) as a torch module, and a loader for Keras weights.

``python -m benchmarks.mobilenet_v1 --data DIR [--json]`` prints the float top-1 accuracies.
"""

from __future__ import annotations

import argparse
import json
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks import datasets
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.images import to_real
from tvm_mpq.specs import InputSpec

Arrays = dict[str, NDArray[np.float32]]

BATCH_NORM_EPS = 1e-3  # Keras' default; torch's is 1e-5
STEM_CHANNELS = 32
MIN_CHANNELS = 8
# (output channels at width 1, stride) of each depthwise + pointwise block.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)


def scaled_channels(channels: int, width: float) -> int:
    """Channels at ``width``: cut towards zero as Keras does, and at least 8."""
    return max(MIN_CHANNELS, int(channels * width))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TF SAME padding (before, after) of a side of ``size``; the odd one goes after."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class ConvBnAct(nn.Sequential):
    """Convolution with SAME padding, batch norm (not folded), then ReLU6 or a plain ReLU.

    ``batch_norm=False``: it is folded already, with a bias in its place. ``size`` is the side of
    the square input, which fixes the padding.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        size: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
        batch_norm: bool = True,
        relu6: bool = True,
    ) -> None:
        super().__init__()
        before, after = same_padding(size, kernel, stride)
        if before != after:  # Conv2d pads both ends alike only
            self.add_module("pad", nn.ZeroPad2d((before, after, before, after)))
        padding = before if before == after else 0
        groups = channels[0] if depthwise else 1
        conv = nn.Conv2d(
            *channels, kernel, stride, padding, groups=groups, bias=bias or not batch_norm
        )
        self.add_module("conv", conv)
        if batch_norm:
            self.add_module("bn", nn.BatchNorm2d(channels[1], eps=BATCH_NORM_EPS))
        self.add_module("act", nn.ReLU6() if relu6 else nn.ReLU())


class MobileNetV1(nn.Module):
    """float32 [N, in_channels, resolution, resolution] -> logits [N, classes].

    Inputs lie in [-1, 1] for ImageNet and in [0, 1] for visual wake words. Layers carry their
    Keras names: ``features.conv1``, ``features.conv_dw_1``, ``features.conv_pw_1``, ...

    Parameters
    ----------
    width: multiplier of the channels. conv_bias: a bias before each batch norm.
    relu6: False for plain ReLU. VWW has both: biases and plain ReLU.
    blocks: (channels at width 1, stride) of each depthwise + pointwise pair.
    """

    def __init__(
        self,
        width: float,
        resolution: int,
        classes: int,
        in_channels: int = 3,
        *,
        blocks: Sequence[tuple[int, int]] = BLOCKS,
        conv_bias: bool = False,
        batch_norm: bool = True,
        relu6: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("resolution", resolution), ("classes", classes)):
            if not value > 0:
                raise InvalidValueError(f"MobileNetV1 {name}: {value}; expected a positive number")
        self.resolution, self.in_channels = resolution, in_channels
        layer = partial(ConvBnAct, bias=conv_bias, batch_norm=batch_norm, relu6=relu6)
        cin, size = scaled_channels(STEM_CHANNELS, width), -(-resolution // 2)
        layers = {"conv1": layer((in_channels, cin), resolution, stride=2)}
        for number, (channels, stride) in enumerate(blocks, 1):
            depthwise = layer((cin, cin), size, stride=stride, depthwise=True)
            layers[f"conv_dw_{number}"] = depthwise
            cin_cout, size = (cin, scaled_channels(channels, width)), -(-size // stride)
            layers[f"conv_pw_{number}"] = layer(cin_cout, size, kernel=1)
            cin = cin_cout[1]
        self.features = nn.Sequential(OrderedDict(layers))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] of float32 [N, in_channels, resolution, resolution]."""
        return self.dense(torch.flatten(self.pool(self.features(x)), 1))


def load_keras_npz(path: str | Path, resolution: int | None = None) -> MobileNetV1:
    """The network of a ``.npz`` of Keras arrays, in eval mode.

    Two namings are known: that of keras.applications (``conv_dw_1``, ``conv_dw_1_bn``,
    ``conv_preds``) and the counted one of MLPerf Tiny's VWW (``depthwise_conv2d_1``, ``dense``).
    Only the latter has biases before its batch norms, and plain ReLU in place of ReLU6.
    ``resolution`` defaults to the number that ends the file's name, as in ``_224.npz``.

    Raises InvalidValueError: an array is missing, unknown, of a wrong shape or not finite.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    counted = "conv2d.kernel" in arrays
    model = _random_model(path, arrays, resolution or _resolution_in_name(path), counted)
    state = model.state_dict()
    names = dict(_array_names(model, counted))
    for key, name in names.items():
        state[key] = _to_torch(path, name, _take(path, arrays, name), state[key].shape)
    unknown = sorted(set(arrays) - set(names.values()))
    if unknown:
        raise InvalidValueError(f"{path}: unknown array {unknown[0]} ({len(unknown)} in all)")
    model.load_state_dict(state)
    return model.eval()


def _random_model(path: Path, arrays: Arrays, resolution: int, counted: bool) -> MobileNetV1:
    """A network of the sizes that the first and the last arrays have."""
    stem, last, dense = (
        ("conv2d", "conv2d_13", "dense") if counted else ("conv1", "conv_pw_13", "conv_preds")
    )
    return MobileNetV1(
        # The last block has 1024 * width channels and loses nothing to rounding.
        width=_kernel_shape(path, arrays, f"{last}.kernel")[3] / BLOCKS[-1][0],
        resolution=resolution,
        classes=_take(path, arrays, f"{dense}.bias").size,
        in_channels=_kernel_shape(path, arrays, f"{stem}.kernel")[2],
        conv_bias=counted,
        relu6=not counted,
    )


def _read_arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise InvalidValueError(f"{path}: not a readable .npz file ({error})") from error


def _resolution_in_name(path: Path) -> int:
    match = re.search(r"_(\d+)$", path.stem)
    if match is None:
        raise InvalidValueError(f"{path}: no resolution in the name; give resolution=")
    return int(match[1])


def _take(path: Path, arrays: Arrays, name: str) -> NDArray[np.float32]:
    if name not in arrays:
        raise InvalidValueError(f"{path}: no array {name}")
    return arrays[name]


def _kernel_shape(path: Path, arrays: Arrays, name: str) -> tuple[int, ...]:
    shape = _take(path, arrays, name).shape
    if len(shape) != 4:
        raise InvalidValueError(f"{path}: array {name} has shape {shape}; expected 4 dimensions")
    return shape


def _array_names(model: MobileNetV1, counted: bool) -> Iterator[tuple[str, str]]:
    """Pairs of a state dict key and the name of its Keras array."""
    for index, (layer, block) in enumerate(model.features.named_children()):
        # Keras counts each kind of layer from 0 and leaves the 0 out.
        kind = "depthwise_conv2d" if "dw" in layer else "conv2d"
        number = (index - 1) // 2 if "dw" in layer else index // 2
        conv = _counted_name(kind, number) if counted else layer
        norm = _counted_name("batch_normalization", index) if counted else f"{layer}_bn"
        kernel = "depthwise_kernel" if "dw" in layer else "kernel"
        yield f"features.{layer}.conv.weight", f"{conv}.{kernel}"
        if "conv.bias" in block.state_dict():
            yield f"features.{layer}.conv.bias", f"{conv}.bias"
        yield f"features.{layer}.bn.weight", f"{norm}.gamma"
        yield f"features.{layer}.bn.bias", f"{norm}.beta"
        yield f"features.{layer}.bn.running_mean", f"{norm}.moving_mean"
        yield f"features.{layer}.bn.running_var", f"{norm}.moving_variance"
    dense = "dense" if counted else "conv_preds"
    yield "dense.weight", f"{dense}.kernel"
    yield "dense.bias", f"{dense}.bias"


def _counted_name(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _to_torch(path: Path, name: str, array: NDArray[np.float32], shape: torch.Size) -> torch.Tensor:
    """A Keras array in torch's layout: HWIO and HWC1 kernels -> OIHW and C1HW, dense IO -> OI."""
    if name.endswith("depthwise_kernel") and array.ndim == 4:
        array = array.transpose(2, 3, 0, 1)
    elif name.endswith("kernel") and array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
        # keras.applications classifies with a 1x1 convolution.
        array = array[:, :, 0, 0] if len(shape) == 2 and array.shape[2:] == (1, 1) else array
    elif array.ndim == 2:
        array = array.transpose()
    if array.shape != tuple(shape):
        raise InvalidValueError(
            f"{path}: array {name} is {array.shape} in torch's layout; expected {tuple(shape)}"
        )
    if array.dtype.kind != "f":
        raise InvalidValueError(f"{path}: array {name} is {array.dtype}; expected floating point")
    if not np.isfinite(array).all():
        raise InvalidValueError(f"{path}: array {name} holds NaN or infinity")
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def predict(
    model: nn.Module, images: datasets.Images, spec: InputSpec, batch: int = 25
) -> NDArray[np.float32]:
    """float32 logits [N, classes] of uint8 images [N, H, W, C]."""
    with torch.inference_mode():
        parts = [
            model(torch.from_numpy(to_real(images[start : start + batch], spec)))
            for start in range(0, len(images), batch)
        ]
    return torch.cat(parts).numpy()


def top1(logits: NDArray[Any], labels: datasets.Labels) -> float:
    """Percentage of rows of [N, classes] whose greatest value is at the label."""
    return 100.0 * float(np.mean(logits.argmax(axis=1) == labels))


def float_accuracies(data: Path) -> dict[str, float]:
    """Float top-1 in percent of each network on its images."""
    found = {}
    for name in ("mobilenet_v1_0.75_224", "mobilenet_v1_0.25_128", "vww_96"):
        model = load_keras_npz(data / "models" / f"{name}.npz")
        if name == "vww_96":
            images, labels = datasets.load_vww_even(data)
            spec = datasets.VWW_INPUT
        else:
            images, labels = datasets.load_nips17_dev(data, model.resolution)
            spec = datasets.IMAGENET_INPUT
        found[name] = top1(predict(model, images, spec), labels)
    return found


def main() -> None:
    """Print the float accuracies."""
    parser = argparse.ArgumentParser(description="Float top-1 of the benchmark networks")
    parser.add_argument("--data", help="data folder (default: $TVM_MPQ_DATA)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = float_accuracies(datasets.data_folder(arguments.data))
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, percent in found.items():
            print(f"{name:24s} {percent:5.1f} %")


if __name__ == "__main__":
    main()
