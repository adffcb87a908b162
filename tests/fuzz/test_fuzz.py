"""Damaged files are refused in words: no traceback, crash, hang or half an output."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.engine import Figures, fuzz
from tests.fuzz.formats import FORMATS, write_examples
from tvm_mpq.deployment import Deployment

SAMPLE, ALL = 600, 20_000


@pytest.fixture(scope="module")
def examples(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "examples"
    write_examples(folder, deployment)
    return folder


def check(figures: Figures, mutations: int) -> None:
    print(f"\n{figures}")
    assert figures.wrong == [], str(figures)
    assert sum(sum(counts.values()) for counts in figures.counts.values()) >= mutations
    # A reader that takes everything was not tried; but two drop what is damaged.
    many = {name for name, counts in figures.counts.items() if sum(counts.values()) > 99}
    refused = {name for name in many if figures.counts[name]["refused"]}
    assert many - refused <= {"tuning database", "metrics.csv"}


@pytest.mark.emu
def test_a_sample_of_mutations(examples: Path, tmp_path: Path) -> None:
    check(fuzz(examples, tmp_path / "work", SAMPLE), SAMPLE)


@pytest.mark.emu
def test_whole_examples_are_read(examples: Path) -> None:
    for form in FORMATS:
        form.read(examples)


@pytest.mark.emu
@pytest.mark.slow
def test_every_mutation(examples: Path, tmp_path: Path) -> None:
    check(fuzz(examples, tmp_path / "work", ALL, first=1000), ALL)
