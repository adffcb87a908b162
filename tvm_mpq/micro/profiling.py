"""Cycles per layer of a network on the emulated board.

Every kernel call is watched: what runs between two calls belongs to the layer of the first one. A
layer may run in many bands, and layers may share a kernel, also one that the compiler or linker has
folded with another: the constants in a call tell which layer it is. The first block of a kernel (a
few cycles) counts for its predecessor.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_mpq.description import LayerDescription
from tvm_mpq.emulator import Board
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.micro.firmware import Firmware
from tvm_mpq.micro.run import run_session
from tvm_mpq.micro.transports import EmulatorTransport

SOURCE = "emulator"
# Functions of a layer with less than this share of the most expensive one are not shown.
_SHOWN_SHARE = 0.02
_RUN_STARTS, _RUN_ENDS = "board_cycles_start", "board_cycles_stop"
_SP, _LR = 13, 14

Layers = Sequence[LayerDescription]


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
    layers: the ``layers`` of the library's description, in program order, with their ``symbol`` and
        ``constant``.
    image: uint8, the bytes of one input.
    clock_mhz: 400 or 480, which have different flash wait states; the target's when not given.
    on_layer: called as (index, board) when a call for layer ``index`` has finished.
    timeout: wall-clock seconds of one inference.
    """
    watcher = _Watcher(firmware, layers, clock_mhz, timeout, on_layer)
    watcher.run(image)
    costs = [watcher.cost(index) for index in range(len(layers))]
    clock = clock_mhz or firmware.target.clock_mhz
    cycles = watcher.entry_cycles + sum(layer.cycles for layer in costs)
    return NetworkProfile(SOURCE, clock, watcher.error, tuple(costs), cycles)


def annotate_on_emulator(
    firmware: Firmware, layers: Layers, image: np.ndarray, name: str
) -> list[AnnotatedFunction]:
    """The kernel of layer ``name`` and the functions it calls, instruction by instruction.

    Executions and cycles cover the whole inference: layers share functions.
    """
    names = [layer.name for layer in layers]
    if name not in names:
        raise InvalidValueError(f"layer {name!r}: not in this network; it has {', '.join(names)}")
    watcher = _Watcher(firmware, layers, None, 600.0, None)
    watcher.run(image)
    return watcher.annotated(names.index(name))


class _Watcher:
    """One inference on an emulated board, its costs split by layer."""

    def __init__(
        self,
        firmware: Firmware,
        layers: Layers,
        clock_mhz: int | None,
        timeout: float,
        on_layer: Callable[[int, Any], None] | None,
    ) -> None:
        self._firmware, self._layers, self._timeout = firmware, layers, timeout
        self._on_layer = on_layer
        self._transport = EmulatorTransport(
            Path(firmware.elf),
            run_timeout=timeout,
            make_board=lambda elf: Board(elf, clock_mhz=clock_mhz),
            cycles=True,
        )
        self._board = self._transport.board
        self._by_constant: dict[int, list[int]] = {}
        for index, layer in enumerate(layers):
            constant = self._board.symbols.get(layer.constant, 0)
            self._by_constant.setdefault(constant, []).append(index)
        # A folded kernel may have lost its own symbol.
        self._inputs = {
            layer.symbol: len(layer.inputs)
            for layer in layers
            if layer.symbol in self._board.symbols
        }
        self._kernel_of: dict[int, str] = {}
        self._call: tuple[int, ...] = ()
        self._sums = [dict[str, int]() for _ in layers]
        self._running: int | None = None
        self._before: Any = None
        self.entry_cycles = 0
        self._board.watch([_RUN_STARTS, _RUN_ENDS, *self._inputs], self._entered)

    def run(self, image: np.ndarray) -> None:
        """Send the image, run, check that every layer ran."""
        firmware = self._firmware
        run_session(
            self._transport,
            firmware.output,
            image.reshape(1, -1),
            run_timeout=self._timeout,
            elf=firmware.elf,
        )
        idle = [layer.name for layer, s in zip(self._layers, self._sums, strict=True) if not s]
        if idle:
            raise InvalidValueError(
                f"{firmware.elf}: layer {idle[0]} never ran; its description belongs to another"
                " program: compile it again"
            )

    @property
    def error(self) -> str:
        """How far the cycles may be from silicon."""
        return self._board.error

    def cost(self, index: int) -> LayerCost:
        """What layer ``index`` took."""
        layer, sums = self._layers[index], dict(self._sums[index])
        size = layer.weight_bytes + layer.side_bytes + layer.output_bytes
        cycles, instructions = sums.pop("cycles"), sums.pop("instructions")
        kind, macs = layer.kernel, layer.macs
        return LayerCost(layer.name, kind, macs, cycles, instructions, sums, size)

    def annotated(self, index: int) -> list[AnnotatedFunction]:
        """The kernel of layer ``index`` and what it calls, most expensive first."""
        kernel = self._kernel_of[index]
        lines = self._board.annotate(kernel)
        names = {address: name for name, address in self._board.symbols.items()}
        called = {names.get(_branch_target(line.text), "") for line in lines} - {"", kernel}
        found = [(kernel, lines), *((name, self._board.annotate(name)) for name in sorted(called))]
        functions = [
            AnnotatedFunction(name, round(sum(line.cycles for line in lines)), tuple(lines))
            for name, lines in found
        ]
        functions.sort(key=lambda function: -function.cycles)
        return [f for f in functions if f.cycles > _SHOWN_SHARE * functions[0].cycles]

    def _entered(self, name: str) -> None:
        if name in self._inputs and self._jumped_on(name):
            return
        usage = self._board.usage
        if self._before is not None:
            self._add(usage)
        if self._running is not None and self._on_layer is not None:
            self._on_layer(self._running, self._board)
        self._running = self._layer_of(name) if name in self._inputs else None
        if self._running is not None:
            self._kernel_of.setdefault(self._running, name)
        self._before = None if name == _RUN_ENDS else usage
        if name not in self._inputs:
            self._call = ()

    def _add(self, usage: Any) -> None:
        cycles = usage.cycles - self._before.cycles
        if self._running is None:
            self.entry_cycles += cycles
            return
        sums = self._sums[self._running]
        added = {cause: usage.stalls[cause] - self._before.stalls[cause] for cause in usage.stalls}
        added["cycles"] = cycles
        added["instructions"] = usage.instructions - self._before.instructions
        for key, value in added.items():
            sums[key] = sums.get(key, 0) + value

    def _jumped_on(self, symbol: str) -> bool:
        """Whether this is still the call before: a folded kernel may only jump to the other."""
        registers = self._board.read_registers()
        words = 2 * self._inputs[symbol] + 3
        stack = struct.unpack(f"<{words}I", self._board.read_memory(registers[_SP], 4 * words))
        before = self._call
        self._call = (*registers[:4], registers[_SP], registers[_LR], *stack)
        return self._call == before

    def _layer_of(self, symbol: str) -> int:
        """The layer of the call that is being entered: its last constant tells."""
        # In the call after r0-r3, sp, lr and the operands: y0, rows, w, icn, scratch.
        constant = self._call[-2]
        found = self._by_constant.get(constant, [])
        named = [index for index in found if self._layers[index]["symbol"] == symbol]
        if not found:
            raise InvalidValueError(
                f"{self._firmware.elf}: {symbol} is called with constant 0x{constant:08x}, which no"
                " layer has; its description belongs to another program: compile it again"
            )
        return (named or found)[0]


def _branch_target(text: str) -> int:
    """The address a BL or B jumps to; -1 for any other instruction."""
    is_jump = text.startswith(("bl #", "b #", "b.w #"))
    return int(text.split("#")[1], 16) if is_jump else -1
