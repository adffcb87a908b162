"""Image files -> the uint8 array a network takes -> the real numbers it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.progress import track
from tvm_mpq.specs import InputSpec, parse_resize

if TYPE_CHECKING:
    from PIL import Image

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
    return resize_image(image, (height, width), parse_resize(resize)).reshape(shape)


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


def resize_image(image: Image.Image, size: tuple[int, int], crop: float) -> npt.NDArray[np.uint8]:
    """``image`` as uint8 of (height, width) ``size``, bilinear with antialiasing.

    ``crop``: side of the centred square, in units of the short side; 0 keeps the whole image and
    lets its aspect ratio go.
    """
    from PIL import Image

    if crop:
        side = round(crop * min(image.size))
        left, top = ((length - side) // 2 for length in image.size)
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR), np.uint8)


def to_real(images: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
    """Codes uint8 [N, H, W, C] -> the network's float32 input [N, C, H, W]."""
    # Centred in float32 first: exact, so the only roundings are those of one multiply and one add.
    centred = images.astype(np.float32) - np.float32(spec.zero_point)
    real = centred * np.float32(spec.scale) + np.float32(spec.offset)
    return np.ascontiguousarray(real.transpose(0, 3, 1, 2))
