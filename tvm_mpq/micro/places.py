"""Where a candidate kernel is measured: the board model here, a Nucleo, or boards at a tracker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tvm_mpq.emulator import MODEL_VERSION
from tvm_mpq.errors import BoardFaultError, InvalidValueError
from tvm_mpq.kernels.tuned import ON_BOARD
from tvm_mpq.micro import single_layer
from tvm_mpq.micro.single_layer import Layer
from tvm_mpq.toolchain import require_tool

CLOCK_HZ = 400e6
PLACES = ("emulator", "board")


class Place(Protocol):
    """Builds and runs single layers.

    Attributes
    ----------
    name: of the database's folder. model: whose cycles these are, as TunedRecord has it.
    batch: candidates of a layer that are measured at a time.
    """

    name: str
    model: str
    batch: int

    def __enter__(self) -> Place:
        """Get ready to run. Raises ToolError when a tool or a board is missing."""

    def __exit__(self, *_: object) -> None:
        """Let go of boards."""

    def build(self, layer: Layer, folder: Path) -> None:
        """Put the firmware of ``layer`` into ``folder``."""

    def start(self, layer: Layer, folder: Path) -> Callable[[], int]:
        """Start to run what ``build`` made; the function waits for the second run's cycles.

        It raises MpqError when the run failed or a bit of the output is wrong.
        """


class EmulatorPlace:
    """The board model, in this process."""

    name = "emulator"
    model = MODEL_VERSION
    batch = 1

    def __enter__(self) -> EmulatorPlace:
        require_tool("arm-none-eabi-gcc")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def build(self, layer: Layer, folder: Path) -> None:
        """See Place."""
        single_layer.build(layer, folder)

    def job(self, layer: Layer, folder: Path) -> tuple[bytes, dict[str, Any]]:
        """The firmware, and what a server must know to run it; see ``tracker``."""
        return (folder / single_layer.ELF).read_bytes(), {"on": self.name}

    def start(self, layer: Layer, folder: Path) -> Callable[[], int]:
        """See Place."""
        return lambda: self._run(layer, folder)

    def _run(self, layer: Layer, folder: Path) -> int:
        found = single_layer.run(layer, folder / single_layer.ELF)
        return checked_cycles(layer, found.cycles, found.bit_exact)


class BoardPlace(EmulatorPlace):
    """A Nucleo at this machine: the layer as a network of its own, run over the serial line."""

    name = "board"
    model = ON_BOARD

    def __enter__(self) -> BoardPlace:
        from tvm_mpq.micro.board import find_port

        super().__enter__()
        find_port()
        return self

    def build(self, layer: Layer, folder: Path) -> None:
        """See Place."""
        single_layer.build_project(layer, folder)

    def job(self, layer: Layer, folder: Path) -> tuple[bytes, dict[str, Any]]:
        """See EmulatorPlace."""
        elf = single_layer.project_firmware(folder).elf
        return elf.read_bytes(), {"on": self.name, "output_bytes": layer.spec.output.nbytes}

    def _run(self, layer: Layer, folder: Path) -> int:
        from tvm_mpq.micro.board import run_on_board

        firmware = single_layer.project_firmware(folder)
        outputs, cycles = run_on_board(firmware, single_layer.project_inputs(layer))
        exact = single_layer.is_exact(layer, outputs[-1].tobytes())
        return checked_cycles(layer, int(cycles[-1]), exact)


def checked_cycles(layer: Layer, cycles: int, exact: bool) -> int:
    """``cycles``; BoardFaultError when the output was wrong: such a kernel must never be chosen."""
    if not exact:
        raise BoardFaultError(f"kernel {layer.spec.symbol} gives wrong bits")
    return cycles


def as_place(on: str, tracker: str | None = None) -> Place:
    """The place called ``on``: "emulator" or "board"; with ``tracker`` ("host:port") all of those
    that registered at a TVM RPC tracker.
    """
    if on not in PLACES:
        raise InvalidValueError(f"tune on {on!r}: allowed are {', '.join(map(repr, PLACES))}")
    here = EmulatorPlace() if on == "emulator" else BoardPlace()
    if tracker is None:
        return here
    from tvm_mpq.micro.tracker import TrackerPlace

    return TrackerPlace(here, tracker)
