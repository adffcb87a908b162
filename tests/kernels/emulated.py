"""Many layers in one firmware, so that the emulator tests link once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.kernels.harness import Case, c_source, stored
from tvm_mpq.emulator import Board
from tvm_mpq.kernels.layout import pack_map, unpack_map
from tvm_mpq.micro.single_layer import link


def run_emulated(cases: list[Case], folder: Path) -> list[np.ndarray]:
    """Outputs of every case, as canonical codes, from firmware on the emulated STM32H743."""
    source = [c_source([case.spec for case in cases]), "void layer(void);"]
    constants, calls = [".section .rodata.constants"], []
    scratch = max(case.spec.scratch_bytes for case in cases)
    for i, case in enumerate(cases):
        x, y = case.spec.x, case.spec.output
        for name, array in (("w", case.weights), ("icn", case.icn)):
            (folder / f"{name}{i}.bin").write_bytes(np.ascontiguousarray(array).tobytes() or b"\0")
            constants.append(f'.balign 32\n.global {name}{i}\n{name}{i}: .incbin "{name}{i}.bin"\n')
            source.append(f"extern const uint32_t {name}{i}[];")
        for name, size in (("x", x.nbytes), ("y", y.nbytes)):
            attributes = '__attribute__((section(".axi"), aligned(32)))'
            source.append(f"{attributes} uint8_t {name}{i}[{size}];")
        calls.append(
            f"  {case.spec.symbol}(x{i}, {x.height}, y{i}, {y.height}, 0, {y.height},"
            f" w{i}, icn{i}, scratch);"
        )
    source.append(
        f'__attribute__((section(".scratch"), aligned(32))) uint8_t scratch[{scratch + 4}];'
    )
    source += ["void layer(void) {", *calls, "}", ""]
    (folder / "layer.c").write_text("\n".join(source))
    (folder / "constants.s").write_text("\n".join(constants))
    board = Board(link(folder))
    for i, case in enumerate(cases):
        board.write_symbol(
            f"x{i}", pack_map(stored(case.inputs[0], case.spec.x), case.spec.x).tobytes()
        )
    board.write_symbol("scratch", b"\x5a" * (scratch + 4))
    board.run(timeout_seconds=300)
    assert board.read_symbol("scratch")[scratch:] == b"\x5a" * 4, "a kernel wrote past its scratch"
    outputs = []
    for i, case in enumerate(cases):
        shape, dtype = case.spec.output.buffer
        words = np.frombuffer(board.read_symbol(f"y{i}"), dtype).reshape(shape)
        outputs.append(unpack_map(words, case.spec.output))
    return outputs
