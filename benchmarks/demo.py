"""``make demo``: a mixed-precision network classifies handwritten digits on an emulated Nucleo."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tvm_mpq
from benchmarks.mobilenet_v1 import predict, top1
from benchmarks.train_demo import DEMO_INPUT, RESOLUTION, load_demo
from tvm_mpq.files import write_text
from tvm_mpq.frontends import from_torch
from tvm_mpq.report.profile import profile_text

# All weights at 8 bits need 163 kB: the rule must cut one layer to 4 bits and one to 2.
FLASH, RAM = "105kB", "16kB"
ON_EMULATOR = 100
SHOWN = 4
_SHADES = " .:-=+*#%@"


def run_demo(on_emulator: int = ON_EMULATOR) -> dict[str, Any]:
    """Build, run on the host and on the emulator, print; the figures as a JSON object."""
    model, calibration, test, labels = load_demo()
    module = from_torch(model, torch.zeros(1, 1, RESOLUTION, RESOLUTION))
    target = tvm_mpq.Target("stm32h7", flash=FLASH, ram=RAM)
    print(f"Compiling a MobileNetV1 for {FLASH} of flash and {RAM} of RAM ...", flush=True)
    started = time.monotonic()
    deployment = tvm_mpq.build(module, target, calibration=calibration, input_spec=DEMO_INPUT)
    compile_seconds = time.monotonic() - started
    report = deployment.report()
    print(report)

    print(f"\nRunning {on_emulator} held-out digits on the emulated STM32H743 ...", flush=True)
    emulated = deployment.run(test[:on_emulator], on="emulator")
    host = deployment.run(test, on="host")
    _show(test[:SHOWN], emulated[:SHOWN], labels[:SHOWN])
    profile = deployment.profile()
    print(f"\n{profile_text(profile)}")
    result = {
        "compile_seconds": round(compile_seconds, 2),
        "top1": {
            "float": top1(predict(model, test, DEMO_INPUT), labels),
            "integer": top1(host, labels),
            "integer_on_emulator": top1(emulated, labels[:on_emulator]),
        },
        "bit_exact": bool((emulated == host[:on_emulator]).all()),
        **report.to_json(),
        "profile": profile.to_json(),
    }
    accuracy = result["top1"]
    print(f"accuracy on {len(test)} held-out digits: float {accuracy['float']:.1f} %", end=", ")
    print(f"integer {accuracy['integer']:.1f} %;", end=" ")
    print(f"emulator and host agree bit for bit: {'yes' if result['bit_exact'] else 'NO'}")
    print(f"compiled in {compile_seconds:.1f} s")
    return result


def _show(images: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> None:
    """A few digits as text, side by side, with what the network says."""
    blocks = [image[2:-2:2, 4:-4, 0] // 26 for image in images]
    for row in range(len(blocks[0])):
        print("   ".join("".join(_SHADES[v] for v in block[row]) for block in blocks))
    width = blocks[0].shape[1]
    texts = [f"network: {row.argmax()}  label: {y}" for row, y in zip(logits, labels, strict=True)]
    print("   ".join(f"{text:<{width}}" for text in texts))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    arguments = parser.parse_args()
    result = run_demo()
    if arguments.json:
        write_text(Path(arguments.json), json.dumps(result))


if __name__ == "__main__":
    main()
