"""``python -m tvm_mpq.quant.train`` on the demo network: a run, its files, the user's mistakes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks.train_demo import load_weights
from tvm_mpq.quant.result import QuantizationResult
from tvm_mpq.quant.train import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    generator = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / "data" / label).mkdir(parents=True)
        for i in range(12):
            pixels = generator.integers(0, 256, (40, 40), np.uint8)
            Image.fromarray(pixels).save(folder / "data" / label / f"{i}.png")
    program = torch.export.export(load_weights(), (torch.zeros(1, 1, 32, 32),))
    torch.export.save(program, folder / "model.pt2")
    return folder


def run(files: Path, *options: str) -> tuple[int, str]:
    command = [str(files / "model.pt2"), "--data", str(files / "data"), "--input-range", "0,1"]
    command += ["-o", str(files / "run"), "--epochs", "1", "--batch", "8", *options]
    done = CliRunner().invoke(main, command)
    return done.exit_code, done.output


def test_a_run_leaves_a_result_and_its_metrics(files: Path) -> None:
    code, text = run(files, "--flash", "90kB", "--ram", "12kB", "--distillation", "1")
    assert code == 0, text
    result = QuantizationResult.load(files / "run" / "quantization.npz")
    assert result.rounding == "floor" and result.method["retrained"]
    assert len((files / "run" / "metrics.csv").read_text().splitlines()) == 1 + 3
    assert (files / "run" / "checkpoint.pt").exists()


def test_random_views_of_larger_images(files: Path, tmp_path: Path) -> None:
    budgets = ("--flash", "90kB", "--ram", "12kB", "-o", str(tmp_path), "--views")
    code, text = run(files, *budgets, "--distillation", "1", "--blended", "0.5")
    assert code == 0, text
    assert (tmp_path / "quantization.npz").exists()
    code, text = run(files, *budgets, "--blended", "0.5")
    assert code == 2 and "--blended needs --distillation 1" in text
    code, text = run(files, "--flash", "90kB", "--ram", "12kB", "--blended", "0.5")
    assert code == 2 and "and --views" in text


def test_the_rate_may_fall_along_a_cosine(files: Path, tmp_path: Path) -> None:
    options = ("--flash", "90kB", "--ram", "12kB", "-o", str(tmp_path), "--epochs", "2")
    code, text = run(files, *options, "--schedule", "cosine")
    assert code == 2 and "give --rate" in text
    code, text = run(files, *options, "--schedule", "cosine", "--rate", "0.01")
    assert code == 0, text
    with (tmp_path / "metrics.csv").open(newline="") as lines:
        rates = {row["epoch"]: float(row["rate"]) for row in csv.DictReader(lines)}
    assert rates == pytest.approx({"0": 0.0085355, "1": 0.0014645}, rel=1e-4)


def test_the_first_layers_are_retrained_by_stages(files: Path, tmp_path: Path) -> None:
    names, result = [], None
    jitter = ("--view-size", "24", "--zoom", "0.5", "--colour", "0.3")
    for stage, until in enumerate(("conv2d_0", "conv2d_2")):
        output = tmp_path / str(stage)
        options = ["--distillation", "1", "--until", until, "-o", str(output)]
        start = ("--start", str(result)) if result else ("--flash", "90kB", "--ram", "12kB")
        code, text = run(files, *options, *start, "--views", *jitter)
        assert code == 0, text
        result = output / "quantization.npz"
        names.append(list(QuantizationResult.load(result).layers))
    assert names[0] == names[1] and len(names[0]) > 3
    code, text = run(files, "--start", str(result), "--until", "conv9", "-o", str(tmp_path / "2"))
    assert code == 2 and "until 'conv9'; expected one of ['conv2d_0'" in text
    code, text = run(files, "--start", str(result), "--view-size", "24")
    assert code == 2 and "--view-size needs --views" in text
    code, text = run(files, "--start", str(result), "--colour", "0.3")
    assert code == 2 and "--colour needs --views" in text


def test_missing_budgets_are_told(files: Path) -> None:
    code, text = run(files)
    assert code == 2 and "give --start, --plan, or both --flash and --ram" in text


def test_damaged_files_of_a_run_are_named(files: Path, tmp_path: Path) -> None:
    options = ("-o", str(tmp_path))
    code, text = run(files, *options, "--plan", str(tmp_path / "none.json"))
    assert code == 2 and "none.json: no such file" in text
    assert run(files, *options, "--flash", "90kB", "--ram", "12kB")[0] == 0
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\x80\x04K\x01.", whole[:500] + whole[501:]):
        path.write_bytes(damaged)
        code, text = run(files, *options, "--flash", "90kB", "--ram", "12kB")
        assert code == 2 and "checkpoint.pt: not a checkpoint of a training" in text
    torch.save({"epoch": 1}, path)
    code, text = run(files, *options, "--flash", "90kB", "--ram", "12kB")
    assert code == 2 and "checkpoint.pt: not a checkpoint of a training" in text
    state = torch.load(path.parent / "checkpoint.pt")
    assert state == {"epoch": 1}  # left as it was
