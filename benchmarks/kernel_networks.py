"""Whole networks for the table of ``benchmarks.kernels``: cycles per MAC beside bars and peers.

Weights are random: kernels take the same time for every weight. The program is the one that is
flashed, and runs on the board model; its logits are compared with the numpy reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks import datasets
from benchmarks.mobilenet_v1 import MobileNetV1
from benchmarks.random_weights import settle
from relay_passes.evaluate import evaluate_integer
from tvm_mpq.builder import build
from tvm_mpq.deployment import Deployment
from tvm_mpq.frontends import from_torch
from tvm_mpq.micro import run_on_emulator
from tvm_mpq.pipeline import CalibratedModel, calibrate
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.bit_search import paper_bit_plan, uniform_bit_plan

MODES = {"streamed": "streamed", "layer by layer": "two-tensor"}
# The paper's "2 MB / 512 kB".
_FLASH, _RAM = 2_048_000, 512_000
# All of the chip, so that every mode links the same bits.
_TARGET = "stm32h7"
_RUN_SECONDS = 1800.0


@dataclass(frozen=True)
class Network:
    """A MobileNetV1; ``bits`` 0 stands for the paper's plan.

    bar: cycles per MAC. peer: of another system, in ``peer_unit``.
    """

    name: str
    width: float
    resolution: int
    bits: int
    bar: float
    peer: float
    peer_unit: str


# Peers: CMix-NN PC+ICN, 840,772,760 instructions for 325,400,448 MACs (anchors/
# cmixnn_networks.csv, 0.75/224), whatever the bits; and 3.13 cycles per MAC, read on a
# STM32H743 (anchors/h743_mobilenet_v1_0.25_160_uint8.csv).
NETWORKS = (
    Network("0.75/224 paper bits", 0.75, 224, 0, 0.9, 2.58, "instructions"),
    Network("0.75/224 4 bits", 0.75, 224, 4, 0.6, 2.58, "instructions"),
    Network("0.25/160 8 bits", 0.25, 160, 8, 1.3, 3.13, "cycles"),
)


@cache
def calibrated(width: float, resolution: int) -> CalibratedModel:
    """A network with random weights and the ranges of two random images."""
    torch.manual_seed(0)
    model = settle(MobileNetV1(width, resolution, 1000), (3, resolution, resolution))
    images = np.random.default_rng(0).integers(0, 256, (2, resolution, resolution, 3))
    example = torch.zeros(1, 3, resolution, resolution)
    spec = datasets.IMAGENET_INPUT
    return calibrate(from_torch(model, example), images.astype(np.uint8), spec, "max")


def plan_of(network: Network) -> BitPlan:
    """The widths of ``network``."""
    layers = calibrated(network.width, network.resolution).layers
    if network.bits:
        return uniform_bit_plan(layers, network.bits, network.bits)
    return paper_bit_plan(layers, _FLASH, _RAM)


def built(network: Network, mode: str) -> Deployment:
    """``network`` linked; ``mode`` is a key of MODES."""
    model = calibrated(network.width, network.resolution)
    return build(model, _TARGET, plan=plan_of(network), memory_model=MODES[mode])


def kernel_bytes(deployment: Deployment) -> int:
    """Flash bytes of all kernels and micro-kernels of a network."""
    symbols = deployment.firmware.symbols
    return sum(s.size for s in symbols if s.name.startswith("mpq_"))


def rows(only: str = "") -> Iterator[tuple[Network, dict[str, Any]]]:
    """Measure every network in both modes whose line has all words of ``only``."""
    for network in NETWORKS:
        for mode in MODES:
            if all(word in f"{label(network, mode)} network" for word in only.split()):
                yield network, measure(network, mode)


def label(network: Network, mode: str) -> str:
    """The name of a row."""
    return f"MobileNetV1 {network.name}, {mode}"


def measure(network: Network, mode: str) -> dict[str, Any]:
    """One JSON object, as a layer has it; x, w, y are 0 where widths are mixed."""
    deployment = built(network, mode)
    assert deployment.integer is not None
    shape = deployment.description.input_shape
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    logits, cycles = run_on_emulator(
        deployment.firmware, image.reshape(1, -1), timeout=_RUN_SECONDS, cycles=True
    )
    expected = np.asarray(evaluate_integer(deployment.integer.module, image)).reshape(-1)
    macs = deployment.integer.program.macs
    return {
        "kernel": "network",
        "layer": label(network, mode),
        "x": network.bits,
        "w": network.bits,
        "y": network.bits,
        "macs": macs,
        "cycles": int(cycles[0]),
        "cycles_per_mac": round(int(cycles[0]) / macs, 4),
        "scratch_bytes": deployment.firmware.scratch_bytes,
        "code_bytes": kernel_bytes(deployment),
        "bit_exact": bool((logits[0] == expected).all()),
    }


def format_row(network: Network, row: dict[str, Any]) -> str:
    """One line of the printed table."""
    verdict = "ok" if row["cycles_per_mac"] <= network.bar else "MISSED"
    exact = "" if row["bit_exact"] else "  NOT EXACT"
    return (
        f"{row['layer']:46s} {row['cycles']:>12d} {row['cycles_per_mac']:>7.3f}"
        f" {network.bar:>5.2f} {verdict:6s} {network.peer:>5.2f} {network.peer_unit}"
        f" {row['scratch_bytes']:>6d} {row['code_bytes']:>6d}{exact}"
    )
