"""``python -m tvm_mpq.quant.train``: retrain an exported network for a bit plan.

    python -m tvm_mpq.quant.train model.pt2 --data IMAGES --flash 2MB --ram 512kB -o run
    torchrun --nproc-per-node 2 -m tvm_mpq.quant.train model.pt2 --data IMAGES ... -o run

IMAGES holds one folder a class, in alphabetical order (ImageFolder's layout), or an ``images.csv``
with the columns ``file`` and ``label_0based``. The run's folder receives ``checkpoint.pt``,
``metrics.csv`` and, at the end, ``quantization.npz``, which ``build(quantization=)`` takes. The
same command continues an interrupted run.

``--until LAYER`` retrains the first layers in front of the float rest and then reconstructs the
rest for what they give; ``--start`` with the result and a later layer is the next stage.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import distributed
from torch.utils.data import Dataset

from tvm_mpq.errors import InvalidValueError, MpqError, message_of
from tvm_mpq.files import read_text
from tvm_mpq.images import SUFFIXES, load_image
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.float_network import FloatTeacher
from tvm_mpq.quant.network import FloatNetwork
from tvm_mpq.quant.qat import convert, prepare
from tvm_mpq.quant.reconstruct import ReconstructionOptions, reconstruct
from tvm_mpq.quant.result import QuantizationResult
from tvm_mpq.quant.training import (
    RATE_UNITS,
    TRAINED,
    Recipe,
    cosine_rates,
    fit,
    rank_and_world,
)
from tvm_mpq.quant.views import RandomViews
from tvm_mpq.specs import InputSpec, parse_resize

_PAPER = Recipe()
SCHEDULES = ("constant", "cosine")
# Of a whole image, what a random crop keeps of each side: 224 of 256.
_MARGIN = 0.875


class LabelledFolder(Dataset[tuple[torch.Tensor, int]]):
    """Images of a folder and their labels, read when asked for: (uint8 [H, W, C], label)."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], resize: str) -> None:
        self._shape, self._resize = shape, resize
        self.items = _listed(folder) if (folder / "images.csv").is_file() else _walked(folder)
        if not self.items:
            raise InvalidValueError(
                f"data {folder}: no images; expected one folder a class, or an images.csv"
            )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.items[index]
        image = load_image(path, self._shape, self._resize)
        return torch.from_numpy(np.array(image)), label


def _listed(folder: Path) -> list[tuple[Path, int]]:
    path = folder / "images.csv"
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        return [(folder / row["file"], int(row["label_0based"])) for row in rows]
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InvalidValueError(
            f"{path}: {error}; expected columns file and label_0based"
        ) from None


def _walked(folder: Path) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        raise InvalidValueError(f"data {folder}: no such folder")
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted(name.iterdir())
        if path.suffix.lower() in SUFFIXES
    ]


def _plan(model: Any, plan: Path | None, flash: str | None, ram: str | None) -> BitPlan:
    from tvm_mpq.quant.bit_search import paper_bit_plan
    from tvm_mpq.target import parse_bytes

    if plan is not None:
        return BitPlan.from_json(read_text(plan))
    if flash is None or ram is None:
        raise InvalidValueError("widths: give --start, --plan, or both --flash and --ram")
    return paper_bit_plan(model.layers, parse_bytes(flash), parse_bytes(ram))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Training images.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option("--plan", type=click.Path(path_type=Path), help="Bit plan as JSON.")
@click.option("--flash", help="Flash budget for the paper's rule, for example 2MB.")
@click.option("--ram", help="RAM budget for the paper's rule, for example 512kB.")
@click.option("--start", type=click.Path(path_type=Path), help="quantization.npz to begin with.")
@click.option("--until", help="Retrain the layers up to this one, then reconstruct the rest.")
@click.option(
    "--input-range",
    help="Real range of images: -1,1, 0,1 or 0,255.  [default: found by the first batch norm]",
)
@click.option("--resize", default="crop:0.875", show_default=True, help="whole or crop:FRACTION.")
@click.option("--calibration-images", default=256, show_default=True)
@click.option("--epochs", default=_PAPER.epochs, show_default=True)
@click.option("--batch", default=_PAPER.batch, show_default=True, help="Over all processes.")
@click.option("--rate", type=float, help="The (first) rate.  [default: the paper's schedule]")
@click.option("--schedule", default="constant", show_default=True, type=click.Choice(SCHEDULES))
@click.option("--rate-unit", default="absolute", show_default=True, type=click.Choice(RATE_UNITS))
@click.option("--distillation", default=0.0, show_default=True, help="Weight of the teacher, 0-1.")
@click.option("--temperature", default=1.0, show_default=True, help="Of the distillation.")
@click.option("--matching", default=0.0, show_default=True, help="Weight of inner outputs' error.")
@click.option("--trained", default="all", show_default=True, type=click.Choice(TRAINED))
@click.option("--views", is_flag=True, help="Random crops, half mirrored, new in every epoch.")
@click.option("--view-size", type=int, help="Side of square views.  [default: as the network]")
@click.option("--blended", default=0.0, show_default=True, help="Share of views mixed of two.")
@click.option("--zoom", default=0.0, show_default=True, help="Views of up to 2**zoom the scale.")
@click.option("--colour", default=0.0, show_default=True, help="Share by which colours vary.")
@click.option("--weights", default="min_max", show_default=True, help="min_max or learned_range.")
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Loader processes.")
@click.option("--save-every", default=0, show_default=True, help="Steps between checkpoints.")
@click.option("--amp", is_flag=True, help="bfloat16 autocast on a GPU.")
def main(**options: Any) -> None:
    """Retrain MODEL.pt2 (torch.export.save) for a bit plan; the paper's recipe by default."""
    try:
        _main(**options)
    except (MpqError, OSError) as error:
        click.echo(f"tvm_mpq.quant.train: {message_of(error)}", err=True)
        sys.exit(2)


def _main(model: Path, data: Path, output: Path, **options: Any) -> None:
    # The command stands above the rooms it joins; the modules of quant know none of them.
    from relay_passes.graph import shape_of
    from tvm_mpq.frontends import load_exported_program
    from tvm_mpq.pipeline import calibrate

    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    given = options["input_range"]
    spec = InputSpec.from_range(given, options["resize"]) if given else None
    mod = load_exported_program(model)
    _, channels, height, width = shape_of(mod["main"].params[0])
    shape = (height, width, channels)
    dataset = LabelledFolder(data, shape, options["resize"])
    seen = _seen(dataset, data, shape, options)
    images = _calibration(dataset, options)
    calibrated = calibrate(mod, images, spec).with_resize(options["resize"])
    start = QuantizationResult.load(options["start"]) if options["start"] else None
    widths = (options["plan"], options["flash"], options["ram"])
    plan = start.plan if start else _plan(calibrated, *widths)
    reconstructed = _reconstruction(calibrated.network, plan, images, start, output)
    if options["until"]:
        start = reconstructed("first", start=start, until=options["until"])
    student = prepare(calibrated, plan, start, options["weights"])
    recipe = _recipe(options)
    taught = recipe.distillation or recipe.matching
    teacher = FloatTeacher(calibrated.network) if taught else None
    fit(student, seen, recipe, output, teacher, options["workers"])
    if rank_and_world()[0] == 0:
        until = options["until"]
        result = reconstructed("rest", start=student.result()) if until else convert(student).result
        click.echo(f"saved {result.save(output / 'quantization.npz')}")
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _calibration(dataset: LabelledFolder, options: dict[str, Any]) -> npt.NDArray[np.uint8]:
    count = min(len(dataset), options["calibration_images"])
    chosen = np.random.default_rng(options["seed"]).permutation(len(dataset))[:count]
    return np.stack([dataset[int(i)][0].numpy() for i in chosen])


def _reconstruction(
    network: FloatNetwork,
    plan: BitPlan,
    images: npt.NDArray[np.uint8],
    start: QuantizationResult | None,
    output: Path,
) -> Callable[..., QuantizationResult]:
    """``reconstruct`` with a name of its checkpoint, which the first process keeps."""
    rounding = start.rounding if start else ReconstructionOptions.rounding
    fixed = partial(reconstruct, network, plan, images, ReconstructionOptions(rounding=rounding))
    first = rank_and_world()[0] == 0
    return lambda name, **more: fixed(output / name if first else None, **more)


def _seen(
    dataset: LabelledFolder, folder: Path, shape: tuple[int, int, int], options: dict[str, Any]
) -> Dataset[Any]:
    """The images, or random views of them, at the same scale where ``resize`` crops."""
    if options["blended"] and not (options["views"] and options["distillation"] == 1.0):
        raise InvalidValueError(
            "views: no label is that of two images; --blended needs --distillation 1 and --views"
        )
    for name in ("view_size", "zoom", "colour"):
        if options[name] and not options["views"]:
            raise InvalidValueError(f"views: --{name.replace('_', '-')} needs --views")
    if not options["views"]:
        return dataset
    fraction = parse_resize(options["resize"])
    height, width = (round(n / (fraction or _MARGIN)) for n in shape[:2])
    whole = LabelledFolder(folder, (height, width, shape[2]), "crop:1" if fraction else "whole")
    size = (options["view_size"],) * 2 if options["view_size"] else shape[:2]
    jitter = (options["blended"], options["zoom"], options["colour"])
    return RandomViews(whole, size, options["seed"], *jitter)


def _recipe(options: dict[str, Any]) -> Recipe:
    fields = {field.name for field in dataclasses.fields(Recipe)}
    rate, rates = options["rate"], _PAPER.rates
    if options["schedule"] == "cosine":
        if not rate:
            raise InvalidValueError("schedule cosine: give --rate, the rate that it begins with")
        rates = cosine_rates(rate, options["epochs"])
    elif rate:
        rates = ((0, rate),)
    return Recipe(rates=rates, **{name: options[name] for name in fields & options.keys()})


if __name__ == "__main__":
    main()
