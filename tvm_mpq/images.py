"""Image files -> the uint8 array a network takes -> the real numbers it stands for."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.progress import track
from tvm_mpq.specs import InputSpec, parse_resize

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    *(".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".gif"),
)
# What shows through where an image is transparent: white, as on a page.
BACKGROUND = (255, 255, 255, 255)

# Of PIL's decoders, those of pictures: others start programs (EPS) or fetch what a file names.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")
# PIL reads these formats' 16-bit grey as 32-bit integers of which 65535 is white.
_WIDE_GREY = ("PNG", "PPM")


def load_image(path: Path, shape: tuple[int, int, int], resize: str) -> npt.NDArray[np.uint8]:
    """One image file as uint8 [H, W, C], C 1 or 3, resized bilinearly.

    As a person sees it: turned as its EXIF data say, on ``BACKGROUND`` where it is transparent;
    16 bits are scaled to 8. ``resize``: "whole", or "crop:F" for the centred square of F times the
    short side.

    Raises InvalidValueError, naming the file: it is missing, no regular file, no image, damaged,
    too large to decode, of several frames, or of pixels without a stated range (floating point).
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise InvalidValueError(f"network input has {channels} channels; images have 1 or 3")
    crop = parse_resize(resize)
    _check_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with a file is an error or harmless
            image = _decode(path, channels)
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidValueError(f"image {path}: {reason[0]}") from None
    return resize_image(image, (height, width), crop).reshape(shape)


def _check_regular(path: Path) -> None:
    """Opening a FIFO or a device could wait for ever."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidValueError(f"image {path}: {reason}") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise InvalidValueError(f"image {path}: it is {what}; expected an image file")


def _decode(path: Path, channels: int) -> Image.Image:
    from PIL import Image, ImageOps

    with Image.open(path, formats=_FORMATS) as file:
        frames = getattr(file, "n_frames", 1)
        # The further pictures of a camera's MPO are other views or sizes of the first.
        if frames > 1 and file.format != "MPO":
            raise InvalidValueError(f"it has {frames} frames; save the one to use as an image")
        _check_transparent_colour(file)
        file.load()
        return to_eight_bits(ImageOps.exif_transpose(file), channels, file.format or "")


def _check_transparent_colour(file: Image.Image) -> None:
    """A transparent colour in 16 bits cannot be found again among pixels that PIL cut to 8."""
    tiles = getattr(file, "tile", None) or [("", (0, 0), 0, "")]
    if "transparency" in file.info and ";16" in str(tiles[0][3]):
        raise InvalidValueError(
            "a transparent colour in 16 bits is not supported; save it with an alpha channel"
        )


def to_eight_bits(image: Image.Image, channels: int, file_format: str = "") -> Image.Image:
    """An image of any PIL mode as ``L`` (``channels`` 1) or ``RGB`` (3), see ``load_image``.

    ``file_format``: PIL's name of the format it was read from.
    Raises InvalidValueError for modes whose pixels have no stated range.
    """
    from PIL import Image

    wanted = "L" if channels == 1 else "RGB"
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and file_format in _WIDE_GREY):
        wide = np.asarray(image).astype(np.uint32)
        # 65535 = 255 * 257: white stays white, to the nearest code.
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        page = Image.new("RGBA", image.size, BACKGROUND)
        page.alpha_composite(image.convert("RGBA"))
        image = page.convert("RGB")
    if image.mode not in _OPAQUE:
        raise InvalidValueError(
            f"pixels of PIL mode {image.mode} have no stated range; save it with 8 or 16 bits a"
            " channel, grey or RGB"
        )
    return image.convert(wanted)


def load_folder(
    folder: Path, shape: tuple[int, int, int], resize: str, limit: int
) -> npt.NDArray[np.uint8]:
    """Up to ``limit`` images of a folder and those in it, in order of name, as uint8 [N, H, W, C].

    Where there are more, each folder in turn gives one, so that all classes have their share.
    """
    if not folder.is_dir():
        raise InvalidValueError(f"calibration {folder}: no such folder")
    by_folder = list(_by_folder(folder))
    if not by_folder:
        raise InvalidValueError(
            f"calibration {folder}: no images; expected files ending in {', '.join(SUFFIXES)}"
        )
    in_turn = (path for path in chain(*zip_longest(*by_folder)) if path is not None)
    chosen = sorted(islice(in_turn, limit))
    return np.stack([load_image(path, shape, resize) for path in track(chosen, "reading images")])


def _by_folder(root: Path) -> Iterator[list[Path]]:
    """The images of ``root``, then those of each folder in it; links may lead in circles."""
    waiting, seen = [root], set()
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            entries = sorted(folder.iterdir())
            inner = [entry for entry in entries if entry.is_dir()]
        except OSError as error:
            raise InvalidValueError(f"calibration {folder}: {error.strerror or error}") from None
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        waiting += reversed(inner)
        if images := [e for e in entries if e.suffix.lower() in SUFFIXES and e not in inner]:
            yield images


def resize_image(image: Image.Image, size: tuple[int, int], crop: float) -> npt.NDArray[np.uint8]:
    """``image`` as uint8 of (height, width) ``size``, bilinear with antialiasing.

    ``crop``: side of the centred square, in units of the short side; 0 keeps the whole image and
    lets its aspect ratio go.
    """
    from PIL import Image

    if crop:
        side = max(round(crop * min(image.size)), 1)
        left, top = ((length - side) // 2 for length in image.size)
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR), np.uint8)


def to_real(images: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
    """Codes uint8 [N, H, W, C] -> the network's float32 input [N, C, H, W]."""
    # Centred in float32 first: exact, so the only roundings are those of one multiply and one add.
    centred = images.astype(np.float32) - np.float32(spec.zero_point)
    real = centred * np.float32(spec.scale) + np.float32(spec.offset)
    return np.ascontiguousarray(real.transpose(0, 3, 1, 2))
