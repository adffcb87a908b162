"""build(): one network on numpy, host and emulator; budgets, saving, and every refusal."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from relay_passes.evaluate import evaluate_integer
from tests.relay_passes.networks import (
    calibrated_small_net,
    imported,
    plan_of,
    random_images,
    real_images,
    small_net,
)
from tvm_mpq import Deployment, Target, build
from tvm_mpq.errors import CalibrationError, DoesNotFitError, InvalidValueError, MpqError


@pytest.mark.emu
def test_numpy_host_and_emulator_give_the_same_bits(deployment: Deployment) -> None:
    images = random_images(3, seed=7)
    assert deployment.integer is not None
    expected = np.stack([evaluate_integer(deployment.integer.module, image) for image in images])
    assert deployment.run(images, on="host").tolist() == expected.tolist()
    assert deployment.run(images, on="emulator").tolist() == expected.tolist()
    assert deployment.run(images[0]).tolist() == expected[0].tolist()
    assert len({tuple(row) for row in expected.tolist()}) == 3  # the images do differ


@pytest.mark.emu
def test_what_is_reported_is_what_was_linked(deployment: Deployment) -> None:
    report, firmware = deployment.report().to_json(), deployment.firmware
    assert report["bits"] == {"activations": "44448", "weights": "84248"}
    assert report["elf"]["flash"] == firmware.flash_bytes <= Target("stm32h7").flash
    assert report["arena_bytes"] == firmware.arena_bytes
    assert deployment.arena is not None
    assert 0 <= firmware.arena_bytes - max(deployment.arena.sizes.values()) < 32
    constants = sum(layer["weight_bytes"] + layer["side_bytes"] for layer in report["layers"])
    assert constants <= report["sections"][".tvm_constants"] < constants + 64
    assert report["macs"] == sum(layer["macs"] for layer in report["layers"]) == 19_273
    text = str(deployment.report())
    assert "conv3x3s2_x8w8y4_p4c2" in text and "Sections of the ELF" in text


@pytest.mark.emu
def test_narrow_multipliers_give_smaller_firmware_of_the_same_semantics() -> None:
    """Two bytes a channel fewer (a word holds two shifts), and numpy, host and emulator agree."""
    model = calibrated_small_net()
    wide, narrow = (
        build(model, Target("stm32h7"), multipliers=(bits,), name=f"m{bits}") for bits in (32, 16)
    )
    layers = zip(wide.description["layers"], narrow.description["layers"], strict=True)
    for before, after in layers:
        saved = 4 * -(-before["output"][0] // 2) if before["w_bits"] else 0
        assert before["side_bytes"] - after["side_bytes"] == saved
        assert after["kernel"] == before["kernel"] + "_m16" * bool(saved)
    assert narrow.description["plan"]["ro_bytes"] < wide.description["plan"]["ro_bytes"]
    assert narrow.firmware.flash_bytes < wide.firmware.flash_bytes
    images = random_images(2, seed=7)
    assert narrow.integer is not None
    expected = [evaluate_integer(narrow.integer.module, image).tolist() for image in images]
    assert narrow.run(images, on="host").tolist() == expected
    assert narrow.run(images, on="emulator").tolist() == expected


@pytest.mark.emu
def test_linked_model_cuts_what_two_tensors_would_keep() -> None:
    """The arena of the linked program is larger than two tensors: the search must cut more."""
    model = calibrated_small_net()
    roomy = build(model, Target("stm32h7"), memory_model="linked", name="roomy")
    assert set(roomy.description["plan"]["activations"].values()) == {8}
    needed = roomy.firmware.ram_bytes
    target = Target("stm32h7", ram=needed - 200)
    tight = build(model, target, memory_model="linked", name="tight")
    assert tight.firmware.ram_bytes <= needed - 200
    assert min(tight.description["plan"]["activations"].values()) < 8
    with pytest.raises(DoesNotFitError) as caught:
        build(model, Target("stm32h7", ram=needed - 200), memory_model="two-tensor")
    assert "ram budget" in str(caught.value) and "over" in str(caught.value)


@pytest.mark.emu
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"flash": 1000}, ["bytes"]),
        ({"ram": 500}, ["bytes"]),
        ({"flash": 6000}, ["flash budget", "6000 allowed", "over", "largest: "]),
        ({"scratch": 100}, ["layer conv2d_0", "scratch", "limit of 100"]),
    ],
)
def test_budgets_too_small(limits: dict[str, int], words: list[str]) -> None:
    with pytest.raises(DoesNotFitError) as caught:
        build(calibrated_small_net(), Target("stm32h7", **limits))
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.emu
def test_input_of_the_caller(deployment: Deployment) -> None:
    """Not in the arena, not written, and the same logits."""
    model = calibrated_small_net()
    assert deployment.integer is not None and deployment.arena is not None
    plan = deployment.integer.plan
    caller = build(model, "stm32h7", plan=plan, input_buffer="caller")
    images = random_images(2, seed=8)
    expected = deployment.run(images).tolist()
    assert caller.run(images, on="host").tolist() == expected
    assert caller.run(images, on="emulator").tolist() == expected
    assert caller.arena is not None
    assert "x" in deployment.arena.offsets and "x" not in caller.arena.offsets
    header = (caller.model_folder / "codegen/host/include/tvmgen_default.h").read_text()
    assert "stays as is" in header


@pytest.mark.emu
def test_save_load_export(deployment: Deployment, tmp_path: Path) -> None:
    saved = deployment.save(tmp_path / "deep" / "out")
    loaded = Deployment.load(saved.folder)
    image = random_images(1)
    assert loaded.run(image).tolist() == deployment.run(image).tolist()
    assert loaded.target == deployment.target and loaded.integer is None
    assert loaded.report().to_json() == deployment.report().to_json()
    archive = loaded.export_library(tmp_path / "new" / "model.tar")
    folder = loaded.export_library(tmp_path / "new" / "model")
    with tarfile.open(archive) as tar:
        names = {name.removeprefix("./") for name in tar.getnames()}
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == files >= {"metadata.json", "src/default.relax", "parameters/default.params"}
    for write in (deployment.save, deployment.export_library):
        with pytest.raises(InvalidValueError, match="exists; give a new"):
            write(folder)


@pytest.mark.emu
def test_nothing_half_written_is_left(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    monkeypatch.setattr("tvm_mpq.codegen.archive.tarfile.open", full)
    for write, name in (
        (deployment.save, "saved"),
        (deployment.export_library, "folder"),
        (deployment.export_library, "archive.tar"),
    ):
        with pytest.raises(OSError, match="no space"):
            write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cc
def test_host_target_is_close_to_the_float_network() -> None:
    host = build(calibrated_small_net(), "host")
    images = random_images(6, seed=3)
    logits = host.run(images) * host.description["logits_scale"]
    real = small_net()(real_images(images)).detach().numpy()
    assert np.abs(logits - real).max() < 0.03 * np.abs(real).max()
    assert host.report().to_json()["bits"]["weights"] == "88888"
    with pytest.raises(InvalidValueError, match="no firmware"):
        host.run(images, on="emulator")


@pytest.mark.cc
@pytest.mark.parametrize(
    ("images", "on", "message"),
    [
        (random_images(1).astype(np.float32), "host", r"float32 .*uint8 \[N, 13, 14, 3\]"),
        (random_images(1)[:, :9], "host", r"\[1, 9, 14, 3\]; expected"),
        (random_images(1), "moon", "'moon': allowed are"),
    ],
)
def test_run_refuses(images: np.ndarray, on: str, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        build(calibrated_small_net(), "host").run(images, on=on)


@pytest.mark.null
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "guess"}, "policy 'guess': allowed are paper, sensitivity"),
        ({"memory_model": "none"}, "memory_model 'none'"),
        ({"rounding": "up"}, "rounding 'up': allowed are nearest, floor"),
        ({"range_method": "median"}, "range_method 'median': allowed are mse, max"),
        ({"input_buffer": "stack"}, "input_buffer 'stack'"),
        ({"name": "My Net"}, "module name 'My Net'.*lower-case"),
        ({"target": "stm32f4"}, "target 'stm32f4'"),
    ],
)
def test_bad_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        build(calibrated_small_net(), **options)  # type: ignore[arg-type]


@pytest.mark.null
@pytest.mark.parametrize("calibration", [None, random_images(2).astype(np.int32)])
def test_calibration_is_checked_before_anything_runs(calibration: np.ndarray) -> None:
    with pytest.raises(CalibrationError, match=r"uint8 \[N, 13, 14, 3\]"):
        build(imported(small_net()), "host", calibration=calibration)


@pytest.mark.null
def test_plan_of_another_network() -> None:
    plan = plan_of(calibrated_small_net().module)
    del plan.weights["dense_8"]
    with pytest.raises(InvalidValueError, match="no width for layer dense_8"):
        build(calibrated_small_net(), "host", plan=plan)


@pytest.mark.null
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no deployment.json; expected a folder made by tvm-mpq compile"),
        ({"deployment.json": "{"}, "damaged"),
        ({"deployment.json": '{"target": {"name": "stm32f4"}}'}, "stm32f4"),
        ({"deployment.json": '{"target": {"name": "host"}}'}, "metadata.json: damaged"),
        (
            {"deployment.json": '{"target": {"name": "host"}}', "model/metadata.json": "[]"},
            "metadata.json: damaged",
        ),
    ],
)
def test_damaged_folders(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(MpqError, match=message):
        Deployment.load(tmp_path).report()


@pytest.mark.null
def test_description_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "deployment.json").write_text('{"target": {"name": "host"}}')
    content = {"version": 7, "modules": {"default": {"tvm_mpq": {"description_version": 99}}}}
    (tmp_path / "model" / "metadata.json").write_text(json.dumps(content))
    with pytest.raises(InvalidValueError, match="version 99.*compile the network again"):
        Deployment.load(tmp_path).report()
