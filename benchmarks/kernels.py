"""Cycles per MAC on the board model, of single layers and of networks, beside bars and peers.

``python -m benchmarks.kernels [--json] [--only TEXT] [--profile]``; networks have "network" in
their line, and take minutes. The whole layer counts, as a user calls it: packing, zero points,
requantization, stores; weights in flash, activations in AXI SRAM, scratch in DTCM; the layer runs
twice and the second run counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TextIO

from benchmarks import kernel_networks
from tvm_mpq.emulator import MODEL_ERROR
from tvm_mpq.files import temporary_folder
from tvm_mpq.kernels.choose import choose
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.micro.single_layer import Measurement, annotated, measure, random_layer
from tvm_mpq.specs import WIDTHS, TensorSpec
from tvm_mpq.target import Target

TARGET = Target("stm32h7")
POINTWISE_BARS = {
    **{(8, 8): 0.75, (8, 4): 0.75, (8, 2): 0.55, (4, 8): 0.75, (4, 4): 0.45, (4, 2): 0.36},
    **{(2, 8): 0.55, (2, 4): 0.36, (2, 2): 0.28},
}
# CMix-NN PC+ICN, instructions per MAC (anchors/cmixnn_instructions.csv), by (x, w) bits.
POINTWISE_PEER = {
    **{(8, 8): 2.11, (8, 4): 2.50, (8, 2): 2.71, (4, 8): 2.11, (4, 4): 2.50, (4, 2): 2.71},
    **{(2, 8): 2.14, (2, 4): 2.52, (2, 2): 2.74},
}
DEPTHWISE_BARS = {8: 1.8, 4: 1.2, 2: 1.2}


@dataclass(frozen=True)
class Entry:
    """One line of the table: ``bar`` in cycles per MAC, ``peer`` in instructions per MAC."""

    layer: str
    spec: KernelSpec
    bar: float | None
    peer: float | None = None


def entries() -> Iterator[Entry]:
    """Every layer of the table."""
    for (x, w), channels in product(POINTWISE_BARS, (192, 512)):
        spec = _layer("pointwise_conv2d", channels, 14, channels, x, w)
        peer = POINTWISE_PEER[x, w] if channels == 192 else None
        yield Entry(f"pw 14x14 {channels}->{channels}", spec, POINTWISE_BARS[x, w], peer)
    for x, w in product((8,), (8, 4)):
        for cin, size, cout in ((24, 56, 48), (48, 56, 96), (96, 28, 192), (768, 7, 768)):
            spec = _layer("pointwise_conv2d", cin, size, cout, x, w)
            yield Entry(f"pw {size}x{size} {cin}->{cout}", spec, None)
    for bits, (channels, size), stride in product(WIDTHS, ((192, 14), (16, 112)), (1, 2)):
        bar = DEPTHWISE_BARS[bits] * (1.5 if stride == 2 else 1.0)
        spec = _depthwise(channels, size, bits, stride)
        yield Entry(f"dw 3x3 s{stride} {size}x{size}x{channels}", spec, bar)
    image = TensorSpec(3, 224, 224, 8, 128, "hwc8")
    for w, y in ((8, 8), (4, 4)):
        stem = KernelSpec(
            "conv2d", (image,), TensorSpec.of_map(24, 112, 112, y), w, (3, 3), (2, 2), (0, 0, 1, 1)
        )
        yield Entry("first 3x3x3 s2 224 ->24", choose(stem, TARGET), 1.6)
    for x, w in ((8, 8), (8, 4), (4, 4)):
        logits = TensorSpec(1000, 1, 1, 32, 0, "logits")
        dense = KernelSpec("dense", (TensorSpec.of_map(1024, 1, 1, x),), logits, w)
        bar = 1.2 if w == 8 else 0.95
        yield Entry("dense 1024->1000", choose(dense, TARGET), bar)
    for bits in (8, 4):
        pool = KernelSpec(
            "global_avg_pool",
            (TensorSpec.of_map(768, 7, 7, bits),),
            TensorSpec.of_map(768, 1, 1, bits),
        )
        yield Entry("avg pool 7x7x768", choose(pool, TARGET), None)


def _layer(op: str, cin: int, size: int, cout: int, x_bits: int, w_bits: int) -> KernelSpec:
    x, y = (TensorSpec.of_map(c, size, size, x_bits) for c in (cin, cout))
    return choose(KernelSpec(op, (x,), y, w_bits), TARGET)


def _depthwise(channels: int, size: int, bits: int, stride: int) -> KernelSpec:
    out = -(-size // stride)
    padding = (1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1)
    x, y = (TensorSpec.of_map(channels, s, s, bits) for s in (size, out))
    spec = KernelSpec("depthwise_conv2d", (x,), y, bits, (3, 3), (stride, stride), padding)
    return choose(spec, TARGET)


def record(entry: Entry, found: Measurement) -> dict[str, Any]:
    """One JSON object of the result list; layers without MACs count their input elements."""
    spec = entry.spec
    elements = spec.x.channels * spec.x.height * spec.x.width
    macs = spec.macs or elements
    return {
        "kernel": spec.name,
        "layer": entry.layer,
        "x": spec.x.bits,
        "w": spec.w_bits,
        "y": spec.output.bits,
        "macs": macs,
        "cycles": found.cycles,
        "cycles_per_mac": round(found.cycles / macs, 4),
        "scratch_bytes": spec.scratch_bytes,
        "code_bytes": found.code_bytes,
        "bit_exact": found.bit_exact,
    }


def format_row(entry: Entry, row: dict[str, Any]) -> str:
    """One line of the printed table."""
    bar = "" if entry.bar is None else f"{entry.bar:.2f}"
    verdict = (
        "" if entry.bar is None else ("ok" if row["cycles_per_mac"] <= entry.bar else "MISSED")
    )
    peer = "" if entry.peer is None else f"{entry.peer:.2f}"
    exact = "" if row["bit_exact"] else "  NOT EXACT"
    sizes = f"{row['scratch_bytes']:>6d} {row['code_bytes']:>6d}"
    return (
        f"{entry.layer:24s} {row['kernel']:32s} {row['cycles']:>10d} {row['cycles_per_mac']:>7.3f}"
        f" {bar:>5s} {verdict:6s} {peer:>5s} {sizes}{exact}"
    )


def main() -> None:
    """Print the table, or a JSON list."""
    parser = argparse.ArgumentParser(description="Cycles per MAC of single layers")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--only", default="", help="layers and kernels whose line has this text")
    parser.add_argument("--profile", action="store_true", help="cycles by function (both runs)")
    parser.add_argument("--annotate", default="", help="print this function's instructions")
    arguments = parser.parse_args()
    rows = []
    out = sys.stderr if arguments.json else sys.stdout
    print(f"cycles: {MODEL_ERROR}; peer: CMix-NN, instructions per MAC", file=sys.stderr)
    for entry in entries():
        if all(text in f"{entry.layer} {entry.spec.name}" for text in arguments.only.split()):
            rows.append(_show_layer(entry, arguments, out))
    for network, row in kernel_networks.rows(arguments.only):
        rows.append(row)
        print(kernel_networks.format_row(network, row), file=out, flush=True)
    if arguments.json:
        print("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]")


def _show_layer(entry: Entry, arguments: argparse.Namespace, out: TextIO) -> dict[str, Any]:
    """Measure and print one layer; its JSON object."""
    layer = random_layer(entry.spec)
    with temporary_folder("kernels") as folder:
        found = measure(layer, Path(folder))
        row = record(entry, found)
        print(format_row(entry, row), file=out, flush=True)
        if arguments.annotate:
            print(annotated(layer, Path(folder), arguments.annotate), file=out)
    if arguments.profile and found.profile is not None:
        for used in found.profile.functions[:8]:
            stalls = {key: value for key, value in used.usage.stalls.items() if value}
            print(f"    {used.name:40s} {used.usage.cycles:>9d} {stalls}", file=out)
    return row


if __name__ == "__main__":
    main()
