"""Cycles of whole MobileNetV1 networks on the board model, layer by layer and row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm_mpq.builder import build
from tvm_mpq.pipeline import CalibratedModel
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.target import Target


@dataclass(frozen=True)
class NetworkCycles:
    """One program on the board model: bytes as linked, cycles of one inference, MACs."""

    arena_bytes: int
    ram_bytes: int
    streamed_layers: int
    cycles: int
    macs: int

    @property
    def cycles_per_mac(self) -> float:
        """The whole network counts: pools, packing and requantization included."""
        return self.cycles / self.macs

    @property
    def beside_arena(self) -> int:
        """Bytes of RAM that are not the arena: data, logits, a line of the image."""
        return self.ram_bytes - self.arena_bytes


def network_cycles(
    network: CalibratedModel, plan: BitPlan, target: Target | str, **options: Any
) -> NetworkCycles:
    """Build ``network`` with the widths of ``plan`` and run it once on the board model.

    ``options`` are those of ``build``: memory_model, minimize, input_buffer.
    """
    deployment = build(network, target, plan=plan, **options)
    profile = deployment.profile()
    orders = [layer.order for layer in deployment.description.layers]
    firmware = deployment.firmware
    return NetworkCycles(
        firmware.arena_bytes,
        firmware.ram_bytes,
        orders.count("row by row"),
        profile.cycles,
        profile.macs,
    )
