"""Advice that is followed works: every command line that an error gives is tried as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from tests.relay_passes.networks import random_images, randomized
from tvm_mpq.cli import main

SHAPE = (48, 48, 3)


class Wide(nn.Module):
    """Enough weights and rows that budgets cut them, and few kernels to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 256, 1), nn.ReLU()
        )
        self.classifier = nn.Linear(256, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.layers(x).mean((2, 3)))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("advice")
    model = randomized(Wide())
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 48, 48),)), folder / "m.pt2")
    (folder / "images").mkdir()
    for i, image in enumerate(random_images(4, SHAPE)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    return folder


def compiled(inputs: Path, options: list[str], output: Path) -> Result:
    arguments = ["compile", str(inputs / "m.pt2"), "--calibration", str(inputs / "images")]
    arguments += ["--input-range", "-1,1", "-o", str(output), *options]
    return CliRunner().invoke(main, arguments)


def advice(text: str) -> list[list[str]]:
    """The options of every ``give --...`` of a message."""
    given = re.findall(r'give ((?:--[a-z-]+ (?:"[^"]*"|[\w.,-]*\w) ?)+)', text)
    return [shlex.split(one) for one in given]


SLOW = pytest.mark.slow
CASES = [
    pytest.param(["--flash", "12kB"], id="flash"),
    pytest.param(["--ram", "7kB"], id="ram"),
    pytest.param(["--flash", "12kB", "--ram", "7kB"], id="both", marks=SLOW),
    pytest.param(["--flash", "12kB", "--policy", "sensitivity"], id="measured", marks=SLOW),
    pytest.param(["--ram", "7kB", "--minimize", "ram"], id="least ram", marks=SLOW),
    pytest.param(["--target", "stm32h7 -scratch=256"], id="scratch", marks=SLOW),
]


@pytest.mark.emu
@pytest.mark.parametrize("options", CASES)
def test_following_the_advice_of_a_network_that_does_not_fit(
    inputs: Path, tmp_path: Path, options: list[str]
) -> None:
    refused = compiled(inputs, options, tmp_path / "refused")
    assert refused.exit_code == 2, refused.output
    given = dict(zip(options[::2], options[1::2], strict=True))
    told = [(one[0], one[1]) for one in advice(refused.stderr)]
    other_ways = [one for one in told if one[0] not in given]
    assert len(told) - len(other_ways) == len({"--flash", "--ram", "--target"} & given.keys())
    ways = [given | dict(told[: len(told) - len(other_ways)])]
    ways += [given | dict([one]) for one in other_ways]
    for number, way in enumerate(ways):
        arguments = [word for option in way.items() for word in option]
        found = compiled(inputs, arguments, tmp_path / str(number))
        assert found.exit_code == 0, (arguments, found.output)
    assert ("--ram" in given and "--flash" not in given) is bool(other_ways)
