"""MobileNetV1 from quantized .tflite files, as the float network that their integers stand for.

``python -m benchmarks.mobilenet_v1_tflite --data DIR [--json]`` compares the two halves of 1.0/224,
dequantized, with ai-edge-litert on 20 images and prints the top-1 of both on all of them.
Needs ``tflite`` (extra "bench"); the comparison needs ``ai-edge-litert`` too (extra "oracles").
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import datasets
from benchmarks.mobilenet_v1 import BLOCKS, MobileNetV1, predict, top1
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.progress import track
from tvm_mpq.specs import InputSpec

HALVES = (
    "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite",
    "mobilenet_quant_v1_224_head_layers.tflite",
)
# The input tensor of these files: uint8, scale 1/128, zero point 128.
INPUT = InputSpec(scale=1 / 128, zero_point=128)
CHECKED_IMAGES = 20
_OPERATORS = 28
_CLASSES_WITH_BACKGROUND = 1001


@dataclass(frozen=True)
class Convolution:
    """One convolution of a file, dequantized: weights [O, I, kh, kw] and biases [O] in float32."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    depthwise: bool
    relu6: bool


def load_tflite(paths: Sequence[Path]) -> MobileNetV1:
    """The network of one file, or of files that continue each other, in eval mode.

    No batch norm: it is in the weights. A background class, which comes first, is dropped.

    Raises InvalidValueError: not MobileNetV1, or a file does not begin where the last one ended.
    """
    sides, convolutions, last = [], [], None
    for path in paths:
        model = _open(path)
        graph = model.Subgraphs(0)
        sides.append(int(graph.Tensors(graph.Inputs(0)).ShapeAsNumpy()[1]))
        found = list(_convolutions(path, model))
        first, end = found[0][0], found[-1][1]
        if last is not None and not _same_quantizer(graph, first, *last):
            raise InvalidValueError(f"{path}: its input is not the output of {paths[0]}")
        last = (graph, end)
        convolutions += [convolution for *_, convolution in found]
    return _network(paths[0], convolutions, sides[0])


def _network(path: Path, convolutions: list[Convolution], side: int) -> MobileNetV1:
    kinds = [convolution.depthwise for convolution in convolutions]
    wanted = [False, *(True, False) * len(BLOCKS), False]
    if kinds != wanted or not all(c.relu6 for c in convolutions[:-1]):
        raise InvalidValueError(
            f"{path}: {len(kinds)} convolutions; expected the {_OPERATORS} of MobileNetV1: one"
            " full, 13 of depthwise and pointwise, all with ReLU6, and the classifier"
        )
    *features, head = convolutions
    classes = len(head.bias)
    background = int(classes == _CLASSES_WITH_BACKGROUND)
    width = len(features[-1].bias) / BLOCKS[-1][0]
    model = MobileNetV1(width, side, classes - background, batch_norm=False)
    for block, convolution in zip(model.features.children(), features, strict=True):
        _assign(block.conv, convolution)
    dense = Convolution(head.weights[background:, :, 0, 0], head.bias[background:], False, False)
    _assign(model.dense, dense)
    return model.eval()


def _assign(module: Any, convolution: Convolution) -> None:
    with torch.no_grad():
        for name, array in (("weight", convolution.weights), ("bias", convolution.bias)):
            parameter = getattr(module, name)
            if parameter.shape != array.shape:
                raise InvalidValueError(
                    f"MobileNetV1: {name} of {tuple(array.shape)} for {tuple(parameter.shape)}"
                )
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _open(path: Path) -> Any:
    import tflite

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidValueError(f"{path}: not readable ({error})") from error
    if not tflite.Model.ModelBufferHasIdentifier(data, 0):
        raise InvalidValueError(f"{path}: not a .tflite file")
    return tflite.Model.GetRootAs(data, 0)


def _convolutions(path: Path, model: Any) -> Iterator[tuple[int, int, Convolution]]:
    """(index of the input tensor, of the output tensor, convolution) in order of execution."""
    import tflite

    graph, operators = model.Subgraphs(0), tflite.BuiltinOperator
    without_weights = (operators.AVERAGE_POOL_2D, operators.RESHAPE, operators.SOFTMAX)
    options = {
        operators.CONV_2D: tflite.Conv2DOptions,
        operators.DEPTHWISE_CONV_2D: tflite.DepthwiseConv2DOptions,
    }
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        if code in without_weights:
            continue
        if code not in options:
            raise InvalidValueError(f"{path}: operator {index} has code {code}, not MobileNetV1's")
        x, weights, bias = operator.InputsAsNumpy()
        depthwise = code == operators.DEPTHWISE_CONV_2D
        table, option = operator.BuiltinOptions(), options[code]()
        option.Init(table.Bytes, table.Pos)
        relu6 = option.FusedActivationFunction() == tflite.ActivationFunctionType.RELU6
        # Files: O kh kw I, and 1 kh kw O of a depthwise.
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        real = _real(model, graph.Tensors(weights)).transpose(order)
        yield (
            int(x),
            int(operator.Outputs(0)),
            Convolution(real, _real(model, graph.Tensors(bias)), depthwise, relu6),
        )


def _real(model: Any, tensor: Any) -> NDArray[np.float32]:
    """A constant, uint8 or int32 with one scale, as real numbers."""
    import tflite

    types = {tflite.TensorType.UINT8: np.uint8, tflite.TensorType.INT32: np.int32}
    data = model.Buffers(tensor.Buffer()).DataAsNumpy()
    codes = np.frombuffer(data.tobytes(), types[tensor.Type()]).astype(np.float64)
    scale, zero = _quantizer(tensor)
    return ((codes - zero) * scale).astype(np.float32).reshape(tensor.ShapeAsNumpy())


def _quantizer(tensor: Any) -> tuple[float, int]:
    quantization = tensor.Quantization()
    return float(quantization.Scale(0)), int(quantization.ZeroPoint(0))


def _same_quantizer(graph: Any, first: int, before: Any, end: int) -> bool:
    return _quantizer(graph.Tensors(first)) == _quantizer(before.Tensors(end))


def run_halves(models: Path, images: datasets.Images) -> NDArray[np.float32]:
    """Probabilities [N, 1000] of uint8 images [N, 224, 224, 3], by ai-edge-litert."""
    from ai_edge_litert.interpreter import Interpreter

    halves = []
    for name in HALVES:
        interpreter = Interpreter(model_path=str(models / name))
        interpreter.allocate_tensors()
        halves.append(interpreter)
    found = []
    for image in track(list(images), "running the halves"):
        embedding = _invoke(halves[0], image[None])
        found.append(_invoke(halves[1], embedding))
    return np.concatenate(found)[:, 1:].astype(np.float32)


def _invoke(interpreter: Any, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found: NDArray[np.uint8] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return found


def compare(data: Path, images: int) -> dict[str, Any]:
    """Top-1 in percent of the integer halves and of the dequantized network; where they agree."""
    model = load_tflite([data / "models" / name for name in HALVES])
    pictures, labels = datasets.load_nips17_dev(data, model.resolution)
    pictures, labels = pictures[:images], labels[:images]
    integer = run_halves(data / "models", pictures)
    dequantized = predict(model, pictures, INPUT)
    # Probabilities are uint8: equal ones are common, and the first of them is no better.
    chosen = dequantized.argmax(axis=1)
    agree = integer[np.arange(len(chosen)), chosen] == integer.max(axis=1)
    return {
        "images": len(labels),
        "top1_halves": top1(integer, labels),
        "top1_dequantized": top1(dequantized, labels),
        "same_class": int(agree.sum()),
    }


def main() -> None:
    """Print the comparison on a few images, then on all."""
    parser = argparse.ArgumentParser(description="The quantized halves of MobileNetV1 1.0/224")
    parser.add_argument("--data", help="data folder (default: $TVM_MPQ_DATA)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args()
    data = datasets.data_folder(arguments.data)
    for images in (CHECKED_IMAGES, 500):
        found = compare(data, images)
        text = (
            f"{found['images']} images: the halves {found['top1_halves']:.1f} %, dequantized"
            f" {found['top1_dequantized']:.1f} %, the same class {found['same_class']} times"
        )
        print(json.dumps(found) if arguments.json else text)


if __name__ == "__main__":
    main()
