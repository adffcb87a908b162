"""The proof on real networks: bits, bytes, bit-exactness and accuracy against the float network.

``python -m benchmarks.imagenet --data DIR`` (or $TVM_MPQ_DATA); about three minutes for 0.75/224.

``--streaming`` adds the same budgets with row-streamed layers: weights cut by the same rule, and
activations only as far as the streamed arena asks for it, which is not at all for 0.75/224.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import tvm_mpq
from benchmarks import datasets
from benchmarks.datasets import Images, Labels
from benchmarks.layer_check import count_equal_layers
from benchmarks.mobilenet_v1 import MobileNetV1, load_keras_npz, predict, top1
from relay_passes.evaluate import evaluate_integer
from tvm_mpq.errors import DoesNotFitError
from tvm_mpq.frontends import from_torch
from tvm_mpq.micro import run_on_emulator
from tvm_mpq.pipeline import CalibratedModel, calibrate
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.bit_search import paper_bit_plan, uniform_bit_plan
from tvm_mpq.report.tables import elf_sizes
from tvm_mpq.specs import InputSpec
from tvm_mpq.target import Target


@dataclass(frozen=True)
class Network:
    """A benchmark network: its weights file, its images, the budgets it is measured under."""

    file: str
    flash: str
    ram: str
    input_spec: InputSpec


NETWORKS = {
    "0.75_224": Network("mobilenet_v1_0.75_224.npz", "2MB", "512kB", datasets.IMAGENET_INPUT),
    "0.25_128": Network("mobilenet_v1_0.25_128.npz", "600kB", "128kB", datasets.IMAGENET_INPUT),
    "vww_96": Network("vww_96.npz", "192kB", "64kB", datasets.VWW_INPUT),
}


class Benchmark:
    """One network with its images; every method measures one thing."""

    def __init__(self, name: str, data: str | None, calibration_images: int) -> None:
        self.network = NETWORKS[name]
        folder = datasets.data_folder(data)
        self.model: MobileNetV1 = load_keras_npz(folder / "models" / self.network.file)
        size = self.model.resolution
        self.images: Images
        self.labels: Labels
        if name == "vww_96":
            # The set has no training part: calibrate on images without their labels.
            self.images, self.labels = datasets.load_vww_even(folder)
            calibration = self.images[:calibration_images]
        else:
            self.images, self.labels = datasets.load_nips17_dev(folder, size)
            calibration, _ = datasets.load_imagenet_calib(folder, size)
            # A stride spreads the choice over the classes, which the files are sorted by.
            calibration = calibration[:: max(1, len(calibration) // calibration_images)]
        started = time.monotonic()
        module = from_torch(self.model, torch.zeros(1, 3, size, size))
        # Every channel counts in the published plans that this benchmark is compared with.
        self.calibrated: CalibratedModel = calibrate(
            module, calibration, self.network.input_spec, fold_constant_channels=False
        )
        self.calibration_seconds = time.monotonic() - started

    def float_top1(self) -> float:
        """Percent."""
        return top1(predict(self.model, self.images, self.network.input_spec), self.labels)

    def int8_top1(self) -> float:
        """Percent with 8 bits everywhere, on the host: it need not fit a board."""
        plan = uniform_bit_plan(self.calibrated.layers, 8, 8)
        deployment = tvm_mpq.build(self.calibrated, Target("host"), plan=plan)
        return top1(deployment.run(self.images), self.labels)

    def mixed(self, flash: str, ram: str, exact_images: int) -> dict[str, Any]:
        """The paper's plan under the budgets: bytes as linked, bit-exactness, top-1."""
        target = Target("stm32h7", flash=flash, ram=ram)
        plan = paper_bit_plan(self.calibrated.layers, target.flash, target.ram)
        started = time.monotonic()
        deployment, refused = self._link(plan, target)
        compile_seconds = time.monotonic() - started
        host = deployment.run(self.images)
        chosen = self.images[:exact_images]
        emulated, _ = run_on_emulator(deployment.firmware, chosen.reshape(len(chosen), -1))
        assert deployment.integer is not None
        module = deployment.integer.module
        reference = np.stack([evaluate_integer(module, image) for image in chosen])
        exact = (reference == host[:exact_images]).all(1) & (reference == emulated).all(1)
        macs = deployment.integer.program.macs
        return {
            "bits": deployment.description["bits"],
            "ro_bytes": plan.ro_bytes,
            "rw_bytes": plan.rw_bytes,
            "elf": elf_sizes(deployment.firmware),
            "ram_bytes": deployment.firmware.ram_bytes,
            "arena_bytes": deployment.firmware.arena_bytes,
            "scratch_bytes": deployment.firmware.scratch_bytes,
            "refused": refused,
            "bit_exact": {
                "images": int(exact.sum()),
                "layers": count_equal_layers(deployment, chosen[0]),
            },
            "layers": len(deployment.integer.program.steps),
            "macs": macs,
            "compile_seconds": round(compile_seconds, 2),
            "instructions_per_mac": round(_instructions(deployment, chosen[0]) / macs, 3),
            "top1_mixed": top1(host, self.labels),
        }

    def streamed(self, flash: str, ram: str, exact_images: int) -> dict[str, Any]:
        """The paper's rule on the row-streamed plan: widths, bytes as linked, exactness, top-1."""
        deployment = tvm_mpq.build(self.calibrated, Target("stm32h7", flash=flash, ram=ram))
        host = deployment.run(self.images)
        chosen = self.images[:exact_images]
        emulated, _ = run_on_emulator(deployment.firmware, chosen.reshape(len(chosen), -1))
        return {
            "bits": deployment.description["bits"],
            "flash_bytes": deployment.firmware.flash_bytes,
            "ram_bytes": deployment.firmware.ram_bytes,
            "arena_bytes": deployment.firmware.arena_bytes,
            "bit_exact_images": int((host[:exact_images] == emulated).all(1).sum()),
            "top1": top1(host, self.labels),
        }

    def _link(self, plan: BitPlan, target: Target) -> tuple[tvm_mpq.Deployment, str | None]:
        """The linked plan; when it is over budget also why, linked for the whole chip instead."""
        try:
            return self._build(plan, target), None
        except DoesNotFitError as error:
            whole = self._build(plan, Target(target.name))
            smallest = f"smallest budgets: flash {whole.firmware.flash_bytes} bytes,"
            return whole, f"{error}\n{smallest} ram {whole.firmware.ram_bytes} bytes"

    def _build(self, plan: BitPlan, target: Target) -> tvm_mpq.Deployment:
        # Whole tensors, as the paper counts them; see benchmarks.streaming for rows.
        return tvm_mpq.build(self.calibrated, target, plan=plan, memory_model="two-tensor")


def _instructions(deployment: tvm_mpq.Deployment, image: np.ndarray) -> int:
    """Emulated instructions of one whole inference, receiving the image not included."""
    return sum(layer.instructions for layer in deployment.profile(image).layers)


def run_benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one network as one JSON object; percentages, bytes and seconds."""
    benchmark = Benchmark(arguments.network, arguments.data, arguments.calibration_images)
    network = benchmark.network
    flash, ram = arguments.flash or network.flash, arguments.ram or network.ram
    target = Target("stm32h7", flash=flash, ram=ram)
    mixed = benchmark.mixed(flash, ram, arguments.exact_images)
    scores = {
        "float": benchmark.float_top1(),
        "int8": benchmark.int8_top1(),
        "mixed": mixed.pop("top1_mixed"),
    }
    streamed = {}
    if arguments.streaming:
        found = benchmark.streamed(flash, ram, arguments.exact_images)
        scores["mixed, streamed"] = found.pop("top1")
        streamed = {"streamed": found}
    return {
        "model": arguments.network,
        "flash_budget": target.flash,
        "ram_budget": target.ram,
        **mixed,
        **streamed,
        "top1": scores,
        "images": len(benchmark.images),
        "calibration_seconds": round(benchmark.calibration_seconds, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="data folder (default: $TVM_MPQ_DATA)")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="0.75_224")
    parser.add_argument("--flash", help="flash budget (default: the network's)")
    parser.add_argument("--ram", help="RAM budget (default: the network's)")
    parser.add_argument("--calibration-images", type=int, default=250)
    parser.add_argument("--exact-images", type=int, default=5)
    parser.add_argument("--streaming", action="store_true", help="also with row-streamed layers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        result = run_benchmark(arguments)
    except tvm_mpq.MpqError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:22s} {value}")


if __name__ == "__main__":
    main()
