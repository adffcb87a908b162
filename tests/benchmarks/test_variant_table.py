"""The epilogues that the table of variants compares give the same codes on the board model."""

from __future__ import annotations

import pytest

from benchmarks.variants import epilogue_instructions


@pytest.mark.emu
def test_multiplying_costs_less_than_searching_thresholds() -> None:
    counts = epilogue_instructions()
    assert 4 < counts["icn"] < 10 < counts["thresholds"] < 60
