"""Running external programs: always with a timeout, always with a message that says what to do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tvm_mpq.errors import ToolError

_INSTALL = {
    "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "make": "apt-get install make",
    "qemu-system-arm": "apt-get install qemu-system-arm",
    "pyocd": "pip install pyocd",
    "openocd": "apt-get install openocd",
    "st-flash": "apt-get install stlink-tools",
}


@dataclass(frozen=True)
class ToolResult:
    """Exit status and text output of a finished program."""

    status: int
    stdout: str
    stderr: str


def require_tool(name: str) -> str:
    """The path of program ``name``; ToolError with the line that installs it when missing."""
    path = shutil.which(name)
    if path is None:
        fix = _INSTALL.get(name, f"install {name}")
        raise ToolError(f"{name} is not on PATH; install it with: {fix}")
    return path


def run_tool(
    command: list[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> ToolResult:
    """Run ``command`` and wait at most ``timeout`` seconds; it and its children are then killed."""
    require_tool(command[0])
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"{command[0]} did not finish within {timeout:g} s and was stopped;"
            f" the command was: {' '.join(command)}"
        ) from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return ToolResult(process.returncode, stdout, stderr)
