"""The demo network: its stored weights, its data split and its training step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import train_demo
from benchmarks.mobilenet_v1 import predict, top1
from tvm_mpq.errors import InvalidValueError

pytestmark = pytest.mark.null


@pytest.fixture(scope="module")
def demo() -> tuple:
    return train_demo.load_demo()


def test_held_out_accuracy(demo: tuple) -> None:
    model, _, images, labels = demo
    assert top1(predict(model, images, train_demo.DEMO_INPUT, batch=100), labels) >= 98.0


def test_shapes_and_balance(demo: tuple) -> None:
    model, calibration, images, labels = demo
    assert not model.training
    assert calibration.shape == (256, 32, 32, 1) and calibration.dtype == np.uint8
    assert images.shape == (1000, 32, 32, 1) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [100] * 10
    assert len(set(labels[:30].tolist())) == 10  # shuffled: few images show all digits


def test_calibration_images_are_not_held_out(demo: tuple) -> None:
    _, calibration, images, _ = demo
    held_out = {image.tobytes() for image in images}
    assert not held_out & {image.tobytes() for image in calibration}


def test_stored_weights_are_small_and_sane() -> None:
    assert train_demo.WEIGHTS.stat().st_size < 300_000
    model = train_demo.load_weights()
    weights = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1)
    assert 100_000 <= weights <= 250_000
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            variance = layer.running_var
            assert variance is not None and variance.min() > 1e-3  # no dead channel
            gain = layer.weight.abs() / torch.sqrt(variance + layer.eps)
            assert gain.min() > 0.05 and gain.max() < 20


def test_saved_weights_load_again(tmp_path: Path) -> None:
    path = tmp_path / "again.npz"
    train_demo.save_weights(train_demo.load_weights(), path)
    again = train_demo.load_weights(path).state_dict()
    for name, value in train_demo.load_weights().state_dict().items():
        assert torch.equal(again[name], value)


def test_missing_array_is_named(tmp_path: Path) -> None:
    with np.load(train_demo.WEIGHTS) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "dense.bias"}
    np.savez(tmp_path / "cut.npz", **kept)
    with pytest.raises(InvalidValueError, match="dense.bias"):
        train_demo.load_weights(tmp_path / "cut.npz")


def test_augmentation_moves_but_keeps_the_digit() -> None:
    images = torch.zeros(16, 1, 32, 32)
    images[:, :, 12:20, 12:20] = 1
    moved = train_demo.augment(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape and moved.min() >= 0 and moved.max() <= 1
    assert not torch.equal(moved, images)
    ink = moved.sum((1, 2, 3))
    assert ink.min() > 64 * 0.7 and ink.max() < 64 * 1.4


@pytest.mark.slow
def test_training_repeats_itself_and_learns() -> None:
    images = torch.rand(200, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.1
    labels = torch.arange(200) % 2
    images[labels == 1, :, 8:24, 8:24] += 0.9
    first, second = (train_demo.train(images, labels, epochs=8) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.allclose(second.state_dict()[name], value, atol=1e-4), name
    assert (first(images).argmax(1) == labels).float().mean() > 0.9
