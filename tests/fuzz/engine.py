"""Runs mutations in a worker, restarts it when it crashes or hangs, and counts."""

from __future__ import annotations

import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.formats import FORMATS, Format

LIMIT_SECONDS = 60.0
START_SECONDS = 300.0


@dataclass
class Figures:
    """What became of the mutations; ``wrong`` names each that was neither read nor refused."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, form: str, number: int, outcome: str) -> None:
        """Count one."""
        self.counts.setdefault(form, Counter())[outcome.partition(" ")[0].rstrip(":")] += 1
        if outcome not in ("read", "refused"):
            self.wrong.append(f"{form} {number}: {outcome}")

    def __str__(self) -> str:
        rows = [f"{'format':24}{'mutations':>10}{'refused':>9}{'read':>7}{'wrong':>7}"]
        total = sum(self.counts.values(), Counter())
        for form, counts in [*self.counts.items(), ("total", total)]:
            every, refused, read = sum(counts.values()), counts["refused"], counts["read"]
            rows.append(f"{form:24}{every:10}{refused:9}{read:7}{every - refused - read:7}")
        return "\n".join(rows + self.wrong[:100])


class _Worker:
    def __init__(self, examples: Path, scratch: Path) -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(examples, scratch)
        command = [sys.executable, "-m", "tests.fuzz.worker", str(scratch)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        started = self._answer(START_SECONDS)
        assert started == "ready", f"the worker did not start: {started}"

    def ask(self, form: str, number: int) -> str:
        """The outcome of one mutation."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{form}\t{number}\n")
        self._process.stdin.flush()
        return self._answer(LIMIT_SECONDS)

    def _answer(self, seconds: float) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            self._process.kill()
            return "hang"
        line = self._process.stdout.readline()
        return line.rstrip("\n") or f"crash: status {self._process.wait()}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def fuzz(
    examples: Path,
    scratch: Path,
    mutations: int,
    first: int = 0,
    formats: Sequence[Format] = FORMATS,
) -> Figures:
    """Try ``mutations`` in all, numbered from ``first`` within each format."""
    figures, worker = Figures(), _Worker(examples, scratch)
    try:
        for form in formats:
            for number in range(first, first + max(1, mutations * form.share // 100)):
                outcome = worker.ask(form.name, number)
                figures.add(form.name, number, outcome)
                if outcome.startswith(("hang", "crash")):
                    worker.close()
                    worker = _Worker(examples, scratch)
    finally:
        worker.close()
    return figures
