"""What quantization decided: codes, scales, offsets and ranges; one file beside the model.

The file is a ``.npz``: arrays ``<layer>/codes``, ``/zw``, ``/sw``, ``/g``, ``/h``, where its
outputs have units of their own ``/unit`` and ``/offset``, and one JSON text, ``header``, with the
version, the plan, the ranges and how they came about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import convert, parse_json
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.calibration import rounding_shift, weight_codes
from tvm_mpq.quant.icn import ROUNDINGS, RealLayer
from tvm_mpq.quant.network import KEEPS_RANGE, Block, FloatNetwork
from tvm_mpq.specs import InputSpec
from tvm_mpq.zips import read_arrays, write_arrays

RESULT_VERSION = 2
Range = tuple[float, float]
_ARRAYS = ("codes", "zw", "sw", "g", "h")


@dataclass(frozen=True, eq=False)
class Channels:
    """What quantized outputs stand for: ``unit * real + offset`` is the float network's output.

    Attributes
    ----------
    unit, offset: [C] in the float network's units. An offset is what code Zy stands for: channels
        that stay far above 0 have it, so that their codes are spent on where they are.
    """

    unit: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

    @staticmethod
    def plain(channels: int) -> Channels:
        """Quantized outputs are the float network's."""
        return Channels(np.ones(channels), np.zeros(channels))


@dataclass(frozen=True)
class QuantizationResult:
    """Everything beside the graph that the integer program is made of.

    Attributes
    ----------
    plan: widths. layers: layer name -> codes, zero points, scales and the float g, h per channel.
        Outputs may be in units of their own per channel and lack an offset: those of one layer's
        output are those of its readers' input, which is all that must hold. A result of the first
        layers only is a beginning: ``prepare`` and ``reconstruct`` go on from it.
    ranges: block name -> (low, high) of its output; the logits and maximum pools have none, and a
        global average pool without one keeps that of its input.
    input_spec: how the image's codes become real. rounding: "nearest" or "floor".
    method: how the values came about, for people.
    channels: layer name -> what its outputs stand for; missing is plain. The integer program does
        without: who goes on training or compares with the float network needs it.
    """

    plan: BitPlan
    layers: dict[str, RealLayer]
    ranges: dict[str, Range]
    input_spec: InputSpec
    rounding: str
    method: dict[str, Any] = field(default_factory=dict)
    channels: dict[str, Channels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rounding not in ROUNDINGS:
            raise InvalidValueError(
                f"quantization result: rounding {self.rounding!r}; allowed are"
                f" {' and '.join(ROUNDINGS)}"
            )
        for name, (low, high) in self.ranges.items():
            if not (np.isfinite([low, high]).all() and low <= 0.0 <= high and low < high):
                raise InvalidValueError(
                    f"quantization result: range of {name} is [{low}, {high}]; expected finite"
                    " bounds with 0 inside"
                )
        for layer in self.layers.values():
            _check_layer(layer, self.plan)
        for name, one in self.channels.items():
            outputs = self.layers[name].g.shape if name in self.layers else None
            fits = one.unit.shape == one.offset.shape == outputs
            usable = fits and np.isfinite([one.unit, one.offset]).all() and (one.unit > 0).all()
            if not usable:
                raise InvalidValueError(
                    f"quantization result: units or offsets of {name} are not usable; expected"
                    f" positive finite units and finite offsets, {outputs}"
                )

    def save(self, path: Path | str) -> Path:
        """Write one file; it appears whole or not at all."""
        path = Path(path)
        arrays: dict[str, Any] = {
            f"{name}/{key}": getattr(layer, key)
            for name, layer in self.layers.items()
            for key in _ARRAYS
        }
        for name, one in self.channels.items():
            arrays |= {f"{name}/unit": one.unit, f"{name}/offset": one.offset}
        header = {
            "version": RESULT_VERSION,
            "plan": self.plan.to_json(),
            "ranges": self.ranges,
            "input_spec": self.input_spec.to_json(),
            "rounding": self.rounding,
            "method": self.method,
        }
        arrays["header"] = np.array(json.dumps(header))
        write_arrays(path, arrays, compressed=True)
        return path

    @staticmethod
    def load(path: Path | str) -> QuantizationResult:
        """Read a file of ``save``. Raises InvalidValueError for a damaged or foreign one."""
        path = Path(path)
        if not path.exists():
            raise InvalidValueError(f"{path}: no such quantization result")
        try:
            arrays = read_arrays(path)
            header = parse_json(str(arrays.pop("header")), "header")
            version = header["version"]
        except (InvalidValueError, KeyError, TypeError) as error:
            raise InvalidValueError(f"{path}: not a quantization result ({error})") from None
        if version != RESULT_VERSION:
            raise InvalidValueError(
                f"{path}: version {version!r}; this release reads version {RESULT_VERSION};"
                " quantize again to write a new file"
            )
        return _of_parts(path, header, arrays)

    def channels_of(self, network: FloatNetwork) -> dict[str, Channels]:
        """For each block, and the input, what its quantized outputs stand for."""
        found = {network.input: Channels.plain(network.input_shape[0])}
        for block in network.blocks:
            if block.op in KEEPS_RANGE:
                found[block.name] = found[block.inputs[0]]
            else:
                plain = Channels.plain(block.shape[0])
                found[block.name] = self.channels.get(block.name, plain)
        return found

    def digest(self) -> str:
        """Of everything that decides the integer program, and of what outputs stand for."""
        digest = hashlib.sha256(json.dumps([self.ranges, self.plan.to_json()]).encode())
        for layer in self.layers.values():
            for key in _ARRAYS:
                digest.update(np.ascontiguousarray(getattr(layer, key)).tobytes())
        for one in self.channels.values():
            digest.update(one.unit.tobytes() + one.offset.tobytes())
        return digest.hexdigest()

    def check_begins(self, network: FloatNetwork) -> None:
        """Raise InvalidValueError unless the layers are the first ones of ``network``."""
        names = [block.name for block in network.weighted]
        first = names[: len(self.layers)]
        if len(first) == len(names):
            return self.check_fits(network)
        if set(first) != set(self.layers):
            raise InvalidValueError(
                f"quantization result: layers {sorted(self.layers)} are not the first"
                f" {len(first)} of this network, {first}"
            )
        for name in first:
            _check_shape(self, network.by_name[name])
            if name not in self.ranges:
                raise InvalidValueError(f"quantization result: {name} has no range; quantize again")
        return None

    def check_fits(self, network: FloatNetwork) -> None:
        """Raise InvalidValueError unless the layers and ranges are those of ``network``."""
        known = {block.name for block in network.weighted}
        for block in network.weighted:
            _check_shape(self, block)
        missing = [b.name for b in network.blocks[:-1] if b.op not in KEEPS_RANGE]
        missing = [name for name in missing if name not in self.ranges]
        unknown = sorted(set(self.layers) - known)
        if missing or unknown:
            raise InvalidValueError(
                f"quantization result: {missing[:1] or unknown[:1]}"
                " is missing or unknown; it was made for another network"
            )


def _check_shape(result: QuantizationResult, block: Block) -> None:
    assert block.weights is not None
    name, shape = block.name, block.weights.shape
    found = result.layers[name].codes.shape if name in result.layers else None
    if found != shape:
        raise InvalidValueError(
            f"quantization result: layer {name} has codes {found}, expected {shape};"
            " it was made for another network, or has the first layers only:"
            " reconstruct(start=) makes the others"
        )


def _check_layer(layer: RealLayer, plan: BitPlan) -> None:
    where = f"quantization result: layer {layer.name}"
    if layer.name not in plan.weights:
        raise InvalidValueError(f"{where} has no width in the plan; quantize again")
    largest = int(max(layer.codes.max(initial=0), layer.zw.max(initial=0)))
    allowed = (1 << plan.weights[layer.name]) - 1
    if layer.codes.dtype != np.uint8 or layer.zw.dtype != np.uint8 or largest > allowed:
        raise InvalidValueError(
            f"{where}: {layer.codes.dtype} codes up to {largest}; allowed are uint8 codes up to"
            f" {allowed} at {plan.weights[layer.name]} bits"
        )
    channels = (layer.codes.shape[0],)
    for key in ("zw", "sw", "g", "h"):
        array = getattr(layer, key)
        if array.shape != channels or not np.isfinite(array).all():
            raise InvalidValueError(
                f"{where}: {key} has shape {array.shape} or is not finite; expected {channels}"
            )
    if not (layer.sw > 0).all():
        raise InvalidValueError(f"{where}: a weight scale is not positive; expected positive ones")


def _of_parts(
    path: Path, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> QuantizationResult:
    try:
        names = list(dict.fromkeys(key.rpartition("/")[0] for key in arrays))
        layers = {name: _read_layer(name, arrays) for name in names}
        return QuantizationResult(
            plan=BitPlan.from_json(header["plan"]),
            layers=layers,
            ranges={name: (float(r[0]), float(r[1])) for name, r in header["ranges"].items()},
            input_spec=convert(header["input_spec"], InputSpec, "input_spec"),
            rounding=header["rounding"],
            method=header["method"],
            channels={
                name: Channels(arrays[f"{name}/unit"], arrays[f"{name}/offset"])
                for name in names
                if f"{name}/unit" in arrays
            },
        )
    except InvalidValueError as error:
        raise InvalidValueError(f"{path}: {error}") from None
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
        raise InvalidValueError(f"{path}: not a quantization result ({error!r})") from None


def _read_layer(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> RealLayer:
    codes, zw, sw, g, h = (arrays[f"{name}/{key}"] for key in _ARRAYS)
    return RealLayer(name, codes, zw, sw, g, h)


def nearest_result(
    network: FloatNetwork, plan: BitPlan, rounding: str = "nearest", weight_method: str = "mse"
) -> QuantizationResult:
    """Plain post-training quantization: calibrated ranges, every weight to its nearest code."""
    layers = {}
    for block in network.weighted:
        assert block.weights is not None and block.g is not None
        assert block.h is not None and block.x_means is not None
        codes, zw, sw = weight_codes(block.weights, plan.weights[block.name], weight_method)
        h = block.h - block.g * rounding_shift(block.weights, codes, zw, sw, block.x_means)
        layers[block.name] = RealLayer(block.name, codes, zw, sw, block.g, h)
    ranges = {
        block.name: block.range(plan.activations[block.tensor])
        for block in network.blocks[:-1]
        if block.op not in KEEPS_RANGE
    }
    method = {"reconstruction": "none", "weights": weight_method}
    return QuantizationResult(plan, layers, ranges, network.input_spec, rounding, method)
