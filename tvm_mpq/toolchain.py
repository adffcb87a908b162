"""Running external programs: always with a timeout, always with a message that says what to do."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path

from tvm_mpq.errors import ToolError

_INSTALL = {
    "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "make": "apt-get install make",
    "cc": "apt-get install gcc libc6-dev",
    "qemu-system-arm": "apt-get install qemu-system-arm",
    "pyocd": "pip install pyocd",
    "openocd": "apt-get install openocd",
    "st-flash": "apt-get install stlink-tools",
}
# Packages that not everyone needs: what for, the extra of pyproject.toml that has them, imports.
_EXTRAS = {
    "emulator": ("the emulator", ("unicorn", "capstone")),
    "board": ("the board", ("serial",)),
    "tracker": ("the RPC tracker", ("tornado", "cloudpickle")),
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


def require_cross_compiler() -> None:
    """ToolError unless firmware can be built."""
    for name in ("make", "arm-none-eabi-gcc"):
        require_tool(name)


def require_packages(extra: str) -> None:
    """ToolError, with the line that installs it, unless the packages of ``extra`` are there.

    ``extra``: "emulator", "board" or "tracker".
    """
    what, modules = _EXTRAS[extra]
    for module in modules:
        if find_spec(module) is None:
            raise ToolError(f"{what} needs the package {module!r}: {_pip_line(extra)}")


def _pip_line(extra: str) -> str:
    try:
        needed = [r.partition(";") for r in requires("tvm_mpq") or []]
    except PackageNotFoundError:  # a source tree without an installation
        needed = []
    names = [name.strip() for name, _, marker in needed if extra in marker]
    return f"pip install {shlex.join(names or [f'tvm_mpq[{extra}]'])}"


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
