"""Progress on stderr for anything that takes more than a moment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


class Meter:
    """One line that shows how far a job is, how long it will take, and what it has found."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def advance(self, text: str, steps: int = 1) -> None:
        """``steps`` are done; ``text`` is what to show beside the bar."""
        self._bar.update(self._task, advance=steps, description=text)


@contextmanager
def meter(total: int, description: str) -> Iterator[Meter]:
    """A meter of ``total`` steps on stderr; silent when it is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(file=sys.stderr)
    columns = (BarColumn(), MofNCompleteColumn(), Remaining(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield Meter(bar, bar.add_task(description, total=total))


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Iterate over ``items`` with a progress bar on stderr; silent when it is no terminal."""
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(file=sys.stderr)
    return rich_track(
        items, description, console=console, transient=True, disable=not console.is_terminal
    )
