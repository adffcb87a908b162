"""RAM and cycles of row-streamed MobileNetV1, image as a whole and by rows.

``python -m benchmarks.streaming [--data DIR] [--only NAME] [--table arenas|cycles] [--json]``

Arenas: every network is built for the budgets below with ``minimize="ram"`` and 8-bit activations
found by the search itself, and linked; the arena is the size of its symbol in the ELF.

Cycles: board model, widths as given, ``minimize="streaming"``: bands of rows as large as the RAM
allows. RAM is what the arena bar leaves ("tight") or the network's whole budget ("ample").

ResNet-8: its arenas and cycles beside those published for STM32Cube.AI.

Weights are real where ``--data`` has them; neither bytes nor cycles depend on them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import datasets
from benchmarks.mobilenet_v1 import MobileNetV1, load_keras_npz
from benchmarks.network_cycles import NetworkCycles, network_cycles
from benchmarks.random_weights import settle
from benchmarks.resnet8 import SIZE, ResNet8
from tvm_mpq.builder import build
from tvm_mpq.codegen.row_plan import plan_layer_by_layer
from tvm_mpq.emulator import MODEL_ERROR
from tvm_mpq.frontends import from_torch
from tvm_mpq.pipeline import CalibratedModel, calibrate
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.bit_search import paper_bit_plan, uniform_bit_plan
from tvm_mpq.target import Target

_CALIBRATION_IMAGES = 2


@dataclass(frozen=True)
class Bar:
    """A network, the budgets it is built for, and the arenas in bytes that it must not exceed."""

    name: str
    width: float
    resolution: int
    classes: int
    weights: str
    flash: str
    ram: str
    whole: int
    by_rows: int


BARS = (
    Bar("1.0/224", 1.0, 224, 1000, "", "2MB", "512kB", 370_000, 245_000),
    Bar("0.75/224", 0.75, 224, 1000, "mobilenet_v1_0.75_224", "2MB", "512kB", 320_000, 185_000),
    Bar("0.5/224", 0.5, 224, 1000, "", "2MB", "512kB", 265_000, 125_000),
    Bar("0.25/128", 0.25, 128, 1000, "mobilenet_v1_0.25_128", "1MB", "128kB", 76_000, 28_000),
    Bar("0.25/96", 0.25, 96, 2, "vww_96", "1MB", "64kB", 44_000, 20_000),
)


# Not a bar of its own, but both orders fit its budget: estimated peaks, rounded up.
_HALF_192 = Bar("0.5/192", 0.5, 192, 1000, "", "2MB", "512kB", 200_000, 90_000)


@dataclass(frozen=True)
class CycleCase:
    """A network, its widths ("8", "4" everywhere or "paper"), and the bar in cycles per MAC."""

    network: Bar
    bits: str
    bar: float | None = None


CYCLE_CASES = (
    CycleCase(BARS[4], "8"),
    CycleCase(BARS[3], "8"),
    CycleCase(_HALF_192, "8"),
    CycleCase(BARS[1], "paper", 0.9),
    CycleCase(BARS[1], "4", 0.6),
)
# What streaming may cost where both orders fit the budget.
_MOST_OVERHEAD = 0.03


# STM32Cube.AI 9.1.0 on the same network (CIFAR-10, int8, STM32H7): activation RAM of 62.51 KiB and
# 28.67 ms at 400 MHz; stm32ai-modelzoo, image_classification/pretrained_models/resnetv1/README.md.
_RESNET8_PEER = {"activation_ram": 64_010, "milliseconds_at_400_mhz": 28.67}


def load(bar: Bar, data: Path | None) -> tuple[MobileNetV1, bool]:
    """The network of ``bar``, and whether its weights are real."""
    path = data / "models" / f"{bar.weights}.npz" if data and bar.weights else None
    if path is not None and path.is_file():
        return load_keras_npz(path), True
    torch.manual_seed(0)
    model = MobileNetV1(bar.width, bar.resolution, bar.classes)
    return settle(model, (3, bar.resolution, bar.resolution)), False  # type: ignore[return-value]


def calibrated(bar: Bar, model: MobileNetV1) -> CalibratedModel:
    """``model`` with ranges from random images: the arena does not depend on them."""
    shape = (_CALIBRATION_IMAGES, bar.resolution, bar.resolution, 3)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    example = torch.zeros(1, 3, bar.resolution, bar.resolution)
    spec = datasets.VWW_INPUT if bar.classes == 2 else datasets.IMAGENET_INPUT
    return calibrate(from_torch(model, example), images, spec, "max")


def measure(bar: Bar, data: Path | None) -> dict[str, Any]:
    """Arena, flash and widths of one network, all from linked programs; bytes."""
    model, real = load(bar, data)
    network = calibrated(bar, model)
    row: dict[str, Any] = {"network": bar.name, "real_weights": real, "ram_budget": bar.ram}
    row |= {"bar_whole": bar.whole, "bar_by_rows": bar.by_rows}
    for kind, input_buffer in (("whole", "arena"), ("by_rows", "rows")):
        target = f"stm32h7 -flash={bar.flash} -ram={bar.ram}"
        deployment = build(network, target, input_buffer=input_buffer, minimize="ram")
        firmware, description = deployment.firmware, deployment.description
        orders = [layer.order for layer in description.layers]
        row[f"arena_{kind}"] = firmware.arena_bytes
        row[f"ram_{kind}"] = firmware.ram_bytes
        row[f"flash_{kind}"] = firmware.flash_bytes
        row[f"streamed_{kind}"] = orders.count("row by row")
        row["activations"] = description.bits.activations
        row["weights"] = description.bits.weights
        assert deployment.integer is not None
        layer_by_layer = plan_layer_by_layer(deployment.integer.program)
        row["arena_layer_by_layer"] = layer_by_layer.arena_bytes
    narrow = set(row["activations"]) != {"8"}
    row["met"] = (
        row["arena_whole"] <= bar.whole and row["arena_by_rows"] <= bar.by_rows and not narrow
    )
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people; kB are 1000 bytes."""
    lines = [
        f"{'MobileNetV1':12s} {'layer by layer':>14s} {'whole image':>12s} {'bar':>6s}"
        f" {'by rows':>9s} {'bar':>6s} {'streamed':>9s} {'flash':>10s}  activations cut"
    ]
    for row in rows:
        cut = sum(digit != "8" for digit in row["activations"])
        streamed = f"{row['streamed_whole']}/{row['streamed_by_rows']}"
        lines.append(
            f"{row['network']:12s} {row['arena_layer_by_layer'] / 1e3:11.1f} kB"
            f" {row['arena_whole'] / 1e3:9.1f} kB {row['bar_whole'] / 1e3:6.0f}"
            f" {row['arena_by_rows'] / 1e3:6.1f} kB {row['bar_by_rows'] / 1e3:6.0f}"
            f" {streamed:>9s} {row['flash_whole']:10,d}  {cut}"
        )
    return "\n".join(lines)


def measure_resnet8() -> dict[str, Any]:
    """Arenas and cycles of MLPerf Tiny's ResNet-8 with random weights, 8 bits."""
    torch.manual_seed(0)
    model = settle(ResNet8(), (3, SIZE, SIZE))
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    network = calibrate(from_torch(model, torch.zeros(1, 3, SIZE, SIZE)), images)
    plan = uniform_bit_plan(network.layers, 8, 8)
    options: dict[str, dict[str, str]] = {
        "layer by layer": {"memory_model": "linked"},
        "row-streamed": {"minimize": "ram"},
        "by rows": {"minimize": "ram", "input_buffer": "rows"},
    }
    runs = {name: network_cycles(network, plan, "stm32h7", **o) for name, o in options.items()}
    rows = {name: {"arena": run.arena_bytes, "cycles": run.cycles} for name, run in runs.items()}
    return {"runs": rows, "peer": _RESNET8_PEER}


def resnet8_text(found: dict[str, Any]) -> str:
    """ResNet-8 for people."""
    lines = ["ResNet-8 32x32, 8 bits"]
    for name, run in found["runs"].items():
        milliseconds = run["cycles"] / 400_000
        lines.append(
            f"  {name:15s} arena {run['arena'] / 1e3:5.1f} kB  {run['cycles']:11,d} cycles,"
            f" {milliseconds:.1f} ms at 400 MHz (modelled)"
        )
    peer = found["peer"]
    lines.append(
        f"  STM32Cube.AI    RAM   {peer['activation_ram'] / 1e3:5.1f} kB  (published)"
        f" {peer['milliseconds_at_400_mhz']} ms at 400 MHz"
    )
    return "\n".join(lines)


def measure_cycles(case: CycleCase, data: Path | None) -> dict[str, Any]:
    """Cycles of one network layer by layer and streamed, with the RAM of each."""
    bar = case.network
    model, _ = load(bar, data)
    network = calibrated(bar, model)
    plan = _bit_plan(case, network)
    whole = network_cycles(network, plan, "stm32h7", memory_model="linked")
    runs = {"layer by layer": whole}
    beside = whole.beside_arena + bar.resolution * 3  # by rows, a line of the image as well
    for name, ram, input_buffer in (
        ("whole, tight", bar.whole + whole.beside_arena, "arena"),
        ("by rows, ample", Target("stm32h7", ram=bar.ram).ram, "rows"),
        ("by rows, tight", bar.by_rows + beside, "rows"),
    ):
        target = Target("stm32h7", ram=ram)
        runs[name] = network_cycles(network, plan, target, input_buffer=input_buffer)
    return {
        "network": bar.name,
        "bits": case.bits,
        "bar": case.bar,
        "runs": {name: _run_row(run, whole) for name, run in runs.items()},
    }


def _bit_plan(case: CycleCase, network: CalibratedModel) -> BitPlan:
    if case.bits == "paper":
        target = Target("stm32h7", flash=case.network.flash, ram=case.network.ram)
        return paper_bit_plan(network.layers, target.flash, target.ram)
    return uniform_bit_plan(network.layers, int(case.bits), int(case.bits))


def _run_row(run: NetworkCycles, whole: NetworkCycles) -> dict[str, Any]:
    return {
        "arena": run.arena_bytes,
        "streamed": run.streamed_layers,
        "cycles": run.cycles,
        "cycles_per_mac": round(run.cycles_per_mac, 4),
        "overhead": round(run.cycles / whole.cycles - 1, 4),
    }


def cycle_text(row: dict[str, Any]) -> str:
    """One network for people."""
    bar = "" if row["bar"] is None else f"; bar {row['bar']} cycles/MAC"
    lines = [f"{row['network']}, {row['bits']} bits{bar}"]
    for name, run in row["runs"].items():
        verdict = "" if row["bar"] is None or run["cycles_per_mac"] <= row["bar"] else "  MISSED"
        if name == "by rows, ample" and run["overhead"] > _MOST_OVERHEAD:
            verdict += f"  more than {_MOST_OVERHEAD:.0%} above layer by layer"
        lines.append(
            f"  {name:15s} {run['cycles']:12,d} cycles {run['cycles_per_mac']:7.3f} /MAC"
            f" {run['overhead']:+8.2%}  arena {run['arena'] / 1e3:6.1f} kB"
            f"  {run['streamed']:2d} layers streamed{verdict}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="RAM and cycles of row-streamed MobileNetV1")
    parser.add_argument("--data", help="data folder with models/ (default: random weights)")
    parser.add_argument("--only", help="one network, for example 0.25/96 or resnet8")
    parser.add_argument("--table", choices=("arenas", "cycles"), help="one table alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    data = Path(arguments.data) if arguments.data else None
    only, chosen = arguments.only, arguments.table
    found: dict[str, Any] = {}
    print(f"cycles: {MODEL_ERROR}", file=sys.stderr)
    for name, text in _tables(data, only, chosen, found):
        if not arguments.json:
            print(f"{name}\n{text}", flush=True)
    if arguments.json:
        print(json.dumps(found))


def _tables(
    data: Path | None, only: str | None, chosen: str | None, found: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Heading and text of every table, as they are measured; the figures go to ``found``."""
    bars = [bar for bar in BARS if only in (None, bar.name)]
    if bars and chosen in (None, "arenas"):
        found["rows"] = [measure(bar, data) for bar in bars]
        yield "Arenas", table(found["rows"])
    cases = [case for case in CYCLE_CASES if only in (None, case.network.name)]
    if chosen in (None, "cycles"):
        found["cycles"] = []
        for case in cases:
            found["cycles"].append(measure_cycles(case, data))
            yield "Cycles", cycle_text(found["cycles"][-1])
    if only in (None, "resnet8"):
        found["resnet8"] = measure_resnet8()
        yield "Another network", resnet8_text(found["resnet8"])


if __name__ == "__main__":
    main()
