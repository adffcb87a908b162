"""Every format that is read: a whole example, and the reader that a command would use."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.relay_passes.networks import SHAPE, calibrated_small_net, small_net
from tvm_mpq.codegen.archive import pack_library
from tvm_mpq.deployment import Deployment
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.tuned import TunedRecord, TunedTable
from tvm_mpq.micro.measurements import DATABASE_FILE, Measurements
from tvm_mpq.quant.checkpoint import Checkpoint, Solved
from tvm_mpq.quant.result import Channels, nearest_result


@dataclass(frozen=True)
class Format:
    """``file`` of the example is damaged as ``kind``; ``share`` of 100 mutations are its."""

    name: str
    file: str
    kind: str
    share: int
    read: Callable[[Path], None]


def write_examples(folder: Path, deployment: Deployment) -> None:
    """One folder with a whole file of every format."""
    deployment.save(folder)
    model = calibrated_small_net()
    assert deployment.integer is not None
    plan = deployment.integer.plan
    result = nearest_result(model.network, plan)
    result.save(folder / "quantization.npz")
    name, layer = next(iter(result.layers.items()))
    solved = Solved(layer, Channels.plain(len(layer.g)), (0.0, 1.0))
    Checkpoint(folder / "layers", "key").write(solved)
    next((folder / "layers").glob("*.npz")).rename(folder / "layer.npz")
    (folder / "layer.txt").write_text(name)
    (folder / "plan.json").write_text(json.dumps(plan.to_json()))
    specs = [step.spec for step in deployment.integer.program.steps]
    TunedTable(TunedRecord.of(s, 9) for s in specs if s.w_bits).save(folder / "tuned.json")
    database = Measurements(folder)
    for spec in specs:
        database.add(spec, spec, 100)
    (folder / "kernel.json").write_text(specs[0].to_json())
    (folder / "damages.json").write_text('{"key": "k", "damage": {"a 4": 0.5, "b 2": 1e-9}}')
    (folder / "metrics.csv").write_bytes(_METRICS)
    (folder / "images.csv").write_text("file,label_0based\na.png,0\nb.png,1\n")
    _write_firmware(folder)
    _write_torch(folder)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8))
    picture.save(folder / "image.png")
    picture.save(folder / "image.jpg")
    pack_library(folder / "project" / "model", folder / "library.tar")


_METRICS = (
    b"epoch,step,loss,rate,seconds\r\n0,1,2.5,0.1,0.0\r\n0,2,2.25,0.1,0.1\r\n1,1,2.0,0.1,0.0\r\n"
)


def _write_firmware(folder: Path) -> None:
    command = ["arm-none-eabi-objcopy", "-O", "ihex", folder / ELF, folder / "firmware.hex"]
    subprocess.run(command, check=True)
    data = (folder / ELF).with_suffix(".bin").read_bytes()
    blocks = [data[at : at + 256] for at in range(0, len(data), 256)]
    with (folder / "firmware.uf2").open("wb") as file:
        for number, block in enumerate(blocks):
            head = (0x0A324655, 0x9E5D5157, 0, 0x08000000 + 256 * number, 256, number, len(blocks))
            file.write(struct.pack("<8I", *head, 0) + block.ljust(476, b"\0"))
            file.write(struct.pack("<I", 0x0AB16F30))


def _write_torch(folder: Path) -> None:
    example = (torch.zeros(1, SHAPE[2], *SHAPE[:2]),)
    torch.export.save(torch.export.export(small_net(), example), folder / "model.pt2")
    weights = {"w": torch.arange(6.0), "codes": torch.zeros(3, dtype=torch.uint8)}
    state = {"recipe": {"epochs": 2}, "epoch": 1, "step": 2, "student": weights, "optimizer": {}}
    torch.save(state, folder / "checkpoint.pt")


def _report(folder: Path) -> None:
    from click.testing import CliRunner

    from tvm_mpq.cli import main

    result = CliRunner().invoke(main, ["report", str(folder), "--json"])
    if result.exit_code not in (0, 2) or not isinstance(result.exception, (SystemExit, type(None))):
        raise result.exception or AssertionError(result.output)
    if result.exit_code == 2:
        if result.stdout or not result.stderr.startswith("tvm-mpq: "):
            raise AssertionError(f"half an output: {result.output}")
        raise InvalidValueError(result.stderr)
    json.loads(result.stdout)


def _image(name: str, folder: Path) -> None:
    from tvm_mpq.emulator.image import load_image

    image = load_image(folder / name, 0x08000000)
    image.location(image.reset_vector()[1])


def _recipe(folder: Path) -> None:
    from tvm_mpq.recipe import Recipe

    Recipe.load(folder)


def _result(folder: Path) -> None:
    from tvm_mpq.quant.result import QuantizationResult

    QuantizationResult.load(folder / "quantization.npz")


def _layer(folder: Path) -> None:
    checkpoint = Checkpoint(folder / "layers", "key")
    name = (folder / "layer.txt").read_text()
    shutil.copyfile(folder / "layer.npz", checkpoint._path(name))
    try:
        assert checkpoint.read(name) is not None
    finally:
        checkpoint._path(name).unlink()


def _plan(folder: Path) -> None:
    from tvm_mpq.quant.train import _plan

    _plan(None, folder / "plan.json", None, None)


def _tuned(folder: Path) -> None:
    from tvm_mpq.kernels.spec import KernelSpec

    layer = KernelSpec.from_json(_KERNEL)
    TunedTable.load(folder / "tuned.json").pick(layer, [layer])


def _measured(folder: Path) -> None:
    before = (folder / DATABASE_FILE).read_bytes().splitlines()
    kept = sum(len(cycles) for cycles in Measurements(folder).known.values())
    after = (folder / DATABASE_FILE).read_bytes().splitlines()
    if not set(after) <= set(before) or kept != len(set(after)):
        raise AssertionError("lines were lost or invented")


def _kernel(folder: Path) -> None:
    from tvm_mpq.files import read_text
    from tvm_mpq.kernels.spec import KernelSpec

    KernelSpec.from_json(read_text(folder / "kernel.json"))


def _damages(folder: Path) -> None:
    from tvm_mpq.quant.sensitivity import read_damages

    read_damages(folder / "damages.json")


def _checkpoint(folder: Path) -> None:
    from tvm_mpq.quant.training import _read_state

    _read_state(folder / "checkpoint.pt", torch.device("cpu"))


def _metrics(folder: Path) -> None:
    from tvm_mpq.quant.metrics import keep_metrics

    keep_metrics(folder / "metrics.csv", 0, 2)


def _images(folder: Path) -> None:
    from tvm_mpq.quant.train import _listed

    _listed(folder)


def _picture(name: str, folder: Path) -> None:
    from tvm_mpq.images import load_image

    assert load_image(folder / name, SHAPE, "whole").shape == SHAPE


def _model(folder: Path) -> None:
    from tvm_mpq.frontends import load_exported_program

    load_exported_program(folder / "model.pt2")


def _library(folder: Path) -> None:
    from tvm_mpq.codegen.archive import unpack_library
    from tvm_mpq.micro.library import Library

    unpacked = folder / "unpacked"
    try:
        unpack_library(folder / "library.tar", unpacked)
        Library.read(unpacked)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


_KERNEL = (
    '{"op": "pointwise_conv2d", "inputs": [{"channels": 8, "height": 4, "width": 4, "bits": 8}],'
    ' "output": {"channels": 8, "height": 4, "width": 4, "bits": 4}, "w_bits": 4}'
)
ELF = "project/build/firmware.elf"
FORMATS = (
    Format("metadata.json", "project/model/metadata.json", "json", 8, _report),
    Format("deployment.json", "deployment.json", "json", 8, _report),
    Format("config.mk", "project/config.mk", "lines", 6, _report),
    Format("firmware.elf", ELF, "bytes", 8, _report),
    Format("firmware.elf, emulator", ELF, "bytes", 2, partial(_image, ELF)),
    Format("firmware.hex", "firmware.hex", "lines", 1, partial(_image, "firmware.hex")),
    Format("firmware.uf2", "firmware.uf2", "bytes", 1, partial(_image, "firmware.uf2")),
    Format("stack.mk", "project/stack.mk", "lines", 2, _report),
    Format("recipe.json", "recipe.json", "json", 4, _recipe),
    Format("integer.json", "integer.json", "json", 2, _recipe),
    Format("tuned.json", "tuned.json", "json", 5, _tuned),
    Format("tuning database", DATABASE_FILE, "lines", 6, _measured),
    Format("kernel.json", "kernel.json", "json", 6, _kernel),
    Format("quantization.npz", "quantization.npz", "zip", 8, _result),
    Format("layer checkpoint", "layer.npz", "zip", 5, _layer),
    Format("plan.json", "plan.json", "json", 8, _plan),
    Format("damages.json", "damages.json", "json", 4, _damages),
    Format("training checkpoint", "checkpoint.pt", "zip", 4, _checkpoint),
    Format("metrics.csv", "metrics.csv", "lines", 3, _metrics),
    Format("images.csv", "images.csv", "lines", 2, _images),
    Format("image.png", "image.png", "bytes", 2, partial(_picture, "image.png")),
    Format("image.jpg", "image.jpg", "bytes", 2, partial(_picture, "image.jpg")),
    Format("library.tar", "library.tar", "bytes", 2, _library),
    Format("model.pt2", "model.pt2", "zip", 1, _model),
)
assert sum(one.share for one in FORMATS) == 100
np.seterr(all="ignore")
