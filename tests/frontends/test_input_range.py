"""The range of the images: found where the first batch norm tells it clearly, else refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.relay_passes.networks import imported, random_images
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.images import to_real
from tvm_mpq.pipeline import calibrate
from tvm_mpq.specs import INPUT_RANGES, InputSpec

pytestmark = pytest.mark.null

SHAPE = (16, 16, 3)
IMAGES = random_images(32, SHAPE)
TRAINING = random_images(64, SHAPE, seed=7)


def trained(real: torch.Tensor, bias: bool = True, first: nn.Module | None = None) -> nn.Module:
    """A network whose batch norm has seen ``real``."""
    torch.manual_seed(0)
    convolution = first or nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=bias)
    norm = nn.BatchNorm2d(8, momentum=1.0)
    net = nn.Sequential(convolution, norm, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 4))
    net.train()(real)
    return net.eval()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("text", INPUT_RANGES)
def test_the_range_of_the_training_is_found_and_told(text: str, bias: bool) -> None:
    spec = InputSpec.from_range(text)
    model = trained(torch.from_numpy(to_real(TRAINING, spec)), bias)
    found = calibrate(imported(model, SHAPE), IMAGES)
    assert found.input_spec == spec
    (note,) = (note for note in found.notes if note.kind == "found")
    assert f"taken as {text}" in note.text and "times better" in note.text


def test_a_given_range_is_taken_without_a_word() -> None:
    model = trained(torch.from_numpy(to_real(TRAINING, InputSpec.from_range("0,1"))))
    given = InputSpec.from_range("-1,1")
    found = calibrate(imported(model, SHAPE), IMAGES, given)
    assert found.input_spec == given
    assert "found" not in {note.kind for note in found.notes}


def test_normalized_images_are_named() -> None:
    real = to_real(TRAINING, InputSpec.from_range("0,1"))
    mean, std = (
        np.reshape([0.485, 0.456, 0.406], (3, 1, 1)),
        np.reshape([0.229, 0.224, 0.225], (3, 1, 1)),
    )
    model = trained(torch.from_numpy(((real - mean) / std).astype(np.float32)))
    with pytest.raises(InvalidValueError, match=r"ImageNet's mean.*Fold them.*'0,1'"):
        calibrate(imported(model, SHAPE), IMAGES)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 4)).eval(),
        trained(torch.randn(64, 3, 16, 16) * 30),
    ],
    ids=["no batch norm", "images of another kind"],
)
def test_an_unknown_range_is_refused_and_the_advice_works(model: nn.Module) -> None:
    mod = imported(model, SHAPE)
    with pytest.raises(InvalidValueError, match=r"range of the images.*from_range.*--input-range"):
        calibrate(mod, IMAGES)
    for text in INPUT_RANGES:
        assert calibrate(mod, IMAGES, InputSpec.from_range(text)).layers
