"""The stack of a firmware: a bound from the call graph, reserved with a margin, never exceeded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tvm_mpq.deployment import Deployment
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.asm import assembly_sources
from tvm_mpq.micro.stack import MARGIN, _frames, stack_need

_PAINT = 0xA5


def node(name: str, size: int, kind: str = "static", file: str = "") -> str:
    title = f"{file}:{name}" if file else name
    return f'node: {{ title: "{title}" label: "{name}\\nx.c:1:1\\n{size} bytes ({kind})" }}\n'


def edge(source: str, target: str) -> str:
    return f'edge: {{ sourcename: "{source}" targetname: "{target}" label: "x.c:2" }}\n'


def needed(folder: Path, *texts: str) -> int:
    for index, text in enumerate(texts):
        (folder / f"{index}.ci").write_text(f'graph: {{ title: "x.c"\n{text}}}\n')
    (folder / "start.ci").write_text(node("Reset_Handler", 8) + edge("Reset_Handler", "main")
                                     + node("SysTick_Handler", 16))  # fmt: skip
    return stack_need(folder, [])


@pytest.mark.null
def test_the_deepest_path_counts(tmp_path: Path) -> None:
    """Two exception frames of 112 bytes, the interrupt's handler, reset, and the rest."""
    always = 2 * 112 + 16 + 8
    main = node("main", 24) + edge("main", "a") + edge("main", "b")
    assert needed(tmp_path, main, node("a", 100), node("b", 40) + edge("b", "memcpy")) == (
        always + 24 + max(100, 40 + 64)
    )
    # Static functions of one name in two files.
    main = node("main", 24) + edge("main", "x.c:f") + node("f", 10, file="x.c")
    other = node("f", 500, file="y.c") + node("g", 8) + edge("g", "y.c:f")
    assert needed(tmp_path, main, other) == always + 24 + 10
    # A weak function is listed as if it were static: the largest of its name counts.
    main = node("main", 24) + edge("main", "w") + node("w", 10, file="x.c")
    assert needed(tmp_path, main, node("w", 50, file="y.c")) == always + 24 + 50
    # But for a strong one, which is meant wherever it is.
    strong = node("w", 30) + edge("w", "leaf") + node("leaf", 4)
    assert needed(tmp_path, main, node("w", 50, file="y.c"), strong) == always + 24 + 34


@pytest.mark.null
def test_a_pointer_is_the_deepest_function_that_calls_none(tmp_path: Path) -> None:
    main = node("main", 24) + edge("main", "__indirect_call")
    leaves = node("deep", 200) + edge("deep", "leaf") + node("leaf", 30)
    assert needed(tmp_path, main, leaves) == 2 * 112 + 16 + 8 + 24 + 230


@pytest.mark.null
def test_what_has_no_bound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="main: its stack has no bound"):
        needed(tmp_path, node("main", 24, "dynamic"))
    with pytest.raises(InvalidValueError, match="a cycle"):
        needed(tmp_path, node("main", 24) + edge("main", "a") + node("a", 8) + edge("a", "main"))
    with pytest.raises(InvalidValueError, match="no call graph of"):
        stack_need(tmp_path / "nothing", [])


@pytest.mark.null
def test_every_assembly_function_has_a_frame() -> None:
    """Registers that are pushed and bytes below them; nothing else may move the stack pointer."""
    for name, text in assembly_sources().items():
        frames = _frames(text)
        assert list(frames) == [name.removesuffix(".S")]
        lines = [line.strip() for line in text.splitlines() if "sp" in line.split("@")[0]]
        moved = [line for line in lines if "sp, sp" in line or "sp!" in line]
        assert all(line.startswith(("sub sp, sp, #", "add sp, sp, #")) for line in moved), name
        assert frames[name.removesuffix(".S")].frame <= 128


@pytest.mark.emu
def test_a_painted_stack_stays_within_the_bound(deployment: Deployment) -> None:
    """What an inference really used on the emulated board."""
    from tvm_mpq.emulator import Board
    from tvm_mpq.micro.run import run_session
    from tvm_mpq.micro.transports import EmulatorTransport

    firmware = deployment.firmware
    found = []

    def painted(elf: Path) -> Board:
        board = Board(elf)
        bottom = board.symbols["__stack_limit"]
        board.write_memory(bottom, bytes([_PAINT]) * firmware.stack_bytes)
        # The last moment at which memory can be read.
        close = board.close
        board.close = lambda: (  # type: ignore[method-assign]
            found.append(board.read_memory(bottom, firmware.stack_bytes)) or close()
        )
        return board

    transport = EmulatorTransport(firmware.elf, make_board=painted)
    images = np.random.default_rng(1).integers(0, 256, (3, 13 * 14 * 3)).astype(np.uint8)
    run_session(transport, firmware.output, images)
    used = len(found[0].lstrip(bytes([_PAINT])))
    need = firmware.stack_need_bytes
    assert need / 4 < used <= need <= firmware.stack_bytes - MARGIN
    assert firmware.stack_bytes < firmware.target.stack
    assert f"{need:,}" in str(deployment.report())
