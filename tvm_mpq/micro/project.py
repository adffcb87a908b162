"""A project: the template and a generated library in one folder, and how it is built."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import jinja2

from tvm_mpq.codegen.archive import ABI_VERSION, pack_library, unpack_library
from tvm_mpq.errors import DoesNotFitError, InvalidValueError, ToolError
from tvm_mpq.files import finish_install, install, new_folder, read_text, staged, write_text
from tvm_mpq.micro.config import read_config
from tvm_mpq.micro.firmware import Firmware, check_fit, read_firmware
from tvm_mpq.micro.library import Library
from tvm_mpq.micro.stack import MARGIN, stack_need
from tvm_mpq.target import Target
from tvm_mpq.toolchain import ToolResult, require_cross_compiler, run_tool

_COPIED = ("*.ld", "*.py", "Makefile", "boards.json", "README.md")
STACK_FILE = "stack.mk"
_RENDERED = ("config.mk.j2", "network.h.j2")
# GNU ld's words for "too large": a region, or an ASSERT of the linker script.
_TOO_LARGE = re.compile(r"will not fit in region|region .* overflowed|(budget|limit) exceeded")


@dataclass(frozen=True)
class Project:
    """A generated project in ``folder``; see ``generate_project``."""

    folder: Path
    target: Target
    library: Library

    @staticmethod
    def open(folder: Path | str) -> Project:
        """The project that ``generate_project`` once wrote to ``folder``."""
        folder = Path(folder).resolve()
        if not (folder / "config.mk").is_file():
            raise InvalidValueError(
                f"{folder}: no config.mk; expected a folder written by generate_project"
            )
        finish_install(folder)
        target = read_config(folder / "config.mk")
        return Project(folder, target, Library.read(folder / "model"))

    def build(self, timeout: float = 300.0) -> Firmware:
        """Compile and link into ``folder/build``; an earlier build stays when this one fails.

        Raises
        ------
        DoesNotFitError: a budget or a memory is exceeded; the message has bytes and tensors.
        ToolError: the toolchain is missing, too slow, or rejects the sources.
        """
        require_cross_compiler()
        with staged(self.folder) as work:
            result = self._make(work / "build", timeout, "objects")
            if result.status == 0:
                self._measure_stack(work / "build")
                result = self._make(work / "build", timeout)
            if result.status != 0:
                self._explain(work / "build", result, timeout)
            install(work, self.folder)
        firmware = self._read(self.folder / "build")
        check_fit(firmware)
        return firmware

    def build_for_qemu(self, timeout: float = 300.0) -> Path:
        """Compile the same sources for qemu's mps2-an500; the ELF, in ``folder/build-qemu``."""
        require_cross_compiler()
        with staged(self.folder) as work:
            size = f"STACK_SIZE={self.target.stack}"
            result = self._make(work / "build-qemu", timeout, "PLATFORM=mps2_an500", size)
            if result.status != 0:
                raise ToolError(f"building for qemu failed:\n{_first_errors(result.stderr)}")
            install(work, self.folder)
        return self.folder / "build-qemu/firmware.elf"

    def firmware(self) -> Firmware:
        """The last successful build, measured; ToolError when there is none."""
        if not (self.folder / "build/firmware.elf").is_file():
            raise ToolError(f"{self.folder}: not built yet; build it first")
        return self._read(self.folder / "build")

    def _make(self, work: Path, timeout: float, *variables: str) -> ToolResult:
        command = [
            "make",
            f"-j{os.cpu_count() or 1}",
            f"BUILD={work.relative_to(self.folder)}",
            f"STACK={work.parent.relative_to(self.folder) / STACK_FILE}",
            *variables,
        ]
        # A make above this one must not hand down its job server or its variables.
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        return run_tool(command, timeout=timeout, cwd=self.folder, env=env | {"LC_ALL": "C"})

    def _measure_stack(self, work: Path) -> None:
        """Write stack.mk: reserve what the compiled sources need, and a margin."""
        need = stack_need(work, sorted((self.folder / "model/codegen/host/src").glob("*.S")))
        size = -(-(need + MARGIN) // 8) * 8
        if size > self.target.stack:
            raise DoesNotFitError(
                f"the stack needs {need} bytes and a margin of {MARGIN}, {self.target.stack} are"
                f" allowed: give -stack={size}"
            )
        text = f"# Measured by the call graph: {need} bytes; reserved with a margin of {MARGIN}.\n"
        write_text(work.parent / STACK_FILE, f"{text}STACK_NEED = {need}\nSTACK_SIZE = {size}\n")

    def _read(self, build: Path) -> Firmware:
        elf = build / "firmware.elf"
        measured = build.parent / STACK_FILE
        text = read_text(measured) if measured.is_file() else ""
        found = re.search(r"(?m)^STACK_NEED = (\d{1,9})$", text)
        need = int(found[1]) if found else 0
        return read_firmware(elf, self.target, self.library.module, self.library.output, need)

    def _explain(self, work: Path, result: ToolResult, timeout: float) -> None:
        if _TOO_LARGE.search(result.stderr):
            if self._make(work, timeout, "LIFT_LIMITS=1").status == 0:
                check_fit(self._read(work))
            raise ToolError(f"linking failed:\n{_first_errors(result.stderr)}")
        raise ToolError(f"building {self.folder} failed:\n{_first_errors(result.stderr)}")


def template_folder() -> Path:
    """The template project, ``microtvm_project/``."""
    spec = find_spec("microtvm_project")
    places = list(spec.submodule_search_locations or []) if spec else []
    places.append(str(Path(__file__).resolve().parents[2] / "microtvm_project"))
    for place in places:
        if (Path(place) / "stm32h743.ld").is_file():
            return Path(place)
    raise ToolError(f"template project not found in {', '.join(places)}; reinstall tvm_mpq")


def generate_project(
    library: Path | str, project_dir: Path | str, target: Target, clock_mhz: int | None = None
) -> Project:
    """Write a project for ``library`` to the new folder ``project_dir``.

    Parameters
    ----------
    library: a Model Library Format folder, or its tar archive.
    project_dir: must not exist; appears whole or not at all.
    target: an stm32h7; its budgets end in the linker's arguments.
    clock_mhz: 400 or 480 (revision V silicon); the target's clock when not given.

    The project holds the library twice, as microTVM's do: ``model/`` and ``model.tar``.
    """
    project_dir = Path(project_dir).resolve()
    clock = clock_mhz or target.clock_mhz
    _check(Path(library), project_dir, target, clock)
    with new_folder(project_dir) as work:
        _copy_library(Path(library), work)
        info = Library.read(work / "model")
        _copy_template(work)
        _render(work, info, target, clock)
    return Project.open(project_dir)


def _check(library: Path, project_dir: Path, target: Target, clock: int) -> None:
    if target.name != "stm32h7":
        raise InvalidValueError(f"target {target.name}: no firmware for it; use stm32h7")
    if clock not in (400, 480):
        raise InvalidValueError(f"clock {clock} MHz: allowed are 400, or 480 on revision V silicon")
    if not library.exists():
        raise InvalidValueError(f"library {library}: no such file or folder")
    if project_dir.exists():
        raise InvalidValueError(f"{project_dir} exists; give a new folder, or remove it first")
    if not project_dir.parent.is_dir():
        raise InvalidValueError(f"{project_dir.parent}: no such folder; make it first")


def _copy_library(library: Path, work: Path) -> None:
    if library.is_dir():
        shutil.copytree(library, work / "model")
        pack_library(work / "model", work / "model.tar")
    else:
        shutil.copyfile(library, work / "model.tar")
        unpack_library(library, work / "model")


def _copy_template(work: Path) -> None:
    template = template_folder()
    shutil.copytree(template / "src", work / "src")
    for pattern in _COPIED:
        for path in template.glob(pattern):
            if path.name != "__init__.py":
                shutil.copyfile(path, work / path.name)


def _render(work: Path, library: Library, target: Target, clock_mhz: int) -> None:
    loader = jinja2.FileSystemLoader(template_folder())
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    values = {
        "flash": target.flash,
        "ram": target.ram,
        "scratch": target.scratch,
        "stack": target.stack,
        "clock_mhz": clock_mhz,
        "module": library.module,
        "macro": f"TVMGEN_{library.module.upper()}",
        "model_name": library.model_name,
        "abi_version": ABI_VERSION,
        "input_name": library.input.name,
        "input_macro": library.input.name.upper(),
        "input_size": library.input.size,
        "input_in_arena": library.input_in_arena,
        "input_by_rows": library.input_by_rows,
        "output_name": library.output.name,
        "output_macro": library.output.name.upper(),
        "output_size": library.output.size,
    }
    for name in _RENDERED:
        text = environment.get_template(name).render(values)
        (work / name.removesuffix(".j2")).write_text(text)


def _first_errors(text: str, count: int = 5) -> str:
    """The first lines that say what is wrong, or the last lines when none does."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|undefined reference|No such file", line)]
    return "\n".join(f"  {line}" for line in (errors[:count] or lines[-count:]))
