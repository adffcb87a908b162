"""The command line: what it prints, and one clear message with exit status 2 for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from tests.relay_passes.networks import SHAPE, SmallNet, random_images, small_net
from tvm_mpq.cli import main


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.pt2, train.pt2, broken.pt2 and images/."""
    folder = tmp_path_factory.mktemp("cli")
    example = (torch.zeros(1, SHAPE[2], *SHAPE[:2]),)
    torch.export.save(torch.export.export(small_net(), example), folder / "model.pt2")
    torch.export.save(torch.export.export(SmallNet().train(), example), folder / "train.pt2")
    (folder / "broken.pt2").write_bytes(b"PK\x03\x04 half a file")
    for name in ("images", "empty", "bad_images"):
        (folder / name).mkdir()
    for i, image in enumerate(random_images(4)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    (folder / "bad_images" / "no.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="session")
def compiled(inputs: Path) -> tuple[Path, Result]:
    """The folder that ``compile`` wrote, and what it printed."""
    out = inputs / "out"
    result = invoke(
        "compile", inputs / "model.pt2", "--flash", "2MB", "--ram", "512kB",
        "--input-range", "-1,1", "--calibration", inputs / "images", "-o", out, "--json",
    )  # fmt: skip
    return out, result


@pytest.mark.emu
def test_compile_prints_one_json_object(compiled: tuple[Path, Result]) -> None:
    out, result = compiled
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["bits"]["weights"] == "88888" and content["elf"]["flash"] > 1000
    assert (out / "project" / "build" / "firmware.elf").is_file()
    assert (out / "project" / "model" / "metadata.json").is_file()


@pytest.mark.cc
def test_module_name(inputs: Path) -> None:
    arguments = ["compile", inputs / "model.pt2", "--target", "host", "--calibration"]
    arguments += [inputs / "images", "--input-range", "-1,1", "-o", inputs / "named", "--name"]
    wrong = invoke(*arguments, "Größe")
    assert wrong.exit_code == 2 and "module name 'Größe': expected" in wrong.stderr
    assert not (inputs / "named").exists()
    assert invoke(*arguments, "int").exit_code == 0
    assert (inputs / "named/model/codegen/host/include/tvmgen_int.h").is_file()


@pytest.mark.emu
def test_report(compiled: tuple[Path, Result]) -> None:
    out, first = compiled
    assert json.loads(invoke("report", out, "--json").stdout) == json.loads(first.stdout)
    text = invoke("report", out)
    assert text.exit_code == 0 and "conv2d_0" in text.stdout and "Memory, bytes" in text.stdout


@pytest.mark.emu
def test_run_ranks_classes(compiled: tuple[Path, Result], inputs: Path) -> None:
    out, _ = compiled
    images = sorted((inputs / "images").iterdir())[:2]
    real = small_net()(torch.from_numpy(random_images(4)[:2] / np.float32(127.5) - 1)
                       .permute(0, 3, 1, 2))  # fmt: skip
    outputs = []
    for place in ("host", "emulator"):
        result = invoke("run", out, *images, "--on", place, "--top", 3, "--json")
        assert result.exit_code == 0, result.output
        content = json.loads(result.stdout)
        assert content["on"] == place
        outputs.append(content["results"])
    assert outputs[0] == outputs[1]
    for entry, image, row in zip(outputs[0], images, real.tolist(), strict=True):
        assert entry["image"] == str(image) and len(entry["top"]) == 3
        best = entry["top"][0]
        assert best["class"] == int(np.argmax(row))
        assert best["logit"] == pytest.approx(max(row), abs=0.1)
    text = invoke("run", out, images[0])
    assert f"{outputs[0][0]['top'][0]['class']} (" in text.stdout


def compile_with(inputs: Path, **changes: object) -> Result:
    options = {"--calibration": inputs / "images", "-o": inputs / "never"}
    options |= {"--input-range": "-1,1"} | changes
    model = options.pop("model", inputs / "model.pt2")
    arguments = [value for option in options.items() for value in option]
    return invoke("compile", model, *arguments)


def check_refusal(result: Result, words: list[str]) -> None:
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)  # nothing else escaped
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert all(word in result.stderr for word in words), result.stderr


@pytest.mark.null
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "/no/model.pt2"}, ["/no/model.pt2: no such file"]),
        ({"model": "broken.pt2"}, ["broken.pt2: not a torch exported program", "export.save"]),
        ({"model": "train.pt2"}, ["eval()"]),
        ({"--target": "stm32f9"}, ["'stm32f9'", "stm32h7"]),
        ({"--flash": "much"}, ["'much'", "2MB"]),
        ({"--flash": "9MB"}, ["9216000", "2097152"]),
        ({"--ram": "-1"}, ["'-1'"]),
        ({"--input-range": "0,2"}, ["'0,2'", "-1,1, 0,1 and 0,255"]),
        ({"--resize": "crop:2"}, ["'crop:2'", "crop:FRACTION"]),
        ({"--calibration": "nowhere"}, ["nowhere: no such folder"]),
        ({"--calibration": "empty"}, ["empty: no images", ".png"]),
        ({"--calibration": "bad_images"}, ["no.png", "cannot identify"]),
        ({"--rounding": "up"}, ["'up'", "nearest"]),
        ({"--range-method": "median"}, ["'median'", "mse"]),
        ({"--policy": "guess"}, ["'guess'", "sensitivity"]),
        ({"--widths": "8,4,3"}, ["(8, 4, 3)", "(8, 4, 3, 2)"]),
        ({"--latency": "1000"}, ["latency with policy 'paper'", "'sensitivity'"]),
        ({"--multipliers": "16,32"}, ["(16, 32)", "(32, 16)"]),
        ({"--multipliers": "small"}, ["'small'", "32,16"]),
        ({"--widths": "narrow"}, ["'narrow'", "8,4,3,2"]),
        ({"--quantization": "nowhere.npz"}, ["nowhere.npz: no such quantization"]),
        ({"-o": "images"}, ["images exists"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_compile_refuses(inputs: Path, changes: dict[str, str], words: list[str]) -> None:
    inside = ("model", "--calibration", "-o")
    full = {k: inputs / v if k in inside else v for k, v in changes.items()}
    check_refusal(compile_with(inputs, **full), words)
    assert not (inputs / "never").exists()


@pytest.mark.cc
def test_compile_by_sensitivity_with_reconstruction(inputs: Path) -> None:
    out = inputs / "reconstructed"
    options = {"--policy": "sensitivity", "--target": "host", "--input-range": "-1,1", "-o": out}
    model, images = inputs / "model.pt2", inputs / "images"
    chosen = [value for option in options.items() for value in option]
    result = invoke("compile", model, "--calibration", images, "--reconstruct", "--json", *chosen)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["bits"]["weights"] == "88888"
    assert (out / "deployment.json").is_file()


@pytest.mark.emu
def test_compile_that_does_not_fit(inputs: Path) -> None:
    result = compile_with(inputs, **{"--flash": "6kB"})
    check_refusal(result, ["flash budget", "6000 allowed", "over", "largest: "])
    assert not (inputs / "never").exists()


@pytest.mark.null
def test_run_and_report_refuse(inputs: Path, tmp_path: Path) -> None:
    for command in (["run", tmp_path, "a.png"], ["report", tmp_path], ["report", tmp_path / "x"]):
        check_refusal(invoke(*command), ["no deployment.json", "tvm-mpq compile -o"])
    (tmp_path / "deployment.json").write_text('{"target": {"name": "host"}}')
    check_refusal(invoke("report", tmp_path), ["metadata.json: damaged"])
    check_refusal(invoke("run", tmp_path), ["Missing argument"])
    check_refusal(invoke("run", tmp_path, "a.png", "--top", "0"), ["0 is not in the range"])


@pytest.mark.null
def test_names_of_any_length_are_cut(tmp_path: Path) -> None:
    (tmp_path / "deployment.json").write_text(json.dumps({"target": {"name": "x" * 5000}}))
    result = invoke("report", tmp_path)
    check_refusal(result, ["no such chip", "x" * 100 + "x..."])
    assert len(result.stderr) < 1000


@pytest.mark.emu
def test_run_refuses_bad_images(compiled: tuple[Path, Result], inputs: Path) -> None:
    out, _ = compiled
    check_refusal(invoke("run", out, inputs / "none.png"), ["none.png"])
    check_refusal(invoke("run", out, inputs / "bad_images" / "no.png"), ["cannot identify"])
    check_refusal(invoke("run", out, inputs / "images"), ["images"])
    check_refusal(invoke("run", out, inputs / "images" / "0.png", "--on", "moon"), ["'moon'"])


@pytest.mark.null
def test_help_and_version() -> None:
    assert "compile" in invoke("-h").stdout
    assert "0.1.0" in invoke("--version").stdout


@pytest.mark.null
def test_import_is_quick_and_loads_neither_torch_nor_tvm() -> None:
    program = (
        "import sys, time; start = time.perf_counter(); import tvm_mpq.cli; tvm_mpq.Target;"
        "print(time.perf_counter() - start, [m for m in ('torch', 'tvm', 'tvm_ffi', 'rich')"
        " if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        taken, _, loaded = output.stdout.partition(" ")
        assert loaded.strip() == "[]", output.stderr
        seconds.append(float(taken))
    assert min(seconds) < 0.5


@pytest.mark.null
def test_an_unknown_name_is_an_attribute_error() -> None:
    import tvm_mpq

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tvm_mpq.nonsense
