"""What a build dropped or approximated is told: in the description, the report and after tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.relay_passes.networks import imported, random_images
from tvm_mpq import Deployment, InputSpec, build
from tvm_mpq.builder import rebuild
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.tuned import TunedTable
from tvm_mpq.notes import Note
from tvm_mpq.target import Target

SHAPE = (8, 8, 3)
IMAGES = random_images(8, SHAPE)


def network(last: nn.Module | None) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)]
    return nn.Sequential(*layers, *([last] if last else [])).eval()


@pytest.mark.cc
@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_dropped_softmax_is_told_and_logits_stay(last: nn.Module, tmp_path: Path) -> None:
    plain = build(
        imported(network(None), SHAPE),
        "host",
        calibration=IMAGES,
        input_spec=InputSpec.from_range("0,1"),
    )
    assert not plain.description.notes and "Notes" not in str(plain.report())
    ends = build(
        imported(network(last), SHAPE),
        "host",
        calibration=IMAGES,
        input_spec=InputSpec.from_range("0,1"),
    )
    (note,) = ends.description.notes
    assert note.kind == "dropped" and "softmax at the end is left out" in note.text
    np.testing.assert_array_equal(ends.run(IMAGES), plain.run(IMAGES))
    saved = ends.save(tmp_path / "out")
    for told in (
        Deployment.load(saved.folder),
        rebuild(saved.folder, Target("host"), TunedTable()),
    ):
        assert told.description.notes == (note,)
        assert str(note) in str(told.report())
        assert told.report().to_json()["notes"] == [
            {"kind": note.kind, "layer": note.layer, "text": note.text}
        ]


@pytest.mark.cc
def test_a_border_that_is_not_zero_is_told() -> None:
    model = imported(network(None), SHAPE)
    built = build(model, "host", calibration=IMAGES, input_spec=InputSpec.from_range("-1,1"))
    (note,) = built.description.notes
    assert note.kind == "approximated" and "code 128, which stands for 0.0039" in note.text


@pytest.mark.null
def test_kinds_are_few() -> None:
    with pytest.raises(InvalidValueError, match="'guessed': allowed are dropped, approximated"):
        Note("guessed", "input", "a range")
