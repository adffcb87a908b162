"""One row a step, whatever interrupted a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_mpq.quant.metrics import keep_metrics

pytestmark = pytest.mark.null

HEADING = "epoch,step,loss,rate,seconds"
ROWS = [f"{epoch},{step},0.5,0.1,1.0" for epoch in range(3) for step in range(1, 5)]


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (1, 0), (1, 3), (2, 4), (3, 0)])
@pytest.mark.parametrize("end", ["", "2,4,0.5", "2,5,0.5,0.1,", "\0" * 99, "2,9,x,0.1,1.0"])
def test_rows_after_the_checkpoint_are_dropped(
    tmp_path: Path, epoch: int, step: int, end: str
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("\r\n".join([HEADING, *ROWS, end]))
    keep_metrics(path, epoch, step)
    assert path.read_text().splitlines() == [HEADING, *ROWS[: epoch * 4 + step]]


def test_without_a_checkpoint_nothing_is_done(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for text in ("\r\n".join([HEADING, *ROWS]), "", "\0\0", "half a hea"):
        path.write_text(text)
        keep_metrics(path, 0, 0)
        assert not path.exists()
