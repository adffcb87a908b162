"""Image files -> the uint8 array a network takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.progress import track
from tvm_mpq.specs import parse_resize

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")


def load_image(path: Path, shape: tuple[int, int, int], resize: str) -> npt.NDArray[np.uint8]:
    """One image file as uint8 [H, W, C], C 1 or 3, resized bilinearly.

    ``resize``: "whole", or "crop:F" for the centred square of F times the short side.
    Raises InvalidValueError for a missing file or one that is no image.
    """
    from PIL import Image

    height, width, channels = shape
    if channels not in (1, 3):
        raise InvalidValueError(f"network input has {channels} channels; images have 1 or 3")
    try:
        with Image.open(path) as file:
            image = file.convert("L" if channels == 1 else "RGB")
    except OSError as error:
        raise InvalidValueError(f"image {path}: {error}") from None
    box = _crop_box(image.size, parse_resize(resize))
    resized = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized, np.uint8).reshape(shape)


def load_folder(
    folder: Path, shape: tuple[int, int, int], resize: str, limit: int
) -> npt.NDArray[np.uint8]:
    """Up to ``limit`` images of a folder, in order of their names, as uint8 [N, H, W, C]."""
    if not folder.is_dir():
        raise InvalidValueError(f"calibration {folder}: no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InvalidValueError(
            f"calibration {folder}: no images; expected files ending in {', '.join(SUFFIXES)}"
        )
    chosen = paths[:limit]
    return np.stack([load_image(path, shape, resize) for path in track(chosen, "reading images")])


def _crop_box(size: tuple[int, int], fraction: float) -> tuple[float, float, float, float]:
    width, height = size
    if fraction == 0.0:
        return (0.0, 0.0, float(width), float(height))
    side = fraction * min(size)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)
