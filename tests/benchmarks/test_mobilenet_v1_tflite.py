"""The reader of quantized .tflite files, on made-up flatbuffers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.mobilenet_v1 import BLOCKS, same_padding, scaled_channels
from benchmarks.mobilenet_v1_tflite import load_tflite
from tvm_mpq.errors import InvalidValueError

tflite = pytest.importorskip("tflite")
flatbuffers = pytest.importorskip("flatbuffers")
pytestmark = pytest.mark.null
SIDE, WIDTH = 32, 0.25
X_SCALE = 6 / 255


@dataclass(frozen=True)
class Layer:
    """One convolution as a file has it: codes O kh kw I, or 1 kh kw C of a depthwise."""

    codes: np.ndarray
    scale: float
    zero: int
    bias: np.ndarray
    depthwise: bool
    stride: int = 1
    relu6: bool = True
    x_scale: float = X_SCALE

    def real(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights in torch's layout and biases, spelled without the loader's helpers."""
        weights = torch.from_numpy((self.codes.astype(np.float64) - self.zero) * self.scale)
        weights = weights.permute(3, 0, 1, 2) if self.depthwise else weights.permute(0, 3, 1, 2)
        return weights, torch.from_numpy(self.bias * self.x_scale * self.scale)


def layers_of_mobilenet(classes: int) -> list[Layer]:
    rng = np.random.default_rng(0)

    def layer(shape: tuple[int, ...], depthwise: bool, stride: int = 1) -> Layer:
        channels = shape[3] if depthwise else shape[0]
        fan_in = int(np.prod(shape)) / channels
        scale, zero = float(rng.uniform(0.5, 1.0)) / 28 / fan_in**0.5, int(rng.integers(90, 150))
        codes = rng.integers(0, 256, shape, dtype=np.uint8)
        return Layer(codes, scale, zero, rng.integers(-900, 900, channels), depthwise, stride)

    cin = scaled_channels(32, WIDTH)
    layers = [layer((cin, 3, 3, 3), False, 2)]
    for channels, stride in BLOCKS:
        layers.append(layer((1, 3, 3, cin), True, stride))
        cout = scaled_channels(channels, WIDTH)
        layers.append(layer((cout, 1, 1, cin), False))
        cin = cout
    return [*layers, replace(layer((classes, 1, 1, cin), False), relu6=False)]


class Writer:
    """A .tflite file of one graph: convolutions in a row, then a softmax."""

    def __init__(self, layers: list[Layer], side: int) -> None:
        self.builder = flatbuffers.Builder(1 << 20)
        self.buffers = [b""]
        self.tensors: list[int] = []
        self.operators: list[int] = []
        x = self.tensor((1, side, side, 3), "UINT8", layers[0].x_scale, 128)
        first = x
        for one in layers:
            scale = one.x_scale * one.scale
            weights = self.tensor(one.codes.shape, "UINT8", one.scale, one.zero, one.codes)
            bias = self.tensor(one.bias.shape, "INT32", scale, 0, one.bias.astype(np.int32))
            y = self.tensor((1, 1, 1, len(one.bias)), "UINT8", X_SCALE, 0)
            self.convolution([x, weights, bias], y, one)
            x = y
        y = self.tensor((1, 1, 1, 1), "UINT8", 1 / 256, 0)
        self.operator(2, [x], y)
        self.data = self.finish(first, y)

    def tensor(
        self,
        shape: tuple[int, ...],
        kind: str,
        scale: float,
        zero: int,
        data: np.ndarray | None = None,
    ) -> int:
        b = self.builder
        self.buffers.append(b"" if data is None else data.tobytes())
        scales = b.CreateNumpyVector(np.array([scale], np.float32))
        zeros = b.CreateNumpyVector(np.array([zero], np.int64))
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scales)
        tflite.QuantizationParametersAddZeroPoint(b, zeros)
        quantization = tflite.QuantizationParametersEnd(b)
        dimensions = b.CreateNumpyVector(np.array(shape, np.int32))
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, dimensions)
        tflite.TensorAddType(b, getattr(tflite.TensorType, kind))
        tflite.TensorAddBuffer(b, len(self.buffers) - 1)
        tflite.TensorAddQuantization(b, quantization)
        self.tensors.append(tflite.TensorEnd(b))
        return len(self.tensors) - 1

    def convolution(self, inputs: list[int], y: int, one: Layer) -> None:
        kind = "DepthwiseConv2DOptions" if one.depthwise else "Conv2DOptions"
        names = tflite.ActivationFunctionType
        getattr(tflite, f"{kind}Start")(self.builder)
        activation = names.RELU6 if one.relu6 else names.NONE
        getattr(tflite, f"{kind}AddFusedActivationFunction")(self.builder, activation)
        getattr(tflite, f"{kind}AddStrideH")(self.builder, one.stride)
        options = getattr(tflite, f"{kind}End")(self.builder)
        code = getattr(tflite.BuiltinOptions, kind)
        self.operator(int(one.depthwise), inputs, y, (code, options))

    def operator(
        self, code: int, inputs: list[int], y: int, options: tuple[int, int] | None = None
    ) -> None:
        b = self.builder
        xs = b.CreateNumpyVector(np.array(inputs, np.int32))
        ys = b.CreateNumpyVector(np.array([y], np.int32))
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code)
        tflite.OperatorAddInputs(b, xs)
        tflite.OperatorAddOutputs(b, ys)
        if options:
            tflite.OperatorAddBuiltinOptionsType(b, options[0])
            tflite.OperatorAddBuiltinOptions(b, options[1])
        self.operators.append(tflite.OperatorEnd(b))

    def vector(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def finish(self, first: int, last: int) -> bytes:
        b = self.builder
        parts: dict[str, Any] = {
            "Inputs": b.CreateNumpyVector(np.array([first], np.int32)),
            "Outputs": b.CreateNumpyVector(np.array([last], np.int32)),
            "Tensors": self.vector(self.tensors),
            "Operators": self.vector(self.operators),
        }
        tflite.SubGraphStart(b)
        for name, offset in parts.items():
            getattr(tflite, f"SubGraphAdd{name}")(b, offset)
        graphs = self.vector([tflite.SubGraphEnd(b)])
        codes = []
        for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "SOFTMAX"):
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, getattr(tflite.BuiltinOperator, name))
            tflite.OperatorCodeAddBuiltinCode(b, getattr(tflite.BuiltinOperator, name))
            codes.append(tflite.OperatorCodeEnd(b))
        operator_codes, buffers = self.vector(codes), []
        for content in self.buffers:
            data = b.CreateByteVector(content)
            tflite.BufferStart(b)
            tflite.BufferAddData(b, data)
            buffers.append(tflite.BufferEnd(b))
        contents = self.vector(buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, operator_codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, contents)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())


def write(folder: Path, *parts: list[Layer]) -> list[Path]:
    paths = []
    for number, layers in enumerate(parts):
        paths.append(folder / f"part{number}.tflite")
        paths[-1].write_bytes(Writer(layers, 1 if number else SIDE).data)
    return paths


def expected_logits(layers: list[Layer], x: torch.Tensor) -> torch.Tensor:
    for one in layers[:-1]:
        weights, bias = one.real()
        pads = same_padding(x.shape[2], weights.shape[2], one.stride)
        x = functional.pad(x, (*pads, *pads))
        groups = x.shape[1] if one.depthwise else 1
        x = functional.conv2d(x, weights, bias, one.stride, groups=groups).clamp(0, 6)
    weights, bias = layers[-1].real()
    return functional.linear(x.mean((2, 3)), weights[:, :, 0, 0], bias)


@pytest.mark.parametrize("classes", [7, 1001])
@pytest.mark.parametrize("files", [1, 2])
def test_is_the_network_of_the_codes(tmp_path: Path, classes: int, files: int) -> None:
    layers = layers_of_mobilenet(classes)
    parts = [layers] if files == 1 else [layers[:-1], layers[-1:]]
    # The tail of a divided network begins with what its first part gives.
    paths = write(tmp_path, *parts) if files == 1 else joined(tmp_path, *parts)
    model = load_tflite(paths).double()
    x = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64) * 2 - 1
    wanted = expected_logits(layers, x)
    found = model(x)
    assert wanted.std() > 0.01
    torch.testing.assert_close(
        found, wanted[:, 1:] if classes == 1001 else wanted, rtol=1e-4, atol=1e-5
    )


def joined(folder: Path, head: list[Layer], tail: list[Layer]) -> list[Path]:
    """Both files, the second one's input with the zero point 0 of the first one's output."""
    paths = write(folder, head, tail)
    data = bytearray(paths[1].read_bytes())
    graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    quantization = graph.Tensors(graph.Inputs(0)).Quantization()
    at = quantization._tab.Vector(quantization._tab.Offset(10))
    data[at : at + 8] = bytes(8)
    paths[1].write_bytes(bytes(data))
    return paths


def test_files_that_do_not_join(tmp_path: Path) -> None:
    layers = layers_of_mobilenet(7)
    with pytest.raises(InvalidValueError, match="not the output of .*part0"):
        load_tflite(write(tmp_path, layers[:-1], layers[-1:]))


def test_another_network(tmp_path: Path) -> None:
    layers = layers_of_mobilenet(7)
    with pytest.raises(InvalidValueError, match="26 convolutions; expected the 28"):
        load_tflite(write(tmp_path, layers[:-3] + layers[-1:]))


def test_not_a_flatbuffer(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidValueError, match="not a .tflite file"):
        load_tflite([path])
