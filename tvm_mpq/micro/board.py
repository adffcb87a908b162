"""The real Nucleo-H743ZI: finding it, programming it, running on it.

Every step has a timeout and a named error. No hardware was at hand when this was written: the
command lines were tried with pyocd 0.46, openocd 0.12 and st-flash 1.7 up to the missing probe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_mpq.errors import InvalidValueError, ToolError
from tvm_mpq.micro.firmware import Firmware
from tvm_mpq.micro.run import run_session
from tvm_mpq.micro.transports import SerialTransport
from tvm_mpq.toolchain import ToolResult, require_packages, require_tool, run_tool

# ST-LINK/V2-1 and V3 of Nucleo boards: the programs that carry a virtual COM port.
ST_LINK_VENDOR = 0x0483
ST_LINK_PRODUCTS = (0x374B, 0x374E, 0x374F)
_FLASH_BASE = "0x08000000"
_PLUG_IN = (
    "plug the Nucleo's ST-LINK connector (CN1) into USB with a data cable; in a container or a"
    " virtual machine, hand the device over"
)
# What the tools print, in lower case -> what it means. The first match counts.
_COMPLAINTS = (
    ("no connected debug probe", f"no ST-LINK found: {_PLUG_IN}"),
    ("no available debug probe", f"no ST-LINK found: {_PLUG_IN}"),
    ("couldn't find any st-link", f"no ST-LINK found: {_PLUG_IN}"),
    ("error: open failed", f"no ST-LINK found: {_PLUG_IN}"),
    ("libusb_error_access", "ST-LINK found but not accessible: install the tool's udev rules"),
    ("insufficient permissions", "ST-LINK found but not accessible: install the tool's udev rules"),
    ("access denied", "ST-LINK found but not accessible: install the tool's udev rules"),
    ("unable to connect to the target", "the chip does not answer: hold reset while connecting"),
    ("no device found on target", "the chip does not answer: check the board's power and jumpers"),
    ("failed to connect to target", "the chip does not answer: hold reset while connecting"),
    ("resource busy", "the ST-LINK is in use: close the other debugger"),
    ("verify failed", "what was written does not read back: flash again, or erase the chip"),
    ("checksum mismatch", "what was written does not read back: flash again, or erase the chip"),
)


@dataclass(frozen=True)
class SerialPort:
    """A virtual COM port of an ST-LINK: its device name and the probe's serial number."""

    device: str
    serial_number: str


def pyocd_command(elf: Path, serial_number: str | None) -> list[str]:
    """Erase what is needed, write, and let the program start. pyocd has the H743 built in."""
    command = ["pyocd", "load", "--no-wait", "--target", "stm32h743xx", "--erase", "sector"]
    if serial_number:
        command += ["--uid", serial_number]
    return [*command, "--format", "elf", str(elf)]


def openocd_command(elf: Path, serial_number: str | None) -> list[str]:
    """Write, read back and start."""
    command = ["openocd", "-f", "board/st_nucleo_h743zi.cfg"]
    if serial_number:
        command += ["-c", f"adapter serial {serial_number}"]
    return [*command, "-c", f"program {{{elf}}} verify reset exit"]


def st_flash_command(elf: Path, serial_number: str | None) -> list[str]:
    """st-flash takes the raw image; it verifies by itself."""
    command = ["st-flash", "--reset"]
    if serial_number:
        command += ["--serial", serial_number]
    return [*command, "write", str(elf.with_suffix(".bin")), _FLASH_BASE]


FLASH_TOOLS: dict[str, Callable[[Path, str | None], list[str]]] = {
    "pyocd": pyocd_command,
    "openocd": openocd_command,
    "st-flash": st_flash_command,
}


def flash(
    elf: Path,
    *,
    tool: str = "pyocd",
    serial_number: str | None = None,
    timeout: float = 120.0,
    tries: int = 2,
) -> None:
    """Program the board with ``elf`` (st-flash: the .bin beside it) and start it.

    Parameters
    ----------
    tool: "pyocd", "openocd" or "st-flash".
    serial_number: the probe, where several are connected.
    timeout: seconds for one try.

    Raises
    ------
    ToolError: the tool is missing, no ST-LINK is found, or programming failed ``tries`` times.
    """
    if tool not in FLASH_TOOLS:
        raise InvalidValueError(f"flash tool {tool!r}: allowed are {', '.join(FLASH_TOOLS)}")
    if not elf.is_file():
        raise ToolError(f"{elf}: no such file; build the project first")
    require_tool(tool)
    command = FLASH_TOOLS[tool](elf, serial_number)
    for attempt in range(tries):
        result = run_tool(command, timeout=timeout)
        complaint = _complaint(tool, result)
        if complaint is None:
            return
        # Right after plugging in, or after another debugger, the first try often fails.
        if attempt + 1 < tries:
            time.sleep(1.0)
    raise ToolError(f"{complaint} ({tool}, {tries} tries)")


def find_port(serial_number: str | None = None, wait: float = 5.0) -> SerialPort:
    """The virtual COM port of the connected ST-LINK.

    ``wait`` seconds are allowed for the port to appear: it vanishes while the probe restarts.
    ToolError when there is none, or several and no ``serial_number`` tells which.
    """
    deadline = time.monotonic() + wait
    while True:
        ports = _st_link_ports()
        if serial_number:
            ports = [port for port in ports if port.serial_number == serial_number]
        if ports or time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    if not ports:
        which = f" with serial number {serial_number}" if serial_number else ""
        products = ", ".join(f"{ST_LINK_VENDOR:04x}:{product:04x}" for product in ST_LINK_PRODUCTS)
        raise ToolError(f"no ST-LINK found{which} (USB {products}): {_PLUG_IN}")
    if len(ports) > 1:
        found = ", ".join(f"{port.serial_number} at {port.device}" for port in ports)
        raise ToolError(f"{len(ports)} ST-LINKs found ({found}): give one's serial number")
    return ports[0]


def run_on_board(
    firmware: Firmware,
    inputs: np.ndarray,
    *,
    tool: str = "pyocd",
    serial_number: str | None = None,
    port: str | None = None,
    timeout: float = 60.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Flash the Nucleo, run on each input, return outputs and measured cycles.

    See ``run_session``; ``timeout`` is seconds per inference. Without ``port`` the ST-LINK's own is
    taken.
    """
    flash(firmware.elf, tool=tool, serial_number=serial_number)
    transport = SerialTransport(port or find_port(serial_number).device)
    return run_session(transport, firmware.output, inputs, run_timeout=timeout, elf=firmware.elf)


def _st_link_ports() -> list[SerialPort]:
    require_packages("board")
    from serial.tools import list_ports

    return [
        SerialPort(port.device, port.serial_number or "")
        for port in list_ports.comports()
        if port.vid == ST_LINK_VENDOR and port.pid in ST_LINK_PRODUCTS
    ]


def _complaint(tool: str, result: ToolResult) -> str | None:
    """What went wrong, in our words; None when the tool succeeded."""
    if result.status == 0:
        return None
    text = f"{result.stdout}\n{result.stderr}"
    for words, meaning in _COMPLAINTS:
        if words in text.lower():
            return meaning
    tail = "\n".join(f"  {line}" for line in text.strip().splitlines()[-4:])
    return f"{tool} failed with status {result.status}:\n{tail}"
