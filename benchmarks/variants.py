"""The four requantization variants on one network: accuracy, bytes, instructions.

``python -m benchmarks.variants [--json]``: the demo's MobileNetV1 on 1000 held-out digits, every
weight and activation at 4 bits (image, first layer and logits 8), rounded to nearest. The first
three run on the device with the same code: a range or a multiplier for a whole layer is stored once
a channel there, so that only their bytes by the paper's count differ. Thresholds are no kernel of
ours: their epilogue, in C, is run alone on the board model beside ours.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

import tvm_mpq
from benchmarks.mobilenet_v1 import predict, top1
from benchmarks.train_demo import DEMO_INPUT, RESOLUTION, load_demo
from tvm_mpq.emulator import Board
from tvm_mpq.errors import ToolError
from tvm_mpq.files import temporary_folder
from tvm_mpq.frontends import from_torch
from tvm_mpq.kernels.pack import pack_icn
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.micro.single_layer import link
from tvm_mpq.pipeline import CalibratedModel, calibrate
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.bit_search import Variant, ro_bytes, uniform_bit_plan
from tvm_mpq.quant.icn import IcnParams, requantize
from tvm_mpq.quant.variants import apply_thresholds, thresholds, variant_result
from tvm_mpq.specs import TensorSpec

CHANNELS, PIXELS = 16, 196
_SOURCE = Path(__file__).with_name("firmware") / "epilogues.c"


@dataclass(frozen=True)
class Row:
    """One variant. bytes: weights and constants by the paper's count. instructions: one inference;
    ``estimated`` where the epilogue was counted alone and put in the place of ours."""

    variant: str
    top1: float
    bytes: int
    instructions: int
    estimated: bool


def rows() -> list[Row]:
    """All four variants."""
    model, images, test, labels = load_demo()
    module = from_torch(model, torch.zeros(1, 1, RESOLUTION, RESOLUTION))
    calibrated = calibrate(module, images, DEMO_INPUT)
    plan = narrow_plan(calibrated)
    found = []
    for variant in Variant:
        result = variant_result(calibrated.network, plan, variant)
        deployment = tvm_mpq.build(calibrated, "stm32h7", quantization=result)
        profile = deployment.profile()
        instructions = sum(layer.instructions for layer in profile.layers)
        estimated = variant is Variant.PC_THRESHOLDS
        if estimated:
            instructions += _difference(calibrated, epilogue_instructions())
        size = ro_bytes(calibrated.layers, plan.activations, plan.weights, variant)
        accuracy = top1(deployment.run(test, on="host"), labels)
        found.append(Row(variant.value, accuracy, size, instructions, estimated))
    return [Row("float", top1(predict(model, test, DEMO_INPUT), labels), 0, 0, False), *found]


def narrow_plan(model: CalibratedModel) -> BitPlan:
    """4 bits everywhere but in the image, the first layer's weights and the logits."""
    plan = uniform_bit_plan(model.layers, 4, 4)
    return replace(plan, weights=plan.weights | {model.layers[0].name: 8})


def _difference(model: CalibratedModel, counts: dict[str, float]) -> int:
    """Instructions that thresholds add to a network, over every output that is requantized."""
    inner = [layer for layer in model.layers[:-1] if layer.weight_elements]
    outputs = sum(layer.y_elements for layer in inner)
    return round(outputs * (counts["thresholds"] - counts["icn"]))


def epilogue_instructions(seed: int = 0) -> dict[str, float]:
    """Instructions for one 4-bit output of both epilogues, which must give the same codes."""
    rng = np.random.default_rng(seed)
    phi = rng.integers(-(2**17), 2**17, (CHANNELS, PIXELS)).astype(np.int64)
    icn = IcnParams(
        rng.integers(2**30, 2**31, CHANNELS).astype(np.int32),
        np.full(CHANNELS, -12, np.int8),
        np.zeros(CHANNELS, np.int32),
        np.zeros(CHANNELS, np.uint8),
    )
    expected = requantize(phi, icn, 0, 4)
    found, falling = thresholds(icn, 0, 4)
    if not np.array_equal(apply_thresholds(phi, found, falling), expected):
        raise ToolError("thresholds and ICN disagree")
    tables = {"icn": _icn_words(icn), "thresholds": found}
    counts = {}
    for name, table in tables.items():
        codes, instructions = _run(name, phi.astype(np.int32), table)
        if not np.array_equal(codes, expected):
            raise ToolError(f"epilogue {name}: its codes are not those of numpy")
        counts[name] = instructions / phi.size
    return counts


def _icn_words(icn: IcnParams) -> np.ndarray:
    """As a layer's kernel reads them."""
    maps = [TensorSpec.of_map(CHANNELS, 14, 14, 4) for _ in range(2)]
    spec = KernelSpec("depthwise_conv2d", (maps[0],), maps[1], 4)
    return pack_icn(spec, icn, np.zeros((CHANNELS, 1, 1, 1), np.uint8))


def _run(epilogue: str, phi: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, int]:
    """(codes [C, pixels], instructions of the second of two runs)."""
    with temporary_folder("variants") as name:
        folder = Path(name)
        defines = f"#define {epilogue.upper()}\n#define CHANNELS {CHANNELS}\n"
        defines += f"#define PIXELS {PIXELS}\n"
        (folder / "layer.c").write_text(defines + _SOURCE.read_text())
        (folder / "table.bin").write_bytes(np.ascontiguousarray(table).tobytes())
        constants = '.section .rodata\n.balign 32\n.global table\ntable: .incbin "table.bin"\n'
        (folder / "constants.s").write_text(constants)
        with Board(link(folder)) as board:
            board.write_symbol("phi", phi.tobytes())
            board.run(timeout_seconds=60, cycles=True)
            words = np.frombuffer(board.read_symbol("y"), np.uint32).reshape(CHANNELS, -1)
            instructions = board.usage.instructions
    codes = (words[:, :, None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15
    return codes.reshape(CHANNELS, -1)[:, :PIXELS].astype(np.uint8), instructions // 2


def main() -> None:
    """Print the table, or a JSON list."""
    parser = argparse.ArgumentParser(description="The four requantization variants")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    arguments = parser.parse_args()
    found = rows()
    if arguments.json:
        print(json.dumps([asdict(row) for row in found]))
        return
    print(f"{'variant':16s} {'top-1 %':>8s} {'bytes':>9s} {'instructions':>13s}")
    for row in found:
        note = "  epilogue counted alone" if row.estimated else ""
        cells = f"{row.bytes or '':>9} {row.instructions or '':>13}"
        print(f"{row.variant:16s} {row.top1:>8.1f} {cells}{note}")


if __name__ == "__main__":
    main()
