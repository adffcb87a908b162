"""The way to the real board, with recorded tools instead of one; and the board, where there is one.

The texts are those of pyocd 0.46, openocd 0.12 and st-flash 1.7 (without a probe) or of their
sources (other failures).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_library import INPUTS, FakeLibrary

from tvm_mpq.errors import InvalidValueError, ToolError
from tvm_mpq.micro import Firmware
from tvm_mpq.micro import board as board_module
from tvm_mpq.micro.board import find_port, flash, run_on_board
from tvm_mpq.micro.project import template_folder

list_ports = pytest.importorskip("serial.tools.list_ports", reason="needs pyserial")

ELF, BIN = "build/firmware.elf", "build/firmware.bin"
COMMANDS = {
    "pyocd": f"load --no-wait --target stm32h743xx --erase sector --uid 066D --format elf {ELF}",
    "openocd": "-f board/st_nucleo_h743zi.cfg -c adapter serial 066D"
    f" -c program {{{ELF}}} verify reset exit",
    "st-flash": f"--reset --serial 066D write {BIN} 0x08000000",
}


@pytest.fixture()
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A function that puts a fake tool on PATH: it logs its arguments, prints, and exits."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (tmp_path / "build").mkdir()
    for name in (ELF, BIN):
        (tmp_path / name).write_bytes(b"image")
    monkeypatch.chdir(tmp_path)
    no_pause = SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic)
    monkeypatch.setattr(board_module, "time", no_pause)
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, body: str) -> Path:
        log = tmp_path / f"{name}.log"
        script = f"import sys\nopen({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        (folder / name).write_text(f"#!{sys.executable}\n{script}{body}\n")
        (folder / name).chmod(0o755)
        return log

    return make


def fails(text: str, status: int = 1) -> str:
    return f"print({text!r}, file=sys.stderr); sys.exit({status})"


@pytest.mark.null
@pytest.mark.parametrize("tool", COMMANDS)
def test_command_lines(tools, tool: str) -> None:  # type: ignore[no-untyped-def]
    log = tools(tool, "")
    flash(Path(ELF), tool=tool, serial_number="066D")
    assert log.read_text().splitlines() == [COMMANDS[tool]]


@pytest.mark.null
@pytest.mark.parametrize(
    ("tool", "text", "status", "message"),
    [
        ("pyocd", "0000380 E No target device available [load_cmd]", 1, "pyocd failed with status"),
        ("pyocd", "No connected debug probes", 1, "no ST-LINK found: plug"),
        ("pyocd", "No connected debug probe matches unique ID '0669FF'", 1, "no ST-LINK found"),
        ("openocd", "Error: open failed\nin procedure 'program'", 1, "no ST-LINK found: plug"),
        ("openocd", "Error: LIBUSB_ERROR_ACCESS", 1, "not accessible: install the tool's udev"),
        (
            "openocd",
            "Error: init mode failed (unable to connect to the target)",
            1,
            "the chip does not answer",
        ),
        ("openocd", "** Verify Failed **", 1, "does not read back"),
        ("st-flash", "WARN usb.c: Couldn't find any ST-Link devices", 255, "no ST-LINK found"),
        ("st-flash", "something new", 3, "st-flash failed with status 3:\n  something new"),
    ],
)
def test_failures_are_named_after_a_second_try(  # type: ignore[no-untyped-def]
    tools, tool: str, text: str, status: int, message: str
) -> None:
    log = tools(tool, fails(text, status))
    with pytest.raises(ToolError, match="2 tries") as error:
        flash(Path(ELF), tool=tool)
    assert message in str(error.value)
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.null
def test_second_try_may_succeed(tools) -> None:  # type: ignore[no-untyped-def]
    log = tools("pyocd", "sys.exit(len(open('pyocd.log').readlines()) < 2)")
    flash(Path(ELF))
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.null
def test_hanging_tool_is_stopped_with_its_children(tools, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    child = "import time, subprocess\nsubprocess.Popen([sys.executable, '-c', "
    child += '\'import time; time.sleep(1); open("late", "w")\'])\ntime.sleep(60)'
    tools("pyocd", child)
    with pytest.raises(ToolError, match=r"pyocd did not finish within 0.5 s and was stopped"):
        flash(Path(ELF), timeout=0.5)
    time.sleep(0.8)
    assert not (tmp_path / "late").exists()


@pytest.mark.null
def test_missing_tool_and_wrong_names(tools) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ToolError, match="openocd is not on PATH; install it with: apt-get"):
        flash(Path(ELF), tool="openocd")
    with pytest.raises(InvalidValueError, match="'jlink': allowed are pyocd, openocd, st-flash"):
        flash(Path(ELF), tool="jlink")
    with pytest.raises(ToolError, match="build the project first"):
        flash(Path("nothing.elf"))


def usb(device: str, pid: int, serial_number: str, vid: int = 0x0483) -> SimpleNamespace:
    return SimpleNamespace(device=device, vid=vid, pid=pid, serial_number=serial_number)


@pytest.mark.null
def test_port_is_found_by_usb_id(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [
        usb("/dev/ttyUSB0", 0x374B, "other", vid=0x0403),
        usb("/dev/ttyS0", None, None, vid=None),  # type: ignore[arg-type]
        usb("/dev/ttyACM0", 0x5740, "a modem"),
        usb("/dev/ttyACM1", 0x374E, "066D"),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    assert find_port().device == "/dev/ttyACM1"
    ports.append(usb("/dev/ttyACM2", 0x374B, "0777"))
    with pytest.raises(ToolError, match="2 ST-LINKs found .066D at /dev/ttyACM1, 0777 at"):
        find_port()
    assert find_port("0777").device == "/dev/ttyACM2"
    with pytest.raises(ToolError, match="no ST-LINK found with serial number 9"):
        find_port("9", wait=0)


@pytest.mark.null
def test_port_may_take_a_moment_to_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [[], [], [usb("/dev/ttyACM0", 0x374F, "1")]]
    monkeypatch.setattr(list_ports, "comports", lambda: answers.pop(0))
    assert find_port(wait=5).device == "/dev/ttyACM0"


@pytest.mark.null
def test_no_port_names_the_usb_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: [])
    with pytest.raises(ToolError, match=r"no ST-LINK found \(USB 0483:374b, 0483:374e, 0483:374f"):
        find_port(wait=0)


@pytest.mark.null
def test_boards_file_has_the_same_usb_ids() -> None:
    board = json.loads((template_folder() / "boards.json").read_text())["nucleo_h743zi"]
    assert int(board["vid_hex"], 16) == board_module.ST_LINK_VENDOR
    assert tuple(int(p, 16) for p in board["pid_hex"]) == board_module.ST_LINK_PRODUCTS


def _board_reason() -> str | None:
    """Why the board tests cannot run; None when they can."""
    try:
        find_port(wait=0)
    except ToolError as error:
        return str(error)
    return None if shutil.which("pyocd") else "pyocd is not installed (pip install tvm_mpq[board])"


@pytest.mark.board
def test_board_returns_the_reference_result(firmware: Firmware) -> None:
    reason = _board_reason()
    if reason is not None:
        pytest.skip(reason)
    inputs = np.random.default_rng(2).integers(0, 256, (5, INPUTS)).astype(np.uint8)
    outputs, cycles = run_on_board(firmware, inputs)
    np.testing.assert_array_equal(outputs, FakeLibrary().reference(inputs))
    assert (cycles > 0).all()
