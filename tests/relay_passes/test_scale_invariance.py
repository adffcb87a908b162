"""Scaling a layer by s and the next one by 1/s changes no code of the integer network."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from relay_passes import AnnotateBitwidths, RewriteToIcn
from relay_passes.evaluate import evaluate_integer
from tests.relay_passes.networks import plan_of
from tvm_mpq._tvm_compat import tvm
from tvm_mpq.frontends import from_torch
from tvm_mpq.pipeline import CalibratedModel, calibrate
from tvm_mpq.quant.reconstruct import reconstruct
from tvm_mpq.quant.result import QuantizationResult
from tvm_mpq.specs import InputSpec

pytestmark = pytest.mark.null

SPEC = InputSpec.from_range("0,1")
SIZE = 8
IMAGES = np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 3)).astype(np.uint8)
# Which layers are scaled, and back; the last one's scale shows in the logits alone. Powers of two
# are exact in float32, so that every bit must be the same. 2**66 is 7e19.
PAIRS = [(1, 3), (3, 5), (5, 9), (9, None)]
POWERS = [-66, -40, -13, 7, 66]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()
    with torch.no_grad():
        net[3].weight[2] = 0.0  # a channel that is constant, and one that nothing reads
        net[5].weight[:, 4] = 0.0
    return net


def scaled(pair: tuple[int, int | None], power: int) -> nn.Sequential:
    net, (first, second) = network(), pair
    with torch.no_grad():
        for tensor in (net[first].weight, net[first].bias):
            tensor *= 2.0**power
        if second is not None:
            net[second].weight *= 2.0**-power
    return net


def calibrated(net: nn.Module) -> CalibratedModel:
    return calibrate(from_torch(net, torch.zeros(1, 3, SIZE, SIZE)), IMAGES, SPEC)


def codes(model: CalibratedModel, bits: int, result: QuantizationResult | None = None) -> object:
    passes = [
        AnnotateBitwidths(plan_of(model.module, bits, bits)),
        RewriteToIcn(SPEC, "nearest", "mse", result),
    ]
    integer = tvm.transform.Sequential(passes)(model.module)
    seen: list[npt.NDArray[np.generic]] = []
    for image in IMAGES[:3]:
        evaluate_integer(integer, image, lambda _, tensor: seen.append(np.array(tensor)))
    return seen


def same(found: object, wanted: object) -> bool:
    pairs = zip(found, wanted, strict=True)  # type: ignore[call-overload]
    return all(np.array_equal(a, b) for a, b in pairs)


@cache
def unscaled() -> CalibratedModel:
    return calibrated(network())


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("pair", PAIRS)
def test_codes_are_the_same(pair: tuple[int, int | None], power: int) -> None:
    model = calibrated(scaled(pair, power))
    for bits in (8, 4, 2):
        assert same(codes(model, bits), codes(unscaled(), bits))


@pytest.mark.slow
@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("pair", PAIRS)
def test_reconstruction_is_the_same(pair: tuple[int, int | None], power: int) -> None:
    found = []
    for model in (calibrated(scaled(pair, power)), unscaled()):
        plan = plan_of(model.module, 4, 4)
        found.append(codes(model, 4, reconstruct(model.network, plan, IMAGES)))
    assert same(*found)
