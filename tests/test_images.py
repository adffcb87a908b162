"""Image files as a person sees them: every mode of PIL, every orientation; or refused by name."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.images import SUFFIXES, load_folder, load_image, to_eight_bits

pytestmark = pytest.mark.null

ALL_MODES = sorted(Image.MODES)
REFUSED = {"F": "mode F", "I": "mode I", "LAB": "mode LAB"}


def picture(height: int = 6, width: int = 4) -> np.ndarray:
    """No row, column or channel like another."""
    codes = np.arange(height * width * 3).reshape(height, width, 3) * 255 // (height * width * 3)
    return codes.astype(np.uint8)


def load(path: Path, height: int = 6, width: int = 4, channels: int = 3) -> np.ndarray:
    return load_image(path, (height, width, channels), "whole").astype(int)


def refusal(path: Path) -> str:
    with pytest.raises(InvalidValueError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"image {path}: ") and "\n" not in text
    return text


def of_mode(mode: str, opaque: bool = True) -> Image.Image:
    """White, in any mode; where it has alpha and is not ``opaque``, hidden black."""
    size, value = (4, 6), 255 if opaque else 0
    if mode.startswith("I;16"):
        byte_order = ">u2" if mode.endswith("B") else "<u2"
        data = np.full((6, 4), 65535, byte_order).tobytes()
        return Image.frombytes(mode, size, data)
    colours: dict[str, object] = {
        **{"1": 1, "L": 255, "P": 255, "I": 255, "F": 255.0},
        **{"RGB": (255,) * 3, "RGBX": (255,) * 4, "CMYK": (0,) * 4, "YCbCr": (255, 128, 128)},
        **{"HSV": (0, 0, 255), "LAB": (255, 0, 0)},
        **dict.fromkeys(("LA", "La", "PA"), (value, value)),
        **dict.fromkeys(("RGBA", "RGBa"), (value,) * 4),
    }
    image = Image.new(mode, size, colours[mode])  # type: ignore[arg-type]
    if mode in ("P", "PA"):
        image.putpalette([c for c in range(256) for _ in range(3)])
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ALL_MODES)
def test_white_is_white_in_every_mode_or_refused(mode: str, channels: int) -> None:
    if mode in REFUSED:
        with pytest.raises(InvalidValueError, match=REFUSED[mode]):
            to_eight_bits(of_mode(mode), channels)
        return
    for opaque in (True, False):
        found = to_eight_bits(of_mode(mode, opaque), channels)
        assert found.mode == ("L" if channels == 1 else "RGB")
        assert np.asarray(found).min() == 255, (mode, opaque)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_half_transparent_lies_on_white(mode: str) -> None:
    colour = (0, 0, 0, 128) if mode == "RGBA" else (0, 128)
    image = Image.new(mode, (4, 6), colour)
    if mode == "PA":
        image.putpalette([c for c in range(256) for _ in range(3)])
    assert np.abs(np.asarray(to_eight_bits(image, 3)).astype(int) - 127).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str, channels: int) -> None:
    codes = (np.arange(24).reshape(6, 4) * 2849).astype(np.uint16)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(codes).save(path)
    wanted = np.rint(codes / 257.0)
    for channel in range(channels):
        assert (load(path, channels=channels)[..., channel] == wanted).all()


def test_sixteen_bits_a_channel(tmp_path: Path) -> None:
    """PIL reads these as eight bits; written by hand, because it cannot write them."""
    values = (np.arange(72).reshape(6, 12) * 900).astype(">u2")
    (tmp_path / "a.png").write_bytes(png(4, 6, 16, 2, values))
    assert (load(tmp_path / "a.png") == (values >> 8).reshape(6, 4, 3)).all()
    (tmp_path / "b.png").write_bytes(png(4, 6, 16, 2, values, (b"tRNS", b"\x00\x05" * 3)))
    assert "transparent colour in 16 bits" in refusal(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(png(12, 6, 16, 0, values, (b"tRNS", b"\x00\x05")))
    assert "transparent colour in 16 bits" in refusal(tmp_path / "c.png")


def png(
    width: int, height: int, bits: int, kind: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]
) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    lines = b"".join(b"\x00" + row.tobytes() for row in rows)
    body = b"".join(chunk(*one) for one in (*chunks, (b"IDAT", zlib.compress(lines))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_pixels_without_a_stated_range_are_refused(tmp_path: Path, suffix: str) -> None:
    kinds: list[np.ndarray] = [picture()[..., 0].astype(np.float32) / 255]
    kinds.append(picture()[..., 0].astype(np.int32))
    for codes in kinds:
        path = tmp_path / f"{codes.dtype}{suffix}"
        if suffix == ".png":  # what PIL cannot write as PNG is a TIFF of a wrong name
            Image.fromarray(codes).save(path, "TIFF")
        else:
            Image.fromarray(codes).save(path)
        assert "8 or 16 bits" in refusal(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[8:, :16], upright[:8, 16:] = 255, 128, 64
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(upright)
    # The inverse of what a viewer does with this orientation.
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    undo |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180}
    undo |= {4: Image.Transpose.FLIP_TOP_BOTTOM}
    undo |= {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    if orientation > 1:
        stored = stored.transpose(undo[orientation])
    options = {} if suffix in (".png", ".tif") else {"quality": 100}
    path = tmp_path / f"a{suffix}"
    stored.save(path, exif=exif, **options)
    assert np.abs(load(path, 16, 32) - upright).max() <= 12, orientation


def test_palettes_and_transparent_colours(tmp_path: Path) -> None:
    codes = np.arange(24, dtype=np.uint8).reshape(6, 4)
    image = Image.fromarray(codes, "P")
    image.putpalette([c for i in range(256) for c in (i, 255 - i, 7)])
    image.save(tmp_path / "a.png")
    wanted = np.stack([codes, 255 - codes, np.full_like(codes, 7)], 2)
    assert (load(tmp_path / "a.png") == wanted).all()
    wanted[1, 1] = 255
    for name in ("b.png", "b.gif"):
        image.save(tmp_path / name, transparency=5)
        assert (load(tmp_path / name) == wanted).all(), name
    grey = Image.fromarray(codes)
    grey.save(tmp_path / "c.png", transparency=5)
    assert (load(tmp_path / "c.png")[..., 0] == np.where(codes == 5, 255, codes)).all()
    red = Image.new("RGB", (4, 6), (9, 8, 7))
    red.save(tmp_path / "d.png", transparency=(9, 8, 7))
    assert load(tmp_path / "d.png").min() == 255


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (4, 6), (255, 0, 0, 0))
    for name in ("a.tif", "a.jpg"):
        image.save(tmp_path / name)
        assert np.abs(load(tmp_path / name)[0, 0] - (0, 255, 255)).max() <= 3, name


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert "2 frames" in refusal(path)


def test_the_first_picture_of_a_camera_file(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(16, 16)), Image.fromarray(255 - picture(16, 16))]
    path = tmp_path / "a.jpg"
    frames[0].save(path, "MPO", save_all=True, append_images=frames[1:], quality=100)
    assert np.abs(load(path, 16, 16) - picture(16, 16)).max() < 40


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "link.png").symlink_to("fifo.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    (tmp_path / "folder.png").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket.png"))
    devices = [Path("/dev/zero"), Path("/dev/null")]
    pipes = [tmp_path / name for name in ("fifo.png", "link.png", "socket.png")]
    texts: list[str] = []
    reader = threading.Thread(
        target=lambda: texts.extend(refusal(path) for path in [*pipes, *devices]), daemon=True
    )
    reader.start()
    reader.join(20)
    assert len(texts) == 5 and all("a device, pipe or socket" in text for text in texts)
    assert "it is a folder" in refusal(tmp_path / "folder.png")
    assert "No such file" in refusal(tmp_path / "none.png")
    assert "symbolic links" in refusal(tmp_path / "circle.png")
    assert "name too long" in refusal(tmp_path / ("x" * 300))
    assert "null" in refusal(tmp_path / "a\0.png")
    listening.close()


def test_bombs_and_programs_are_refused(tmp_path: Path) -> None:
    line = np.zeros(1, np.uint8)
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000, 8, 0, line.reshape(1, 1)))
    assert "decompression bomb" in refusal(tmp_path / "bomb.png")
    text = zlib.compress(bytes(1 << 27))
    (tmp_path / "text.png").write_bytes(
        png(
            4,
            6,
            8,
            2,
            picture().reshape(6, -1),
            (b"zTXt", b"a\0\0" + text),
        )
    )
    assert "too large" in refusal(tmp_path / "text.png")
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 6\nshowpage\n")
    assert "cannot identify" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", sorted(set(SUFFIXES) - {".jpeg", ".tiff", ".pnm"}))
def test_damaged_files_load_or_name_themselves(tmp_path: Path, suffix: str) -> None:
    """Cut anywhere and with changed bytes; nothing but the one error gets out."""
    image = Image.fromarray(picture(16, 16))
    if suffix == ".pgm":
        image = image.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / f"whole{suffix}", **({"exif": exif} if suffix != ".gif" else {}))
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    generator, refused = random.Random(0), 0
    for trial in range(150):
        data = bytearray(whole)
        if trial % 3 == 0:
            data = data[: generator.randrange(len(data))]
        for _ in range(generator.randrange(1, 5)):
            if data:
                data[generator.randrange(min(len(data), 1 << 10))] = generator.randrange(256)
        path = tmp_path / f"{trial}{suffix}"
        path.write_bytes(data)
        try:
            assert load(path).shape == (6, 4, 3)
        except InvalidValueError as error:
            refused += 1
            assert str(error).startswith(f"image {path}: ") and "\n" not in str(error)
    assert refused > 10


def folder_of(tmp_path: Path, names: list[str]) -> Path:
    """Each image holds its place in ``names``."""
    for place, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 6), place).save(path)
    return tmp_path


def places(folder: Path, limit: int) -> list[int]:
    return [int(v) for v in load_folder(folder, (6, 4, 1), "whole", limit)[:, 0, 0, 0]]


def test_folders_are_read_with_all_that_is_in_them_in_order(tmp_path: Path) -> None:
    names = ["a.png", "b/0.png", "b/1.png", "b/c/2.PNG", "d/3.png"]
    folder = folder_of(tmp_path, names)
    (folder / "notes.txt").write_text("no image")
    (folder / "empty").mkdir()
    (folder / "b" / "back").symlink_to(folder)
    (folder / "e").symlink_to(folder / "d")
    (folder / "self").symlink_to("self")
    assert places(folder, 100) == [0, 1, 2, 3, 4]


def test_a_flat_folder_gives_its_first_images(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [f"{i:02}.png" for i in range(9)])
    assert places(folder, 4) == [0, 1, 2, 3]


def test_under_a_limit_each_class_has_its_share(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [f"{name}/{i}.png" for name in "abc" for i in range(5)])
    assert places(folder, 6) == [0, 1, 5, 6, 10, 11]


def test_a_crop_is_never_empty(tmp_path: Path) -> None:
    Image.new("L", (9, 3), 7).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", (6, 4, 1), "crop:0.01").max() == 7
