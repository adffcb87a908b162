"""Damage to files: seeded, so that a number names one mutation of one file for ever."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

DEEP = 100_000
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 1 << 31, 1 << 63, 10**30, 0.5, -0.0, 1e308, "", "x", "../x",
    "\0", "ü" * 300, "x" * 5000, [], {}, [[]], {"": None}, [None] * 3, "1e9", "NaN",
]  # fmt: skip


def mutated(data: bytes, kind: str, rng: random.Random) -> bytes:
    """``data`` with one to three kinds of damage. ``kind``: "bytes", "json", "lines" or "zip"."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = _STEPS[rng.choice(_KINDS[kind])](data, rng)
    return data


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    longest = max(1, len(data) - start)
    return start, start + rng.choice((1, 2, 4, 16, rng.randrange(longest) + 1))


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((0, rng.randrange(len(data) + 1), max(0, len(data) - 1)))]


def _delete(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 2, 20)) + data[end:]


def _zero(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + bytes(len(data[start:end])) + data[end:]


def _noise(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + rng.randbytes(rng.choice((1, 4, 64))) + data[end:]


def _lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    at = rng.randrange(len(lines))
    other = rng.choice((b"\n", b" \n", b"{}\n", b"[]\n", lines[at] * 2, b"", lines[at][:-1]))
    return b"".join([*lines[:at], other, *lines[at + rng.randrange(2) :]])


def _json(data: bytes, rng: random.Random) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(data, rng)
    places = _places(value) if isinstance(value, (dict, list)) else []
    if not places or rng.random() < 0.02:
        return json.dumps(rng.choice(_VALUES)).encode()
    holder, key = rng.choice(places)
    action = rng.randrange(6)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[rng.choice(("", "x", "name", "digest"))] = holder.pop(key)
    elif action == 2 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif action == 3:
        return _nested(value, holder, key, rng)
    elif action == 4 and type(holder[key]) is int:
        holder[key] += rng.choice((-1, 1, 7, 1 << 20))
    else:
        holder[key] = copy.deepcopy(rng.choice(_VALUES))
    return json.dumps(value).encode()


def _nested(value: Any, holder: Any, key: Any, rng: random.Random) -> bytes:
    """Something nested 50 to 100,000 deep in the place of a value."""
    depth = rng.choice((50, 99, 101, 900, 1100, DEEP))
    holder[key] = "@deep@"
    left, right = rng.choice((("[", "]"), ('{"a":', "}")))
    inner = left * depth + "1" + right * depth * rng.randrange(2)
    return json.dumps(value).replace('"@deep@"', inner, 1).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])
    return found


def _zip(data: bytes, rng: random.Random) -> bytes:
    """Damage inside a member, under a checksum that fits."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # an earlier step hit the archive itself
        return _flip(data, rng)
    at = rng.randrange(len(members)) if members else -1
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for index, (name, content) in enumerate(members):
            if index == at:
                if rng.random() < 0.05:
                    continue
                if rng.random() < 0.05:
                    name += "x"
                inside = "json" if name.endswith(".json") else "bytes"
                content = mutated(content, inside, rng)
            archive.writestr(name, content)
    return target.getvalue()


_STEPS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": _flip, "cut": _cut, "delete": _delete, "repeat": _repeat, "zero": _zero,
    "noise": _noise, "lines": _lines, "json": _json, "zip": _zip,
}  # fmt: skip
_BYTES = ["flip", "flip", "flip", "cut", "delete", "repeat", "zero", "noise"]
_KINDS = {
    "bytes": _BYTES,
    "json": [*_BYTES, *["json"] * 12],
    "lines": [*_BYTES, *["lines"] * 4],
    "zip": [*_BYTES, *["zip"] * 12],
}
