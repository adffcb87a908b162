"""A firmware that runs one layer twice, and what the board model says of it."""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.codegen.plain_c import kernel_includes, kernel_source
from tvm_mpq.codegen.program import Program, Step
from tvm_mpq.errors import ToolError
from tvm_mpq.files import temporary_folder
from tvm_mpq.kernels import reference
from tvm_mpq.kernels.layout import pack_map, unpack_map
from tvm_mpq.kernels.micro import micro_kernel_sources
from tvm_mpq.kernels.pack import pack_icn, pack_pool, pack_weights
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.quant.icn import IcnParams
from tvm_mpq.schedule.apply import schedule
from tvm_mpq.toolchain import run_tool

if TYPE_CHECKING:
    from tvm_mpq.emulator import Profile
    from tvm_mpq.micro.firmware import Firmware

FIRMWARE = Path(__file__).with_name("layer_firmware")
ELF = "layer.elf"
BUILD_TIMEOUT = 120.0  # seconds of one run of the compiler
RUN_TIMEOUT = 300.0  # seconds of both runs of a layer on the board model
CPU = ["-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-d16"]
FLAGS = [*CPU, "-std=c11", "-O2", "-g", "-ffunction-sections", "-fdata-sections"]
FLAGS += ["-Wall", "-Wextra", "-Werror"]
LINK = [*CPU, "-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections", "-Wl,--build-id=none"]
LINK += ["-Wl,--no-warn-rwx-segments"]
LINKER_SCRIPT = FIRMWARE / "layer.ld"

Words = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Layer:
    """One layer with its operands and the outputs that numpy expects.

    ``x``: codes [C, H, W] ([H, W, C] for hwc8); ``weights``, ``icn``: packed; ``expected``: codes
    or logits.
    """

    spec: KernelSpec
    x: npt.NDArray[np.uint8]
    weights: Words
    icn: Words
    expected: Words


@dataclass(frozen=True)
class Measurement:
    """Modelled cycles of the second run, and whether every output bit is right."""

    cycles: int
    code_bytes: int
    bit_exact: bool
    profile: Profile | None


def random_layer(spec: KernelSpec, seed: int = 0) -> Layer:
    """Random codes; requantized so that the outputs span their codes, as trained layers do."""
    rng = np.random.default_rng(seed)
    shape = (spec.x.channels, spec.x.height, spec.x.width)
    x = rng.integers(0, (1 << spec.x.bits) - 1, shape, dtype=np.uint8, endpoint=True)
    if spec.op == "global_avg_pool":
        return _random_pool(spec, x)
    channels = spec.output.channels
    depthwise = spec.op == "depthwise_conv2d"
    taps = (channels, 1 if depthwise else spec.x.channels, *spec.kernel)
    weights = rng.integers(0, 1 << spec.w_bits, taps).astype(np.uint8)
    zw = rng.integers(0, 1 << spec.w_bits, channels).astype(np.uint8)
    phi_of = reference.depthwise_conv2d_phi if depthwise else reference.conv2d_phi
    phi = phi_of(x, weights, spec.x.zero_point, zw, spec.strides, spec.padding)
    exponent = np.floor(min(spec.output.bits, 16) - np.log2(np.abs(phi).max() + 1.0)) - 1
    n0 = np.full(channels, min(exponent, -1)).astype(np.int8)
    m0 = rng.integers(2**30, 2**31, channels).astype(np.int32)
    m0 &= np.int32(-(1 << (32 - spec.multiplier_bits)))
    icn = IcnParams(m0, n0, np.zeros(channels, np.int32), zw)
    expected = reference.layer(phi, icn, spec.output.zero_point, spec.output.bits)
    packed = pack_weights(spec, weights), pack_icn(spec, icn, weights)
    stored = x.transpose(1, 2, 0) if spec.x.layout == "hwc8" else x
    return Layer(spec, stored, *packed, np.asarray(expected))


def _random_pool(spec: KernelSpec, x: npt.NDArray[np.uint8]) -> Layer:
    pixels = spec.x.height * spec.x.width
    m0, shift = round(2**36 / pixels), 36
    y = spec.output
    expected = reference.global_avg_pool(
        x, spec.x.zero_point, pixels // 2, m0, shift, y.zero_point, y.bits
    )
    empty = np.zeros(1, np.uint32)
    return Layer(spec, x, empty, pack_pool(pixels // 2, m0, shift), expected)


def build(layer: Layer, folder: Path, script: Path = LINKER_SCRIPT) -> Path:
    """The ELF of ``layer``; only the kernels it uses are linked, as ``script`` places them."""
    (folder / "w.bin").write_bytes(np.ascontiguousarray(layer.weights).tobytes())
    (folder / "icn.bin").write_bytes(np.ascontiguousarray(layer.icn).tobytes())
    (folder / "layer.c").write_text(_source(layer.spec))
    (folder / "constants.s").write_text(
        '.section .rodata.constants\n.balign 32\n.global w\nw: .incbin "w.bin"\n'
        '.balign 32\n.global icn\nicn: .incbin "icn.bin"\n'
    )
    return link(folder, script)


def link(folder: Path, script: Path = LINKER_SCRIPT) -> Path:
    """The ELF of ``layer.c`` and ``constants.s`` in ``folder``, with the micro-kernels."""
    kernels = _micro_kernels()
    headers = ["-I", str(kernels)]
    names = ["layer.c", "constants.s", *map(str, sorted(kernels.glob("*.o")))]
    _compile([*headers, *LINK, "-T", str(script), *names, "-o", ELF], folder)
    return folder / ELF


@cache
def _micro_kernels() -> Path:
    """A folder with headers and objects of every micro-kernel, compiled once in a process."""
    owner = temporary_folder("kernels")
    atexit.register(owner.cleanup)
    folder = owner.name
    names = [str(FIRMWARE / "layer_main.c")]
    for name, text in micro_kernel_sources().items():
        (Path(folder) / name).write_text(text)
        names += [name] if name.endswith((".c", ".S")) else []
    _compile(["-c", *names], Path(folder))
    return Path(folder)


def _compile(arguments: list[str], folder: Path) -> None:
    command = ["arm-none-eabi-gcc", *FLAGS, *arguments]
    result = run_tool(command, timeout=BUILD_TIMEOUT, cwd=folder)
    if result.status:
        raise ToolError(f"{' '.join(command)}\n{result.stderr[:4000]}")


def _source(spec: KernelSpec) -> str:
    """The kernel, its buffers and the call, as C."""
    x_bytes, y_bytes = spec.x.nbytes, spec.output.nbytes
    scratch = max(4, spec.scratch_bytes)
    return "\n".join(
        [
            kernel_includes(),
            kernel_source(spec, schedule(spec)),
            "extern const uint32_t w[], icn[];",
            "void layer(void);",
            f'__attribute__((section(".axi"), aligned(32))) uint8_t x[{x_bytes}];',
            f'__attribute__((section(".axi"), aligned(32))) uint8_t y[{y_bytes}];',
            f'__attribute__((section(".scratch"), aligned(32))) uint8_t scratch[{scratch}];',
            "void layer(void) {",
            f"  {spec.symbol}(x, {spec.x.height}, y, {spec.output.height}, 0,"
            f" {spec.output.height}, w, icn, scratch);",
            "}",
            "",
        ]
    )


def measure(layer: Layer, folder: Path) -> Measurement:
    """Build and run ``layer`` on the board model."""
    return run(layer, build(layer, folder))


def run(layer: Layer, elf: Path) -> Measurement:
    """Run the ELF of ``layer`` on the board model."""
    found = run_elf(elf, pack_map(layer.x, layer.spec.x).tobytes())
    exact = is_exact(layer, found.output)
    return Measurement(found.cycles, found.code_bytes, exact, found.profile)


@dataclass(frozen=True)
class ElfRun:
    """Two runs of a layer: cycles of the second one, and the bytes of the output map."""

    cycles: int
    output: bytes
    code_bytes: int
    profile: Profile | None


def run_elf(elf: Path, data: bytes) -> ElfRun:
    """Run what ``build`` made on the board model; ``data``: the bytes of the input map."""
    from tvm_mpq.emulator import Board

    with Board(elf) as board:
        board.write_symbol("x", data)
        result = board.run(cycles=True, timeout_seconds=RUN_TIMEOUT)
        cycles = int.from_bytes(board.read_symbol("layer_cycles"), "little")
        return ElfRun(cycles, board.read_symbol("y"), _code_bytes(board), result.profile)


def is_exact(layer: Layer, output: bytes) -> bool:
    """Whether the bytes of an output map hold the codes that numpy expects."""
    shape, dtype = layer.spec.output.buffer
    actual = unpack_map(np.frombuffer(output, dtype).reshape(shape), layer.spec.output)
    return bool((actual.reshape(-1) == layer.expected.reshape(-1)).all())


def build_project(layer: Layer, folder: Path) -> None:
    """A firmware project in ``folder`` whose network is ``layer``, for a board: see run_session."""
    from tvm_mpq.codegen.library import generate_library
    from tvm_mpq.codegen.model_library_format import export_folder, metadata
    from tvm_mpq.codegen.row_plan import plan_layer_by_layer
    from tvm_mpq.micro.project import generate_project
    from tvm_mpq.target import Target

    spec, target = layer.spec, Target("stm32h7")
    constants = {"layer_weights": layer.weights, "layer_icn": layer.icn}
    program = Program(
        name="layer",
        input="x",
        output="y",
        steps=(Step("layer", spec, ("x",), "y", *constants),),
        tensors={"x": spec.x, "y": spec.output},
        constants=constants,
        functions={spec.symbol: primfunc(spec)},
        logits_scale=1.0,
    )
    plan = plan_layer_by_layer(program, "arena")
    content = metadata(program, plan, target, {})
    export_folder(generate_library(program, plan), "", content, folder / "model")
    generate_project(folder / "model", folder / "project", target).build()


def project_firmware(folder: Path) -> Firmware:
    """What ``build_project`` linked."""
    from tvm_mpq.micro.project import Project

    return Project.open(folder / "project").firmware()


def project_inputs(layer: Layer) -> npt.NDArray[np.uint8]:
    """Twice the input of ``layer``, uint8 [2, bytes]: of two runs the second one counts."""
    data = np.frombuffer(pack_map(layer.x, layer.spec.x).tobytes(), np.uint8)
    return np.stack([data, data])


def annotated(layer: Layer, folder: Path, function: str) -> str:
    """Every instruction of ``function`` with its modelled cycles and the rule that cost them."""
    from tvm_mpq.emulator import Board
    from tvm_mpq.emulator.annotate import format_annotation

    with Board(build(layer, folder)) as board:
        board.write_symbol("x", pack_map(layer.x, layer.spec.x).tobytes())
        board.run(cycles=True, timeout_seconds=RUN_TIMEOUT)
        return format_annotation(board.annotate(function))


def _code_bytes(board: Any) -> int:
    return sum(s.size for name, s in board.image.symbols.items() if name.startswith("mpq_"))
