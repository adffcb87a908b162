"""Golden files, and one small network that several rooms' tests build on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tvm_mpq.deployment import Deployment

# Reports fit the terminal; here they show every column.
os.environ["COLUMNS"] = "200"

GOLDEN = Path(__file__).with_name("golden")

# The same examples in every run; ``pytest --hypothesis-profile=default`` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing"
    )


@pytest.fixture()
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)``: ``text`` must be that of tests/golden/<name>."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text)
            return
        assert path.is_file(), f"no golden file {name}; run pytest --update-golden and look at it"
        assert path.read_text() == text, f"{name} changed; pytest --update-golden, git diff"

    return compare


@pytest.fixture(scope="session")
def deployment() -> Deployment:
    """SmallNet in 4-bit activations and 8/4/2-bit weights, linked for the STM32H743."""
    from dataclasses import replace

    from tests.relay_passes.networks import calibrated_small_net, plan_of
    from tvm_mpq.builder import build

    model = calibrated_small_net()
    plan = plan_of(model.module, activations=4, weights=8)
    weights = dict(zip(plan.weights, (8, 4, 2, 4, 8), strict=True))
    return build(model, "stm32h7", plan=replace(plan, weights=weights))
