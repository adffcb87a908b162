"""The same C on the emulated Cortex-M7: bit for bit what numpy says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.kernels.cases import COVERING, row_cases, shift_cases, weighted_cases, weightless_cases
from tests.kernels.harness import Case, c_source, stored
from tvm_mpq.emulator import Board
from tvm_mpq.kernels.layout import pack_map, unpack_map
from tvm_mpq.kernels.micro import micro_kernel_sources
from tvm_mpq.specs import WIDTHS

pytestmark = pytest.mark.emu

FIRMWARE = Path(__file__).parent.parent / "emulator" / "firmware"
FLAGS = [
    *("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-d16", "-mfloat-abi=hard", "-std=gnu11", "-Os"),
    *("-Wall", "-Werror", "-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs"),
]


def c_array(name: str, array: np.ndarray) -> str:
    """A constant in flash with the bytes of ``array``."""
    data = np.frombuffer(array.tobytes() + bytes(-array.nbytes % 4), np.uint32)
    words = ", ".join(f"0x{word:x}u" for word in data) or "0"
    return f"const uint32_t {name}[] = {{{words}}};"


def program(cases: list[Case]) -> str:
    """A firmware's main: every kernel once, on whole tensors; outputs are out_0, out_1, ..."""
    lines, calls = [], []
    for i, case in enumerate(cases):
        spec = case.spec
        arguments = []
        for j, (codes, tensor) in enumerate(zip(case.inputs, spec.inputs, strict=True)):
            lines.append(c_array(f"x{i}_{j}", pack_map(stored(codes, tensor), tensor)))
            arguments.append(f"x{i}_{j}, {tensor.height}")
        lines += [c_array(f"w{i}", case.weights), c_array(f"icn{i}", case.icn)]
        words = -(-spec.output.nbytes // 4)
        lines.append(f'__attribute__((section(".axi"))) uint32_t out_{i}[{words}];')
        height = spec.output.height
        arguments += [f"out_{i}, {height}, 0, {height}, w{i}, icn{i}, scratch"]
        calls.append(f"  {spec.symbol}({', '.join(arguments)});")
    largest = max(case.spec.scratch_bytes for case in cases) + 4
    lines.append(f"static uint32_t scratch[{largest // 4 + 1}];")
    return "\n".join([*lines, "int main(void) {", *calls, "  return 0;", "}"])


def build(cases: list[Case], folder: Path) -> Path:
    """An ELF with the kernels of ``cases`` and their data."""
    source = c_source([case.spec for case in cases]) + program(cases)
    (folder / "kernels.c").write_text(source)
    elf = folder / "kernels.elf"
    sources = [folder / "kernels.c", FIRMWARE / "start.c"]
    for name, text in micro_kernel_sources().items():
        (folder / name).write_text(text)
        sources += [folder / name] if name.endswith((".c", ".S")) else []
    command = ["arm-none-eabi-gcc", *FLAGS, "-Wl,--gc-sections", *map(str, sources)]
    command += ["-T", str(FIRMWARE / "h743.ld"), "-o", str(elf)]
    subprocess.run(command, check=True, timeout=300)
    return elf


def check(cases: list[Case], folder: Path) -> None:
    board = Board(build(cases, folder))
    result = board.run(timeout_seconds=120)
    assert result.stopped_by == "end of program"
    for i, case in enumerate(cases):
        shape, dtype = case.spec.output.buffer
        raw = board.read_symbol(f"out_{i}", case.spec.output.nbytes)
        actual = unpack_map(np.frombuffer(raw, dtype).reshape(shape), case.spec.output)
        assert np.array_equal(actual.reshape(-1), case.expected.reshape(-1)), case.spec.symbol


@pytest.mark.parametrize("x_bits", WIDTHS)
def test_kernels_with_weights(x_bits: int, tmp_path: Path) -> None:
    check([case for w in COVERING if w[0] == x_bits for case in weighted_cases(w)], tmp_path)


def test_other_kernels(tmp_path: Path) -> None:
    check([*row_cases(), *weightless_cases()[::4]], tmp_path)


def test_adds(tmp_path: Path) -> None:
    adds = [case for case in weightless_cases() if case.spec.op == "add"]
    check([*adds, *shift_cases()[::3]], tmp_path)
