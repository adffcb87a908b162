"""Tuning a deployment: faster, the same bits, and nothing lost when it goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tvm_mpq.builder import rebuild
from tvm_mpq.cli import main
from tvm_mpq.deployment import Deployment
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.choose import candidates
from tvm_mpq.kernels.tuned import TunedRecord, TunedTable
from tvm_mpq.recipe import MODULE_FILE, RECIPE_FILE, Recipe
from tvm_mpq.schedule.space import canonical


def slow_table(deployment: Deployment) -> TunedTable:
    """Records that name the last candidate, the plain kernel, for every layer."""
    assert deployment.integer is not None
    layers = [canonical(step.spec) for step in deployment.integer.program.steps]
    found = [candidates(layer, deployment.target) for layer in layers]
    return TunedTable(TunedRecord.of(specs[-1], 1) for specs in found if len(specs) > 1)


@pytest.fixture(scope="module")
def slow(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network built with its slowest kernels."""
    folder = tmp_path_factory.mktemp("tune") / "out"
    built = rebuild(deployment.folder, deployment.target, slow_table(deployment))
    built.save(folder)
    return folder


@pytest.mark.emu
def test_a_rebuilt_network_has_other_kernels_and_the_same_bits(
    deployment: Deployment, slow: Path
) -> None:
    shape = tuple(deployment.description["input_shape"])
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    other = Deployment.load(slow)
    assert [x["kernel"] for x in other.description["layers"]] != [
        x["kernel"] for x in deployment.description["layers"]
    ]
    assert np.array_equal(other.run(image), deployment.run(image))
    assert other.description["plan"] == deployment.description["plan"]


@pytest.mark.emu
def test_tune_command_makes_a_slow_network_fast(
    deployment: Deployment, slow: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    Deployment.load(slow).save(out)
    arguments = ["tune", str(out), "--trials", "2", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    tuned = Deployment.load(out)
    assert found["adopted"] and found["after"] < found["before"] == profiled(slow)
    assert found["after"] == tuned.profile().cycles
    assert found["measured"] > 0 and not found["failures"] and not found["stopped"]
    kernels = [layer["kernel"] for layer in tuned.description["layers"]]
    assert kernels == [layer["after_kernel"] for layer in found["layers"]]
    shape = tuple(deployment.description["input_shape"])
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(tuned.run(image), deployment.run(image))
    assert TunedTable.load(out / "tuned.json").records

    again = json.loads(CliRunner().invoke(main, arguments).stdout)
    assert again["measured"] == 0 and again["known"] == found["measured"]
    assert not again["adopted"] and again["after"] == again["before"] == found["after"]


def profiled(folder: Path) -> int:
    return Deployment.load(folder).profile().cycles


@pytest.mark.emu
def test_recipe_survives_saving(deployment: Deployment) -> None:
    recipe, module = Recipe.load(deployment.folder)
    assert deployment.integer is not None and recipe.plan == deployment.integer.plan
    assert recipe.input_spec == deployment.integer.input_spec
    assert str(module.script()) == str(deployment.integer.module.script())


@pytest.mark.emu
@pytest.mark.parametrize("name", [RECIPE_FILE, MODULE_FILE])
@pytest.mark.parametrize("damage", ["missing", "half"])
def test_a_damaged_recipe_is_named(slow: Path, tmp_path: Path, name: str, damage: str) -> None:
    out = tmp_path / "out"
    Deployment.load(slow).save(out)
    path = out / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidValueError, match="compile the network again"):
        Deployment.load(out).tune(1)


@pytest.mark.null
def test_the_host_has_no_cycles(tmp_path: Path) -> None:
    (tmp_path / "deployment.json").write_text('{"target": {"name": "host"}}')
    result = CliRunner().invoke(main, ["tune", str(tmp_path)])
    assert result.exit_code == 2 and "target host: there are no cycles to tune" in result.stderr
