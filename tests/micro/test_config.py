"""config.mk is edited by hand: what make and ld accept is understood, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.micro.config import read_config

pytestmark = pytest.mark.null

CONFIG = """# Limits of this project
FLASH_BUDGET ?= 1024000
RAM_BUDGET ?= 256000
SCRATCH_LIMIT ?= 32768
STACK_SIZE ?= 8192
CLOCK_MHZ ?= 400
"""


def stack(tmp_path: Path, line: str) -> int:
    (tmp_path / "config.mk").write_text(CONFIG.replace("STACK_SIZE ?= 8192", line))
    return read_config(tmp_path / "config.mk").stack


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("STACK_SIZE ?= 8192", 8192),
        ("STACK_SIZE ?= 4K", 4096),
        ("STACK_SIZE ?= 4k   # four", 4096),
        ("STACK_SIZE?=4096", 4096),
        ("  STACK_SIZE := 0x1000", 4096),
        ("STACK_SIZE = 0X10k", 16384),
        ("export STACK_SIZE ::= 010000", 4096),
        ("STACK_SIZE ?= 1000\nSTACK_SIZE ?= 2000", 1000),
        ("STACK_SIZE ?= 1000\nSTACK_SIZE = 2000", 2000),
    ],
)
def test_numbers_as_make_and_ld_take_them(tmp_path: Path, line: str, size: int) -> None:
    assert stack(tmp_path, line) == size


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "no STACK_SIZE; expected a line such as STACK_SIZE"),
        ("# STACK_SIZE ?= 8192", "no STACK_SIZE"),
        ("STACK_SIZE ?=", "STACK_SIZE is ''"),
        ("STACK_SIZE ?= $(shell echo 1)", "STACK_SIZE is '.*shell.*; expected bytes"),
        ("STACK_SIZE ?= 4 * 1024", "expected bytes as a number"),
        ("STACK_SIZE ?= 4kB", "4kB"),
        ("STACK_SIZE ?= 09", "STACK_SIZE is '09'"),
        ("STACK_SIZE ?= 0", "positive"),
        ("STACK_SIZE ?= 4G", "4G"),
        ("STACK_SIZE ?= 4M", "stack budget"),
    ],
)
def test_others_are_refused_by_name(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words) as caught:
        stack(tmp_path, line)
    assert "config.mk" in str(caught.value)
