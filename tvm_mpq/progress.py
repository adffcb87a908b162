"""Progress on stderr for anything that takes more than a moment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Iterate over ``items`` with a progress bar on stderr; silent when it is no terminal."""
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(file=sys.stderr)
    return rich_track(
        items, description, console=console, transient=True, disable=not console.is_terminal
    )
