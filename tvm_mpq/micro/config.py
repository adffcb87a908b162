"""Reading config.mk, which people edit by hand."""

from __future__ import annotations

import re
from pathlib import Path

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import read_text
from tvm_mpq.target import Target

_LIMITS = {
    "FLASH_BUDGET": "flash",
    "RAM_BUDGET": "ram",
    "SCRATCH_LIMIT": "scratch",
    "STACK_SIZE": "stack",
}
_ASSIGNMENT = re.compile(r"\s*(?:export\s+|override\s+)?(\w+)\s*(\?|::?|)=\s*(.*)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def read_config(path: Path) -> Target:
    """The target whose limits ``path`` holds, as make and the linker read them.

    Raises InvalidValueError: a limit that is missing, that only make could work out, or that the
    chip does not have.
    """
    values: dict[str, str] = {}
    for line in read_text(path, limit=1 << 20).splitlines():
        match = _ASSIGNMENT.fullmatch(line.partition("#")[0].rstrip())
        # "?=" sets what is not set yet; the others replace.
        if match and not (match[2] == "?" and match[1] in values):
            values[match[1]] = match[3]
    missing = [name for name in _LIMITS if name not in values]
    if missing:
        raise InvalidValueError(
            f"{path}: no {missing[0]}; expected a line such as {missing[0]} ?= 8192"
        )
    limits = {option: _size(path, name, values[name]) for name, option in _LIMITS.items()}
    try:
        return Target("stm32h7", **limits)
    except InvalidValueError as error:
        raise InvalidValueError(f"{path}: {error}") from None


def _size(path: Path, name: str, text: str) -> int:
    """Bytes of a number as GNU ld takes it: decimal, octal, hexadecimal, K and M."""
    match = re.fullmatch(r"(0[xX][0-9a-fA-F]{1,12}|\d{1,12})([kKmM]?)", text)
    try:
        if match is None:
            raise ValueError
        digits = match[1]
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
        return int(digits, base) * _UNITS[match[2].lower()]
    except ValueError:
        raise InvalidValueError(
            f"{path}: {name} is {text!r}; expected bytes as a number, for example 8192, 8K or"
            " 0x2000"
        ) from None
