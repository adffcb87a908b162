"""Tables that fit the terminal: columns that matter least are left out before anything wraps."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Where there is no terminal, and no COLUMNS in the environment.
_WIDTH = 80


def plain_table(title: str) -> Table:
    """A table without a frame, as all reports use."""
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def tables_text(tables: Iterable[tuple[Table, Sequence[str]]]) -> str:
    """Tables one under the other, each with the headings that may be left out, in order.

    What was left out is told under its table.
    """
    from rich.console import Console

    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table, optional in tables:
        fitted, dropped = _fitted(table, optional, console)
        console.print(fitted)
        if dropped:
            console.print(f"(no room for: {', '.join(dropped)}; --json has all)\n", soft_wrap=True)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _fitted(table: Table, optional: Sequence[str], console: Console) -> tuple[Table, list[str]]:
    """The table without as many of its ``optional`` columns as must go, and their headings."""
    from rich.measure import Measurement

    unbounded = console.options.update(width=1 << 16)
    dropped: list[str] = []
    for heading in optional:
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
        table = _without(table, heading)
        dropped.append(heading)
    return table, dropped


def _without(table: Table, heading: str) -> Table:
    kept = [column for column in table.columns if column.header != heading]
    fewer = plain_table(str(table.title))
    for column in kept:
        fewer.add_column(column.header, justify=column.justify)
    cells = zip(*(column.cells for column in kept), strict=True)
    for row, values in zip(table.rows, cells, strict=True):
        fewer.add_row(*values, end_section=row.end_section)
    return fewer
