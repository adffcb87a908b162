"""Targets: sizes as people write them, budgets against the chip, options in one string."""

from __future__ import annotations

import pytest

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.target import Target, as_target, parse_bytes

pytestmark = pytest.mark.null


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (2048000, 2048000),
        ("2MB", 2_048_000),  # 1000 x 1024: the published budgets
        ("512kB", 512_000),
        ("64KiB", 65_536),
        ("1.5MiB", 1_572_864),
        ("7 B", 7),
        ("100", 100),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "2 GB", "-1", "0", "1.5B", "two", True, "1e3"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(InvalidValueError, match=f"size {text!r}: expected"):
        parse_bytes(text)


def test_defaults_are_the_chip() -> None:
    target = Target("stm32h7")
    assert target.flash == 2 * 1024 * 1024 and target.ram == 512 * 1024
    assert (target.scratch, target.stack) == (32 * 1024, 8 * 1024)
    assert target.core == "cortex-m7" and not target.is_host
    assert target.region("DTCM").base == 0x20000000


def test_one_string_is_the_same_target() -> None:
    wanted = Target("stm32h7", flash="1MB", ram="256kB", stack="4KiB")
    assert Target("stm32h7 -flash=1MB --ram=256kB -stack=4KiB") == wanted
    assert as_target("stm32h7 -flash=1MB -ram=256kB -stack=4KiB") == wanted
    assert as_target(wanted) is wanted and len({wanted, Target("stm32h7")}) == 2


def test_the_host_has_no_limits() -> None:
    host = Target("host", flash="1kB")
    assert host.is_host and host.flash == host.ram >= 1 << 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a chip name"),
        ("stm32f4", "'stm32f4': no such chip; known are host, stm32h7"),
        ("stm32h7 -colour=red", "'-colour=red': expected -flash="),
        ("stm32h7 -flash=4MiB", "flash budget 4MiB is 4194304 bytes, but the chip has 2097152"),
        ("stm32h7 -ram=1MB", "ram budget 1MB is 1024000 bytes, but the chip has 524288"),
        ("stm32h7 -scratch=129KiB", "scratch budget"),
    ],
)
def test_bad_targets(text: str, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Target(text)


def test_unknown_memory() -> None:
    with pytest.raises(InvalidValueError, match="no memory 'CCM'; known are FLASH, ITCM, DTCM"):
        Target("stm32h7").region("CCM")
