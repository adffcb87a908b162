"""The metrics of a training: one row a step, also after it was interrupted and resumed."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tvm_mpq.files import read_bytes, write_text

METRICS_FILE = "metrics.csv"


def keep_metrics(path: Path, epoch: int, step: int) -> None:
    """Keep the rows of steps that are done: those after the last checkpoint will come again."""
    if not path.exists():
        return
    # A killed process leaves half a line; a full disk even zeros.
    text = read_bytes(path).decode(errors="replace").replace("\0", "")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    heading = rows[:1]
    kept = [row for row in rows[1:] if _is_done(row, len(heading[0]), epoch, step)]
    lines = io.StringIO(newline="")
    csv.writer(lines).writerows(heading + kept)
    if kept and "epoch" in heading[0]:
        write_text(path, lines.getvalue())
    else:
        path.unlink()


def _is_done(row: list[str], fields: int, epoch: int, step: int) -> bool:
    try:
        number = (int(row[0]), int(row[1]))
        [float(value) for value in row]
    except (ValueError, IndexError):
        return False
    return len(row) == fields and (number[0] < epoch or (number[0] == epoch and number[1] <= step))
