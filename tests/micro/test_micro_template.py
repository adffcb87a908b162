"""The template's start-up: handlers for every interrupt, waits that end, a watchdog that is fed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_library import FakeLibrary

from tvm_mpq.emulator.chips import CHIPS
from tvm_mpq.errors import BoardFaultError
from tvm_mpq.micro import Project, run_on_emulator
from tvm_mpq.micro.project import template_folder
from tvm_mpq.micro.run import run_session
from tvm_mpq.micro.transports import EmulatorTransport

MakeProject = Callable[..., Project]
pytestmark = pytest.mark.emu

_NVIC_ISER, _NVIC_ISPR = 0xE000E100, 0xE000E200
# Enables an interrupt and makes it pending.
_PEND = (
    "*(volatile uint32_t*)({enable} + {word}) = {bit}u;"
    " *(volatile uint32_t*)({pend} + {word}) = {bit}u; __asm volatile("
    '"dsb; isb");'
)
_IWDG_KEY, _IWDG_RELOAD = 0x58004800, 0x58004808


def pending(number: int) -> str:
    """C that raises interrupt ``number``."""
    place = {"enable": _NVIC_ISER, "pend": _NVIC_ISPR}
    return _PEND.format(word=4 * (number // 32), bit=1 << number % 32, **place)


def random_inputs() -> object:
    import numpy as np

    return np.random.default_rng(1).integers(0, 256, (1, 64)).astype(np.uint8)


def vectors(elf: Path) -> list[int]:
    """The table as linked, entries of the core and of the device."""
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as file:
        data = ELFFile(file).get_section_by_name(".isr_vector").data()
    return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]


@pytest.mark.parametrize("number", [0, 39, 42, 149])
def test_an_interrupt_without_a_handler_reports_itself(
    make_project: MakeProject, number: int
) -> None:
    firmware = make_project(FakeLibrary(extra=pending(number))).build()
    with pytest.raises(BoardFaultError, match=f"no handler for interrupt {number}$"):
        run_on_emulator(firmware, random_inputs())


def test_all_150_interrupts_can_be_overridden(make_project: MakeProject) -> None:
    """Each named one by a project's function of that name; numbers agree with the emulator's."""
    project = make_project(FakeLibrary())
    text = (template_folder() / "src/vectors_stm32h743.c").read_text()
    entries = re.findall(r"\b(DO|RESERVED)\((\w+)\)", text.split("static void")[0])
    entries = [entry for entry in entries if entry[0] != "DO" or entry[1] != "RESERVED"][-150:]
    named = {n: name for n, (kind, name) in enumerate(entries) if kind == "DO"}
    assert [int(name) for kind, name in entries if kind == "RESERVED"] == [
        n for n in range(150) if n not in named
    ]
    usarts = sorted(CHIPS["stm32h743"].usarts.values())
    assert all(re.fullmatch(r"(LP)?US?ART\d", named[n]) for n in usarts)
    handlers = "".join(f"void {name}_IRQHandler(void) {{}}\n" for name in named.values())
    plain = vectors(project.build().elf)
    assert len(plain) == 16 + 150 and len(set(plain[16:])) == 1 and plain[16] & 1
    (project.folder / "src/protocol.c").open("a").write(handlers)
    own = vectors(project.build().elf)
    assert len(own) == 16 + 150
    changed = [n for n in range(150) if own[16 + n] != own[16 + 42]]
    # Equal functions are one address apart or more: each has its own.
    assert changed == sorted(named) and len({own[16 + n] for n in named}) == len(named)


@pytest.mark.parametrize(
    ("register", "value", "error"),
    [
        (0x58024804, 0, "1"),  # supply
        (0x58024818, 0, "2"),  # voltage
        (0x52002000, 0, "3"),  # flash wait states
        (0x58024400, 0x1, "4"),  # internal oscillator
        (0x58024400, 0x5, "5"),  # PLL
        (0x58024410, 0x3, "6"),  # switch to it
    ],
)
def test_a_clock_that_never_gets_ready_is_an_error(
    make_project: MakeProject, register: int, value: int, error: str
) -> None:
    """Reported over the serial line, which runs from the clock of reset."""
    from tvm_mpq.emulator import Board

    firmware = make_project(FakeLibrary()).build()

    def stuck(elf: Path) -> Board:
        board = Board(elf)
        board.bus.on_read(register, lambda: value)
        return board

    transport = EmulatorTransport(firmware.elf, make_board=stuck)
    with pytest.raises(BoardFaultError, match=f"the board did not start: .* error {error}$"):
        run_session(transport, firmware.output, random_inputs())


def fed(project: Project) -> tuple[list[int], int]:
    """What a run writes to the watchdog's key register, and its period."""
    from tvm_mpq.emulator import Board

    firmware = project.build()
    keys: list[int] = []
    boards: list[Board] = []

    def watched(elf: Path) -> Board:
        boards.append(Board(elf))
        boards[0].bus.on_write(_IWDG_KEY, keys.append)
        return boards[0]

    transport = EmulatorTransport(firmware.elf, make_board=watched)
    run_session(transport, firmware.output, random_inputs())
    return keys, boards[0].bus.registers.get(_IWDG_RELOAD, 0)


def test_the_watchdog_is_an_option(make_project: MakeProject) -> None:
    """Off, nothing is written; on, it is set up, then fed by the wait for bytes and the library."""
    feeding = "\n#ifdef TVMGEN_FEED\nvoid TVMGEN_FEED(void);\n#endif\n"
    library = FakeLibrary(
        extra="\n#ifdef TVMGEN_FEED\n  for (int i = 0; i < 1000; ++i) TVMGEN_FEED();\n#endif\n  ",
        bad_line=feeding,
    )
    project = make_project(library)
    source = project.folder / "model/codegen/host/src/default_lib0.c"
    source.write_text("void board_feed_watchdog(void);\n" + source.read_text())
    assert fed(project) == ([], 0)
    config = project.folder / "config.mk"
    text = config.read_text()
    config.write_text(text.replace("WATCHDOG_MS ?= 0", "WATCHDOG_MS ?= 2000"))
    keys, reload = fed(project)
    assert keys[:3] == [0xCCCC, 0x5555, 0xAAAA] and set(keys[2:]) == {0xAAAA}
    assert len(keys) > 1000 and reload == 2000 // 8
    config.write_text(text.replace("WATCHDOG_MS ?= 0", "WATCHDOG_MS ?= 40000"))
    command = ["make", "-C", str(project.folder), "BUILD=other"]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert failed.returncode and "WATCHDOG_MS must be 0 (none) or 16 to 32760" in failed.stderr
