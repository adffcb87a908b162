"""The benchmark network: its shapes and padding, and the loader of Keras weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.datasets import IMAGENET_INPUT
from benchmarks.mobilenet_v1 import (
    BLOCKS,
    MobileNetV1,
    load_keras_npz,
    predict,
    same_padding,
    scaled_channels,
    top1,
)
from tvm_mpq.errors import InvalidValueError

pytestmark = pytest.mark.null
Arrays = dict[str, NDArray[np.float32]]
CLASSES = 5


def keras_arrays(counted: bool, width: float = 0.25, seed: int = 0) -> Arrays:
    """Random arrays as Keras names and lays them out, spelled without the loader's helpers."""
    rng = np.random.default_rng(seed)
    arrays: Arrays = {}

    def add(layer: int, conv: str, kernel: str, shape: tuple[int, ...], channels: int) -> None:
        norm = f"batch_normalization_{layer}" if layer else "batch_normalization"
        norm = norm if counted else f"{conv}_bn"
        fan_in = np.prod(shape) / channels
        arrays[f"{conv}.{kernel}"] = rng.normal(0, fan_in**-0.5, shape).astype(np.float32)
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        for name, low in zip(names, (0.5, -0.5, -0.5, 0.5), strict=True):
            arrays[f"{norm}.{name}"] = rng.uniform(low, low + 1, channels).astype(np.float32)
        if counted:
            arrays[f"{conv}.bias"] = rng.normal(0, 1, channels).astype(np.float32)

    cin = scaled_channels(32, width)
    add(0, "conv2d" if counted else "conv1", "kernel", (3, 3, 3, cin), cin)
    for block, (channels, _) in enumerate(BLOCKS, 1):
        number = f"_{block - 1}" if block > 1 else ""
        depthwise = f"depthwise_conv2d{number}" if counted else f"conv_dw_{block}"
        add(2 * block - 1, depthwise, "depthwise_kernel", (3, 3, cin, 1), cin)
        pointwise = f"conv2d_{block}" if counted else f"conv_pw_{block}"
        cout = scaled_channels(channels, width)
        add(2 * block, pointwise, "kernel", (1, 1, cin, cout), cout)
        cin = cout
    dense, shape = ("dense", (cin, CLASSES)) if counted else ("conv_preds", (1, 1, cin, CLASSES))
    arrays[f"{dense}.kernel"] = rng.normal(0, cin**-0.5, shape).astype(np.float32)
    arrays[f"{dense}.bias"] = rng.normal(0, 1, CLASSES).astype(np.float32)
    return arrays


def save(folder: Path, arrays: Arrays, name: str = "net_32.npz") -> Path:
    np.savez(folder / name, **arrays)  # type: ignore[arg-type]
    return folder / name


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),  # the tensor is even: bottom and right only
        (7, 3, 2, (1, 1)),
        (14, 3, 1, (1, 1)),
        (1, 3, 2, (1, 1)),
        (2, 3, 2, (0, 1)),
        (5, 1, 1, (0, 0)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize(
    ("width", "stem", "last"), [(1.0, 32, 1024), (0.75, 24, 768), (0.25, 8, 256), (0.1, 8, 102)]
)
def test_channels_scale_with_width(width: float, stem: int, last: int) -> None:
    assert scaled_channels(32, width) == stem
    assert scaled_channels(1024, width) == last


@pytest.mark.parametrize("resolution", [32, 33, 39, 96])
def test_every_layer_halves_upwards(resolution: int) -> None:
    model = MobileNetV1(0.25, resolution, CLASSES).eval()
    maps = []
    for layer in model.features:
        layer.register_forward_hook(lambda _, __, y: maps.append(tuple(y.shape[-2:])))
    logits = model(torch.zeros(1, 3, resolution, resolution))
    size = -(-resolution // 2)
    expected = [size]
    for _, stride in BLOCKS:
        size = -(-size // stride)
        expected += [size, size]
    assert maps == [(side, side) for side in expected]
    assert logits.shape == (1, CLASSES)


def test_parameter_count_is_the_published_one() -> None:
    # Keras prints 4,253,864 for width 1, of which 21,888 are batch-norm statistics.
    model = MobileNetV1(1.0, 224, 1000)
    assert sum(value.numel() for value in model.parameters()) == 4_231_976


def test_one_channel_and_fewer_blocks_export() -> None:
    model = MobileNetV1(0.25, 20, 3, in_channels=1, blocks=((64, 1), (128, 2))).eval()
    x = torch.rand(1, 1, 20, 20)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x))


@pytest.mark.parametrize("field", ["width", "resolution", "classes"])
def test_sizes_must_be_positive(field: str) -> None:
    sizes = {"width": 0.25, "resolution": 32, "classes": 2, field: 0}
    with pytest.raises(InvalidValueError, match=f"{field}: 0"):
        MobileNetV1(**sizes)  # type: ignore[arg-type]


def plain_forward(arrays: Arrays, counted: bool, x: torch.Tensor) -> torch.Tensor:
    """The network by definition, in float64: arrays in order, TF's SAME padding per stride."""
    convs = [name for name in arrays if name.endswith("kernel")]
    norms = [name.removesuffix(".gamma") for name in arrays if name.endswith("gamma")]
    strides = [2, *(step for _, stride in BLOCKS for step in (stride, 1))]
    for name, norm, stride in zip(convs[:-1], norms, strides, strict=True):
        depthwise = name.endswith("depthwise_kernel")
        axes = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        weight = torch.from_numpy(arrays[name].transpose(axes).astype(np.float64))
        if weight.shape[-1] == 3:
            even_halving = stride == 2 and x.shape[-1] % 2 == 0
            x = functional.pad(x, (0, 1, 0, 1) if even_halving else (1, 1, 1, 1))
        bias = arrays.get(f"{name.split('.')[0]}.bias")
        x = functional.conv2d(x, weight, stride=stride, groups=len(weight) if depthwise else 1)
        gamma, beta, mean, variance = (
            torch.from_numpy(arrays[f"{norm}.{part}"])[:, None, None].double()
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        if bias is not None:
            x = x + torch.from_numpy(bias)[:, None, None]
        x = gamma * (x - mean) / torch.sqrt(variance + 1e-3) + beta
        x = x.clamp(min=0) if counted else x.clamp(0, 6)
    dense = "dense" if counted else "conv_preds"
    weight = torch.from_numpy(arrays[f"{dense}.kernel"].reshape(-1, CLASSES)).double()
    return x.mean((2, 3)) @ weight + torch.from_numpy(arrays[f"{dense}.bias"])


@pytest.mark.parametrize("counted", [False, True])
def test_loaded_network_is_the_one_of_the_arrays(tmp_path: Path, counted: bool) -> None:
    arrays = keras_arrays(counted)
    # Large gammas reach 6, so that ReLU and ReLU6 differ.
    arrays = {name: a * 4 if name.endswith("gamma") else a for name, a in arrays.items()}
    model = load_keras_npz(save(tmp_path, arrays, "net_40.npz"))
    assert model.resolution == 40 and not model.training
    # Float64, because gains of 4 over 27 layers amplify the rounding of float32.
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, 3, 40, 40, generator=generator, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(model.double()(x), plain_forward(arrays, counted, x))


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "nan", "integer"])
def test_bad_arrays_are_named(tmp_path: Path, counted: bool, change: str) -> None:
    arrays = keras_arrays(counted)
    name = "conv2d_3.kernel" if counted else "conv_pw_3.kernel"
    if change == "missing":
        del arrays[name]
    elif change == "unknown":
        name = "extra.kernel"
        arrays[name] = np.zeros(1, np.float32)
    elif change == "shape":
        arrays[name] = arrays[name][..., :-1]
    elif change == "nan":
        arrays[name][0, 0, 0, 0] = np.nan
    else:
        arrays[name] = arrays[name].astype(np.int32)
    with pytest.raises(InvalidValueError, match=name):
        load_keras_npz(save(tmp_path, arrays))


def test_stem_kernel_needs_four_dimensions(tmp_path: Path) -> None:
    arrays = keras_arrays(False)
    arrays["conv1.kernel"] = np.zeros(3, np.float32)
    with pytest.raises(InvalidValueError, match="conv1.kernel.*expected 4"):
        load_keras_npz(save(tmp_path, arrays))


def test_resolution_comes_from_the_name_or_the_caller(tmp_path: Path) -> None:
    path = save(tmp_path, keras_arrays(False), "weights.npz")
    with pytest.raises(InvalidValueError, match="no resolution in the name"):
        load_keras_npz(path)
    assert load_keras_npz(path, resolution=64).resolution == 64


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut off"])
def test_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken_32.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidValueError, match="broken_32.npz: not a readable"):
        load_keras_npz(path)


def test_npy_and_absent_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "array_32.npy", np.zeros(3))
    for name in ("array_32.npy", "absent_32.npz"):
        with pytest.raises(InvalidValueError, match=name):
            load_keras_npz(tmp_path / name)


def test_predict_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    model = MobileNetV1(0.25, 32, CLASSES, blocks=BLOCKS[:2]).eval()
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    whole = predict(model, images, IMAGENET_INPUT, batch=7)
    np.testing.assert_allclose(predict(model, images, IMAGENET_INPUT, batch=3), whole, atol=1e-5)
    assert top1(whole, whole.argmax(axis=1)) == 100.0
