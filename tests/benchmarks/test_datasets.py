"""Images and labels from folders made here; no data from outside the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import datasets
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.images import resize_image, to_real

pytestmark = pytest.mark.null


def make_folder(folder: Path, rows: list[tuple[str, str]]) -> Path:
    """A folder of 40x20 PNG images, each of one colour per half, and its images.csv."""
    folder.mkdir()
    for index, (name, _) in enumerate(rows):
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[:, :20, 0] = 10 * index + 5
        pixels[:, 20:, 2] = 200
        Image.fromarray(pixels).save(folder / name)
    lines = ["file,label_0based,author", *(f"{name},{label},somebody" for name, label in rows)]
    (folder / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_images_and_labels_keep_the_order_of_the_table(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", [("b.png", "7"), ("a.png", "999"), ("c.png", "0")])
    images, labels = datasets.load_labelled_images(folder, 8)
    assert images.shape == (3, 8, 8, 3) and images.dtype == np.uint8
    assert labels.tolist() == [7, 999, 0] and labels.dtype == np.int64
    assert images[:, 0, 0, 0].tolist() == [5, 15, 25]
    assert len(datasets.load_labelled_images(folder, 8, limit=2)[0]) == 2


def test_crop_is_a_centred_square_of_the_short_side() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[5:15, 15:25] = 255
    image = Image.fromarray(pixels)
    assert (resize_image(image, (10, 10), 0.5) == 255).all()
    assert (resize_image(image, (20, 20), 1.0)[:5] == 0).all()
    assert resize_image(image, (20, 20), 0.0)[10, 0, 0] == 0


def test_grey_images_become_three_channels(tmp_path: Path) -> None:
    make_folder(tmp_path / "set", [("a.png", "1")])
    Image.fromarray(np.full((9, 9), 77, np.uint8)).save(tmp_path / "set" / "a.png")
    images, _ = datasets.load_labelled_images(tmp_path / "set", 4)
    assert (images == np.full((1, 4, 4, 3), 77)).all()


def test_loaders_read_their_folders(tmp_path: Path) -> None:
    make_folder(tmp_path / "nips17_dev", [("a.png", "1")])
    make_folder(tmp_path / "imagenet_calib", [("a.png", "2"), ("b.png", "3")])
    (tmp_path / "vww_dev").mkdir()
    stored = np.arange(2 * 96 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 96, 96, 3)
    np.savez(tmp_path / "vww_dev" / "vww_even.npz", images=stored, labels=np.array([0, 1]))
    assert datasets.load_nips17_dev(tmp_path, 16)[0].shape == (1, 16, 16, 3)
    assert datasets.load_imagenet_calib(tmp_path, 16, limit=1)[1].tolist() == [2]
    images, labels = datasets.load_vww_even(tmp_path)
    assert (images == stored).all() and labels.tolist() == [0, 1]


def test_real_numbers_of_the_codes() -> None:
    codes = np.array([0, 127, 128, 255], np.uint8).reshape(1, 2, 2, 1)
    imagenet = to_real(codes, datasets.IMAGENET_INPUT)
    expected = codes.reshape(1, 1, 2, 2) / 127.5 - 1
    np.testing.assert_allclose(imagenet, expected, atol=1e-7)
    assert imagenet.dtype == np.float32
    vww = to_real(codes, datasets.VWW_INPUT)
    np.testing.assert_allclose(vww, codes.reshape(1, 1, 2, 2) / 255, atol=1e-7)


def test_real_numbers_are_planar() -> None:
    codes = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    real = to_real(codes, datasets.VWW_INPUT)
    assert real.shape == (1, 3, 2, 4) and real.flags.c_contiguous
    np.testing.assert_allclose(real[0, 2], codes[0, :, :, 2] / 255, atol=1e-7)


def test_data_folder_is_the_argument_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TVM_MPQ_DATA", raising=False)
    with pytest.raises(InvalidValueError, match="--data DIR or set TVM_MPQ_DATA"):
        datasets.data_folder()
    monkeypatch.setenv("TVM_MPQ_DATA", str(tmp_path))
    assert datasets.data_folder() == tmp_path
    with pytest.raises(InvalidValueError, match="absent: not a folder"):
        datasets.data_folder(str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "images.csv: no such file"),
        ("file,label\na.png,1\n", "no column label_0based"),
        ("file,label_0based\n", "lists no image"),
        ("file,label_0based\na.png,cat\n", "a.png has label 'cat'"),
        ("file,label_0based\na.png\n", "a.png has label None"),
        ("file,label_0based\nabsent.png,1\n", "absent.png: not a readable image"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, table: str | None, message: str) -> None:
    folder = make_folder(tmp_path / "set", [("a.png", "1")])
    if table is None:
        (folder / "images.csv").unlink()
    else:
        (folder / "images.csv").write_text(table, encoding="utf-8")
    with pytest.raises(InvalidValueError, match=message):
        datasets.load_labelled_images(folder, 8)
