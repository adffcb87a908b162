"""Compiles small C and assembly programs into firmware for the emulator's tests."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).with_name("firmware")
FLAGS = [
    *("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-d16", "-mfloat-abi=hard", "-g", "-std=gnu11"),
    *("-Wall", "-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs"),
]

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build(source, *flags)``: the ELF of a C program that includes board.h and has main()."""
    folder = tmp_path_factory.mktemp("firmware")

    def compile_program(source: str, *flags: str) -> Path:
        key = hashlib.sha256("\0".join((source, *flags)).encode()).hexdigest()[:12]
        elf = folder / f"{key}.elf"
        if not elf.exists():
            program = folder / f"{key}.c"
            program.write_text('#include "board.h"\n#line 1 "program.c"\n' + source)
            command = ["arm-none-eabi-gcc", *FLAGS, "-O2", *flags, f"-I{FIRMWARE}"]
            command += [str(FIRMWARE / "start.c"), str(program), "-T", str(FIRMWARE / "h743.ld")]
            subprocess.run([*command, "-o", str(elf)], check=True, timeout=120)
        return elf

    return compile_program
