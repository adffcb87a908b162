"""The ablation ends at what ``reconstruct`` does by default."""

from __future__ import annotations

import pytest

from benchmarks.ablation import NOTHING, STEPS
from tvm_mpq.quant.reconstruct import ReconstructionOptions

pytestmark = pytest.mark.null


def test_every_step_changes_something_and_all_together_are_the_defaults() -> None:
    options = dict(NOTHING)
    for name, added in STEPS:
        assert any(options[key] != value for key, value in added.items()), name
        options |= added
    assert ReconstructionOptions(**options) == ReconstructionOptions()
