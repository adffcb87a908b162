"""The accuracy table: row definitions and the divergence; rows themselves need the shared data."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.accuracy import divergence
from benchmarks.accuracy_rows import ROWS
from tvm_mpq.target import parse_bytes

pytestmark = pytest.mark.null


@pytest.mark.parametrize("name", ROWS)
def test_rows_name_their_budgets_and_methods(name: str) -> None:
    row = ROWS[name]
    assert row.method in ("nearest", "reconstruct", "qat")
    assert row.policy in ("paper", "sensitivity", "int8", "all4", "all4out4", "pointwise4")
    assert (row.policy in ("paper", "sensitivity")) == bool(row.flash and row.ram)
    for size in filter(None, (row.flash, row.ram)):
        assert parse_bytes(size) > 0 and f"-{size}" in name
    assert name.endswith("-qat") == (row.method == "qat")
    assert (row.method == "qat") == bool(row.stages)
    assert not (row.nearest and row.stages)


def test_divergence_of_known_distributions() -> None:
    teacher = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    assert divergence(teacher, teacher + 7.0) == pytest.approx(0.0, abs=1e-12)
    student = np.log(np.array([[0.25, 0.75], [0.9, 0.1]]))
    wanted = 0.5 * (0.5 * np.log(2.0) + 0.5 * np.log(0.5 / 0.75))
    assert divergence(teacher, student) == pytest.approx(wanted)
