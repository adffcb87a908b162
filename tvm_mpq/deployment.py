"""A built network: runs on the host or the emulator, reports, exports, saves."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tvm_mpq.description import Description, read_description
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import convert, finish_install, new_path, read_json, temporary_folder
from tvm_mpq.specs import InputSpec
from tvm_mpq.target import Target

if TYPE_CHECKING:
    from tvm_mpq.codegen.host import HostLibrary
    from tvm_mpq.memory.arena import ArenaPlan
    from tvm_mpq.micro import Firmware
    from tvm_mpq.micro.profiling import AnnotatedFunction, NetworkProfile
    from tvm_mpq.pipeline import IntegerModel
    from tvm_mpq.report.tables import Report
    from tvm_mpq.tuner import NetworkTuning

PROJECT = "project"
MODEL = "model"
DEPLOYMENT_FILE = "deployment.json"
ARENA_PICTURE = "arena.svg"


@dataclass(frozen=True)
class TargetFields:
    """A target as deployment.json holds it; budgets in bytes, none for the host."""

    name: str
    flash: int | None = None
    ram: int | None = None
    scratch: int = 32 * 1024
    stack: int = 8 * 1024

    @staticmethod
    def of(target: Target) -> TargetFields:
        """Inverse of ``read``."""
        if target.is_host:
            return TargetFields(target.name)
        return TargetFields(target.name, target.flash, target.ram, target.scratch, target.stack)

    def read(self) -> Target:
        """The target. Raises InvalidValueError."""
        return Target(
            self.name, flash=self.flash, ram=self.ram, scratch=self.scratch, stack=self.stack
        )


@dataclass(frozen=True)
class _Saved:
    target: TargetFields


class Deployment:
    """A built network: a folder with the C library and, but for the host, a firmware project.

    Attributes
    ----------
    folder: ``model/`` (Model Library Format) or ``project/`` (which holds ``model/`` as well), and
        ``arena.svg``, the arena's bytes over time.
    integer, arena: the integer module and program, and where its tensors lie; None when loaded
        from a folder.
    """

    def __init__(
        self,
        folder: Path,
        target: Target,
        integer: IntegerModel | None = None,
        arena: ArenaPlan | None = None,
        owner: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.folder = folder
        self.target = target
        self.integer = integer
        self.arena = arena
        self._owner = owner  # a temporary folder lives as long as its deployment

    @staticmethod
    def load(folder: Path | str) -> Deployment:
        """A deployment saved by ``save`` or by ``tvm-mpq compile -o``."""
        folder = Path(folder)
        path = folder / DEPLOYMENT_FILE
        finish_install(folder)
        if not path.is_file():
            raise InvalidValueError(
                f"{folder}: no {DEPLOYMENT_FILE}; expected a folder made by tvm-mpq compile -o"
            )
        try:
            saved = convert(read_json(path), _Saved, str(path))
            return Deployment(folder, saved.target.read())
        except InvalidValueError as error:
            raise InvalidValueError(f"{path}: damaged ({error}); compile again") from None

    def adopt(self, built: Deployment) -> None:
        """Stand for ``built`` from now on, whose files lie in this one's folder already."""
        self.integer, self.arena = built.integer, built.arena
        for name in ("_read", "firmware", "host_library"):
            self.__dict__.pop(name, None)

    @property
    def model_folder(self) -> Path:
        """The Model Library Format folder."""
        inside = self.folder / PROJECT / MODEL
        return inside if inside.is_dir() else self.folder / MODEL

    @property
    def description(self) -> Description:
        """What is known of the network: layers, bits, input, logits scale, notes."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[str, Description]:
        return read_description(self.model_folder)

    @property
    def input_spec(self) -> InputSpec:
        """How image bytes become real numbers."""
        return self.description.input_spec

    @cached_property
    def firmware(self) -> Firmware:
        """The linked program and its sizes. Raises InvalidValueError for the host target."""
        from tvm_mpq.micro import Project

        if self.target.is_host:
            raise InvalidValueError("target host has no firmware; build for stm32h7")
        return Project.open(self.folder / PROJECT).firmware()

    @cached_property
    def host_library(self) -> HostLibrary:
        """The C sources built for this machine."""
        from tvm_mpq.codegen.host import HostLibrary

        name, description = self._read
        code = self.model_folder / "codegen" / "host"
        self._scratch = temporary_folder("host")
        return HostLibrary(
            name,
            code / "include",
            code / "src",
            Path(self._scratch.name),
            math.prod(description.input_shape),
            description.classes,
        )

    def run(self, images: npt.NDArray[np.uint8], on: str = "host") -> npt.NDArray[np.int32]:
        """int32 logits [N, classes] of uint8 images [N, H, W, C] (or [classes] of [H, W, C]).

        ``on``: "host" (the C sources on this machine), "emulator" (the firmware on the modelled
        STM32H743) or "board" (the same firmware, flashed to a Nucleo). All give the same bits. Real
        logits are ``logits * logits_scale``.
        """
        images = np.asarray(images)
        shape = self.description.input_shape
        if images.dtype != np.uint8 or images.shape[-3:] != shape or images.ndim not in (3, 4):
            raise InvalidValueError(
                f"images: {images.dtype} {list(images.shape)}; expected uint8 [N, {shape[0]},"
                f" {shape[1]}, {shape[2]}]"
            )
        batch = images.reshape(-1, *shape)
        if on == "host":
            logits = np.stack([self.host_library.run(image) for image in batch])
        elif on == "emulator":
            from tvm_mpq.micro import run_on_emulator

            logits, _ = run_on_emulator(self.firmware, batch.reshape(len(batch), -1))
        elif on == "board":
            from tvm_mpq.micro import run_on_board

            logits, _ = run_on_board(self.firmware, batch.reshape(len(batch), -1))
        else:
            raise InvalidValueError(f"run on {on!r}: allowed are 'host', 'emulator' and 'board'")
        return logits if images.ndim == 4 else logits[0]

    def profile(
        self,
        image: npt.NDArray[np.uint8] | None = None,
        on: str = "emulator",
        clock_mhz: int | None = None,
    ) -> NetworkProfile:
        """Modelled cycles, instructions and stalls per layer of one inference.

        Parameters
        ----------
        image: uint8 [H, W, C]; kernels take the same time for every image, so it may be left out.
        clock_mhz: 400 or 480. on: only "emulator" can count by layer.
        """
        from tvm_mpq.micro.profiling import profile_on_emulator

        if on != "emulator":
            raise InvalidValueError(f"profile on {on!r}: allowed is 'emulator'")
        layers = self.description.layers
        chosen = self._zeros() if image is None else np.asarray(image)
        return profile_on_emulator(self.firmware, layers, chosen, clock_mhz=clock_mhz)

    def annotate(self, layer: str) -> list[AnnotatedFunction]:
        """Where the cycles of one layer go: its functions, instruction by instruction."""
        from tvm_mpq.micro.profiling import annotate_on_emulator

        layers = self.description.layers
        return annotate_on_emulator(self.firmware, layers, self._zeros(), layer)

    def _zeros(self) -> npt.NDArray[np.uint8]:
        return np.zeros(self.description.input_shape, np.uint8)

    def tune(
        self, trials: int = 8, on: str = "emulator", tracker: str | None = None
    ) -> NetworkTuning:
        """Measure candidate kernels for every layer, and build this deployment again with the best.

        Parameters
        ----------
        trials: candidates of a layer to measure at most; where it has no more, all of them.
        on: "emulator" (modelled cycles) or "board" (a Nucleo). tracker: "host:port" of a TVM RPC
            tracker, to measure on all boards that registered there.

        The records stay in ``folder``: tuning that was interrupted goes on where it was. The new
        build takes the old one's place only if its modelled cycles are fewer.
        """
        from tvm_mpq.tuner import tune_deployment

        return tune_deployment(self, trials, on, tracker)

    def report(self) -> Report:
        """Bits, bytes and MACs per layer, totals, and the sections of the ELF; prints as tables."""
        from tvm_mpq.report.tables import Report

        return Report(self.description, None if self.target.is_host else self.firmware)

    def export_library(self, path: Path | str) -> Path:
        """Write the Model Library Format as ``.tar`` or a folder; appears whole or not at all."""
        from tvm_mpq.codegen.archive import pack_library

        path = Path(path).resolve()
        with new_path(path) as made:
            if path.suffix == ".tar":
                pack_library(self.model_folder, made)
            else:
                shutil.copytree(self.model_folder, made)
        return path

    def save(self, folder: Path | str) -> Deployment:
        """Copy everything to a new folder; it appears whole or not at all."""
        folder = Path(folder).resolve()
        with new_path(folder) as made:
            shutil.copytree(self.folder, made)
            made.chmod(0o755)
        return Deployment(folder, self.target, self.integer, self.arena)
