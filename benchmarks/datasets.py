"""Labelled images as uint8 [N, H, W, C], and the real numbers that their codes stand for.

The data folder is `--data`, or the environment variable ``TVM_MPQ_DATA``; nothing is cached.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.images import resize_image
from tvm_mpq.specs import InputSpec

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

CALIBRATION_CROP = 0.875
IMAGENET_INPUT = InputSpec.from_range("-1,1")
VWW_INPUT = InputSpec.from_range("0,1")


def data_folder(argument: str | None = None) -> Path:
    """The data folder: ``argument``, else $TVM_MPQ_DATA; InvalidValueError if there is none."""
    name = argument or os.environ.get("TVM_MPQ_DATA")
    if not name:
        raise InvalidValueError("no data folder: give --data DIR or set TVM_MPQ_DATA")
    if not Path(name).is_dir():
        raise InvalidValueError(f"data folder {name}: not a folder")
    return Path(name)


def load_labelled_images(
    folder: Path, resolution: int, crop: float = 0.0, limit: int | None = None
) -> tuple[Images, Labels]:
    """The images and labels of ``folder/images.csv`` (columns ``file`` and ``label_0based``).

    Returns uint8 [N, resolution, resolution, 3] and int64 [N], in the order of the file;
    ``limit`` keeps the first so many.
    """
    table = folder / "images.csv"
    if not table.is_file():
        raise InvalidValueError(f"{table}: no such file; expected columns file and label_0based")
    with table.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        missing = {"file", "label_0based"} - set(reader.fieldnames or ())
        if missing:
            raise InvalidValueError(f"{table}: no column {', '.join(sorted(missing))}")
        rows = list(reader)[:limit]
    if not rows:
        raise InvalidValueError(f"{table}: lists no image")
    images = np.empty((len(rows), resolution, resolution, 3), np.uint8)
    for index, row in enumerate(rows):
        images[index] = _read_image(folder / row["file"], resolution, crop)
    return images, np.array([_read_label(table, row) for row in rows], np.int64)


def _read_image(path: Path, resolution: int, crop: float) -> Images:
    try:
        with Image.open(path) as image:
            return resize_image(image.convert("RGB"), (resolution, resolution), crop)
    except OSError as error:
        raise InvalidValueError(f"{path}: not a readable image ({error})") from error


def _read_label(table: Path, row: dict[str, str]) -> int:
    text = row["label_0based"]
    if not text or not text.isdecimal():
        raise InvalidValueError(f"{table}: {row['file']} has label {text!r}; expected 0, 1, ...")
    return int(text)


def load_nips17_dev(data: Path, resolution: int) -> tuple[Images, Labels]:
    """500 photographs, whole, for accuracy: uint8 [500, resolution, resolution, 3], labels."""
    return load_labelled_images(data / "nips17_dev", resolution)


def load_imagenet_calib(
    data: Path, resolution: int, limit: int | None = None, crop: float = CALIBRATION_CROP
) -> tuple[Images, Labels]:
    """1000 training photographs, one a class, cropped. Never for a reported accuracy."""
    return load_labelled_images(data / "imagenet_calib", resolution, crop, limit)


def load_vww_even(data: Path) -> tuple[Images, Labels]:
    """500 visual-wake-words images: uint8 [500, 96, 96, 3]; labels 0 no person, 1 person."""
    with np.load(data / "vww_dev" / "vww_even.npz") as arrays:
        return arrays["images"], arrays["labels"].astype(np.int64)
