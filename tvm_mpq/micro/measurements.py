"""What tuning has measured: one line a measurement, each with a checksum of its own.

MetaSchedule's own database is serialized TVM modules, which TVM trusts when it reads them.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import convert, parse_json, read_bytes, write_bytes
from tvm_mpq.kernels.spec import KernelSpec

DATABASE_FILE = "database_tuning_record.json"
_log = logging.getLogger(__name__)


class Measurements:
    """The file in ``folder``, which is made; damaged lines are dropped, and the log says so."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / DATABASE_FILE
        self.known: dict[KernelSpec, dict[KernelSpec, int]] = {}
        self._read()

    def add(self, layer: KernelSpec, kernel: KernelSpec, cycles: int) -> None:
        """Keep one measurement, at once."""
        content = {"layer": asdict(layer), "kernel": asdict(kernel), "cycles": cycles}
        self.known.setdefault(layer, {})[kernel] = cycles
        with self._path.open("ab") as file:
            file.write(_line(content))
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        if not self._path.exists():
            return
        lines = read_bytes(self._path).splitlines(keepends=True)
        good = [line for line in lines if self._take(line)]
        if len(good) < len(lines):
            write_bytes(self._path, b"".join(good))
            _log.warning(
                "%s: %d of %d lines dropped: damaged, or of another release",
                self._path,
                len(lines) - len(good),
                len(lines),
            )

    def _take(self, line: bytes) -> bool:
        try:
            content = parse_json(line, "measurement")
            if not isinstance(content, dict) or _line(_without_check(content)) != line:
                return False
            layer = convert(content["layer"], KernelSpec, "layer")
            kernel = convert(content["kernel"], KernelSpec, "kernel")
            cycles = convert(content["cycles"], int, "cycles")
        except (InvalidValueError, KeyError):
            return False
        if cycles > 0:
            self.known.setdefault(layer, {})[kernel] = cycles
        return cycles > 0


def _without_check(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "check"}


def _line(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True)
    return json.dumps(content | {"check": zlib.crc32(text.encode())}).encode() + b"\n"
