"""Cycles per layer of a network on the emulated board.

The program stops at the entry of every kernel; what ran since the stop before belongs to the layer
before. The first block of a kernel (a few cycles) counts for its predecessor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_mpq.emulator import MODEL_ERROR, Board
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.micro.firmware import Firmware
from tvm_mpq.micro.run import run_session
from tvm_mpq.micro.transports import EmulatorTransport

SOURCE = "emulator"
# Functions of a layer with less than this share of the most expensive one are not shown.
_SHOWN_SHARE = 0.02
_RUN_STARTS, _RUN_ENDS = "board_cycles_start", "board_cycles_stop"


Layers = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class AnnotatedFunction:
    """One function of a layer: ``cycles`` it took there, and its instructions."""

    name: str
    cycles: int
    instructions: tuple[Any, ...]


@dataclass(frozen=True)
class LayerCost:
    """One layer. ``stalls``: modelled cycles lost, by cause; ``bytes`` of weights and output."""

    name: str
    kind: str
    macs: int
    cycles: int
    instructions: int
    stalls: dict[str, int]
    bytes: int

    @property
    def cycles_per_mac(self) -> float | None:
        """None for a layer without weights."""
        return self.cycles / self.macs if self.macs else None


@dataclass(frozen=True)
class NetworkProfile:
    """Modelled cycles of one inference; ``layers`` sum to ``cycles`` but for the entry's own."""

    source: str
    clock_mhz: int
    model_error: str
    layers: tuple[LayerCost, ...]
    cycles: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def milliseconds(self) -> float:
        """Time of one inference at ``clock_mhz``."""
        return self.cycles / self.clock_mhz / 1000

    def to_json(self) -> dict[str, Any]:
        """Plain values; cycles, counts and bytes."""
        return asdict(self) | {"macs": self.macs, "milliseconds": self.milliseconds}


def profile_on_emulator(
    firmware: Firmware,
    layers: Layers,
    image: np.ndarray,
    *,
    clock_mhz: int | None = None,
    on_layer: Callable[[int, Any], None] | None = None,
    timeout: float = 600.0,
) -> NetworkProfile:
    """Profile one inference.

    Parameters
    ----------
    layers: the ``layers`` of the library's description, in program order, with their ``symbol``.
    image: uint8, the bytes of one input.
    clock_mhz: 400 or 480, which have different flash wait states; the target's when not given.
    on_layer: called as (index, board) when layer ``index`` has finished and its output is in place.
    timeout: wall-clock seconds of one inference.
    """
    run = _run_by_layers(firmware, layers, image, clock_mhz, on_layer, timeout)
    costs = [_cost(layer, part) for layer, part in zip(layers, run.layers, strict=True)]
    clock = clock_mhz or firmware.target.clock_mhz
    cycles = run.entry.cycles + sum(layer.cycles for layer in costs)
    return NetworkProfile(SOURCE, clock, MODEL_ERROR, tuple(costs), cycles)


def annotate_on_emulator(
    firmware: Firmware, layers: Layers, image: np.ndarray, name: str
) -> list[AnnotatedFunction]:
    """The functions in which layer ``name`` spends its cycles, instruction by instruction.

    Executions and cycles of an instruction cover the whole inference: layers share functions.
    """
    names = [layer["name"] for layer in layers]
    if name not in names:
        raise InvalidValueError(f"layer {name!r}: not in this network; it has {', '.join(names)}")
    run = _run_by_layers(firmware, layers, image, None, None, 600.0)
    used = run.layers[names.index(name)].profile.functions
    worth_showing = [f for f in used if f.usage.cycles > _SHOWN_SHARE * used[0].usage.cycles]
    return [
        AnnotatedFunction(f.name, f.usage.cycles, tuple(run.board.annotate(f.name)))
        for f in worth_showing
    ]


@dataclass(frozen=True)
class _LayerRun:
    """What ran before the first kernel, and in each layer (emulator RunResults)."""

    board: Any
    entry: Any
    layers: list[Any]


def _run_by_layers(
    firmware: Firmware,
    layers: Layers,
    image: np.ndarray,
    clock_mhz: int | None,
    on_layer: Callable[[int, Any], None] | None,
    timeout: float,
) -> _LayerRun:
    segments: list[Any] = []

    def on_break(board: Any, result: Any) -> None:
        segments.append(result)
        finished = len(segments) - 3  # start of the run and entry of the first kernel come first
        if on_layer is not None and 0 <= finished < len(layers):
            on_layer(finished, board)

    transport = EmulatorTransport(
        Path(firmware.elf),
        run_timeout=timeout,
        make_board=lambda elf: Board(elf, clock_mhz=clock_mhz),
        on_break=on_break,
        cycles=True,
    )
    transport.board.break_at([_RUN_STARTS, _RUN_ENDS, *{layer["symbol"] for layer in layers}])
    inputs = image.reshape(1, -1)
    run_session(transport, firmware.output, inputs, run_timeout=timeout, elf=firmware.elf)
    if len(segments) != len(layers) + 2:
        raise InvalidValueError(
            f"{firmware.elf}: {len(segments) - 2} kernels ran, its description has {len(layers)};"
            " compile it again"
        )
    return _LayerRun(transport.board, segments[1], segments[2:])


def _cost(layer: dict[str, Any], segment: Any) -> LayerCost:
    size = layer["weight_bytes"] + layer["side_bytes"] + layer["output_bytes"]
    return LayerCost(
        layer["name"],
        layer["kernel"],
        layer["macs"],
        segment.cycles,
        segment.instructions,
        dict(segment.stalls),
        size,
    )
