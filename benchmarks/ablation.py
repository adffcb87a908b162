"""Which step of the reconstruction buys how many points, on the network and plan of one row.

``python -m benchmarks.ablation --data DIR --row NAME [--work DIR] [--images N]``: one step more a
line, from plain rounding on; top-1 and divergence from the integer program as a torch module, which
gives the C library's bits. A finished line is kept in ``--work`` and not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks import datasets
from benchmarks.accuracy import Bench, divergence
from benchmarks.accuracy_rows import ROWS
from benchmarks.mobilenet_v1 import top1
from tvm_mpq.files import write_text
from tvm_mpq.quant.integer_network import IntegerNetwork, run_batches
from tvm_mpq.quant.reconstruct import ReconstructionOptions, reconstruct

NOTHING: dict[str, Any] = {
    "rounding_of_weights": "nearest",
    "bias": False,
    "refit": False,
    "asymmetric": False,
    "search": False,
    "range_method": "max",
    "channel_clips": False,
    "channel_offsets": False,
    "equalize": 0.0,
    "equalize_narrow": 0.0,
}
# Each step and the options that it adds to those before it.
STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("activation ranges by error", {"range_method": "mse"}),
    ("sequential bias correction", {"bias": True}),
    ("GPTQ", {"rounding_of_weights": "gptq"}),
    ("scale refit to the codes", {"refit": True}),
    ("weights for quantized inputs", {"asymmetric": True}),
    ("search for ranges and codes", {"search": True}),
    ("a clip per channel", {"channel_clips": True}),
    ("cross-layer equalization", {"equalize": 0.5, "equalize_narrow": 0.75}),
    ("an offset per channel", {"channel_offsets": True}),
)
_BATCH = 5


def lines(bench: Bench, images: int) -> list[dict[str, Any]]:
    """One object a step: its name, top-1 in percent, divergence in nats, seconds."""
    options = dict(NOTHING)
    found = []
    for name, added in (("rounding to nearest", {}), *STEPS):
        options |= added
        found.append(_line(bench, name, options, images))
        print(_text(found[-1]), flush=True)
    return found


def _line(bench: Bench, name: str, options: dict[str, Any], images: int) -> dict[str, Any]:
    path = bench.work / f"{bench.name}-{images}-{name.replace(' ', '_')}.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    started = time.perf_counter()
    chosen, network = ReconstructionOptions(**options), bench.model.network
    result = reconstruct(network, bench.plan, bench.calibration[:images], chosen)
    pictures, labels = bench.measured
    logits = run_batches(IntegerNetwork(network, result), pictures, _BATCH)
    line = {
        "step": name,
        "top1": top1(logits, labels),
        "divergence": divergence(bench.float_logits, logits),
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_text(path, json.dumps(line))
    return line


def _text(line: dict[str, Any]) -> str:
    return (
        f"{line['step']:32s} {line['top1']:5.1f}  KL {line['divergence']:.4f}"
        f"  {line['seconds']:.0f} s"
    )


def main() -> None:
    """Print the steps."""
    parser = argparse.ArgumentParser(description="What each step of the reconstruction buys")
    parser.add_argument("--data", help="data folder (default: $TVM_MPQ_DATA)")
    parser.add_argument("--row", required=True, choices=list(ROWS))
    parser.add_argument("--work", type=Path, default=Path("accuracy-work"), help="kept results")
    parser.add_argument("--images", type=int, default=200, help="of the calibration set")
    arguments = parser.parse_args()
    data = datasets.data_folder(arguments.data)
    bench = Bench(arguments.row, ROWS[arguments.row], data, arguments.work)
    lines(bench, arguments.images)


if __name__ == "__main__":
    main()
