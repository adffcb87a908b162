"""Several libraries in one program: written, compiled for the host or the emulator, run."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np

from tests.codegen.networks import Network
from tvm_mpq.codegen.library import generate_library
from tvm_mpq.codegen.program import Program
from tvm_mpq.codegen.row_plan import plan_layer_by_layer, plan_streamed

FIRMWARE = Path(__file__).parents[1] / "emulator" / "firmware"
STRICT = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
ARM = ["arm-none-eabi-gcc", "-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-d16", "-mfloat-abi=hard"]
ARM_LINK = ["-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs"]


class FixedWidths(Network):
    """Widths of a fixed order: equal architectures whatever the seed."""

    def __init__(self, seed: int, widths: tuple[int, ...]) -> None:
        super().__init__(seed, 10, 12)
        self._widths = cycle(widths)

    def bits(self) -> int:
        return next(self._widths)


def network(seed: int, widths: tuple[int, ...] = (8, 8, 4, 4, 8, 2)) -> Network:
    """Convolutions of all three kinds, a pool and a classifier."""
    made = FixedWidths(seed, widths)
    x = made.conv("x", 8, 3, 2)
    x = made.conv(x, 8, 3, 1, depthwise=True)
    x = made.conv(x, 12, 1, 1, (0, 0, 0, 0))
    made.logits(made.pool(x))
    return made


def one_layer(input_name: str = "x", name: str = "net") -> Program:
    """The smallest program, with an input of any name."""
    made = Network(1, 3, 2)
    made.logits("x")
    program = made.program(name)
    (step,) = program.steps
    return replace(
        program,
        input=input_name,
        steps=(replace(step, inputs=(input_name,)),),
        tensors={input_name: program.tensors["x"], step.output: step.spec.output},
    )


def write(made: Network, name: str, folder: Path, by_rows: bool = False) -> Path:
    """The library ``name`` in ``folder / name``: include/ and src/."""
    program = made.program(name)
    plan = plan_streamed(program, "rows") if by_rows else plan_layer_by_layer(program, "caller")
    generate_library(program, plan).write(folder / name / "include", folder / name / "src")
    return folder / name


def sources(library: Path, assembly: bool) -> list[str]:
    """C, and for a Cortex-M7 assembly."""
    return sorted(map(str, library.glob("src/*.[cS]" if assembly else "src/*.c")))


def includes(*libraries: Path) -> list[str]:
    """Compiler options."""
    return [f"-I{library / 'include'}" for library in libraries]


def call(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a compiler; what it printed."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shared_object(folder: Path, *files: str | Path) -> ctypes.CDLL:
    """Sources, objects and options as a library of this machine without open symbols."""
    output = folder / "all.so"
    call("cc", *STRICT, "-fPIC", "-shared", "-Wl,--no-undefined", *files, "-o", output)
    return ctypes.CDLL(str(output))


def expected(made: Network) -> list[int]:
    """Logits of the numpy reference."""
    return [int(v) for v in made.codes[made.steps[-1].output].reshape(-1)]


def run(library: ctypes.CDLL, name: str, made: Network) -> tuple[int, list[int]]:
    """Status and logits."""
    image, logits = np.ascontiguousarray(made.image), np.zeros(7, np.int32)
    inputs, outputs = ((ctypes.c_void_p * 1)(a.ctypes.data) for a in (image, logits))
    status = getattr(library, f"tvmgen_{name}_run")(inputs, outputs)
    return status, logits.tolist()


def c_bytes(name: str, made: Network) -> str:
    """The image as C."""
    values = ", ".join(map(str, made.image.reshape(-1)))
    return f"static const uint8_t {name}[] = {{{values}}};\n"


def firmware(folder: Path, main: str, *files: str | Path) -> Path:
    """An ELF for the emulator; the linker script knows nothing of these libraries."""
    (folder / "main.c").write_text(main)
    elf = folder / "all.elf"
    command = [*ARM, "-O2", "-Wall", "-Wextra", *ARM_LINK, f"-I{FIRMWARE}", "-T"]
    command += [str(FIRMWARE / "h743.ld"), str(FIRMWARE / "start.c"), str(folder / "main.c")]
    call(*command, *files, "-o", elf)
    return elf
