"""SplitChannels: the same outputs; codes of narrow channels and copies are half a step apart."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from relay_passes.evaluate import evaluate_float
from tvm_mpq.frontends import from_torch
from tvm_mpq.pipeline import CalibratedModel, calibrate, split_channels
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.bit_search import uniform_bit_plan
from tvm_mpq.quant.float_network import FloatTeacher
from tvm_mpq.quant.integer_network import IntegerNetwork, run_batches
from tvm_mpq.quant.reconstruct import reconstruct
from tvm_mpq.specs import InputSpec

pytestmark = pytest.mark.null


class Chain(nn.Module):
    """conv 6, depthwise, pointwise 8, pointwise 11, pointwise 5, pool, linear."""

    def __init__(self, padding: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(6, 6, 3, padding=1, groups=6),
            nn.ReLU6(),
            nn.Conv2d(6, 8, 1, padding=padding),
            nn.ReLU6(),
            nn.Conv2d(8, 11, 1),
            nn.ReLU6(),
            nn.Conv2d(11, 5, 1),
            nn.ReLU6(),
        )
        self.dense = nn.Linear(5, 4)
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.weight *= 3.0
                    layer.bias.uniform_(0.2, 0.8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.layers(x).mean((2, 3)))


IMAGES = np.random.default_rng(0).integers(0, 256, (48, 9, 9, 3)).astype(np.uint8)
HELD = np.random.default_rng(1).integers(0, 256, (48, 9, 9, 3)).astype(np.uint8)


@cache
def model_of(padding: int = 0) -> CalibratedModel:
    mod = from_torch(Chain(padding).eval(), torch.zeros(1, 3, 9, 9))
    return calibrate(mod, IMAGES, InputSpec(), fold_constant_channels=False)


def plan_of(model: CalibratedModel, activations: int = 4) -> BitPlan:
    return uniform_bit_plan(model.layers, activations, 8)


def channels(model: CalibratedModel) -> list[int]:
    return [spec.out_channels for spec in model.layers if spec.weight_elements]


def test_narrow_channels_are_copied_up_to_a_tile_and_outputs_stay() -> None:
    model = model_of()
    split = split_channels(model, plan_of(model))
    assert channels(split) == [8, 8, 8, 16, 5, 4]
    assert [block.copies for block in split.network.weighted] == [2, 2, 0, 5, 0, 0]
    x = np.random.default_rng(2).normal(size=(3, 3, 9, 9)).astype(np.float32)
    wanted = evaluate_float(model.module, x)
    np.testing.assert_allclose(evaluate_float(split.module, x), wanted, atol=1e-5)


def test_the_channels_that_move_the_reader_most_are_copied() -> None:
    model = model_of()
    before, after = (m.network.by_name for m in (model, split_channels(model, plan_of(model))))
    reader = next(b for b in model.network.blocks if b.shape[0] == 8)
    moved = np.square(reader.weights[:, :, 0, 0] * reader.g[:, None]).sum(0) * reader.x_means**2
    depthwise = before[reader.inputs[0]]
    for name in (depthwise.name, depthwise.inputs[0]):
        copied = before[name].weights[np.argsort(-moved)[:2]]
        np.testing.assert_array_equal(after[name].weights[-2:], copied)


def test_a_plan_of_8_bits_and_readers_with_borders_split_nothing() -> None:
    model = model_of()
    assert channels(split_channels(model, plan_of(model, 8))) == [6, 6, 8, 11, 5, 4]
    padded = model_of(padding=1)
    assert channels(split_channels(padded, plan_of(padded))) == [6, 6, 8, 16, 5, 4]


def test_only_what_is_narrow_is_split() -> None:
    model = model_of()
    plan = plan_of(model)
    depthwise = next(spec for spec in model.layers if spec.op == "depthwise_conv2d")
    plan = replace(plan, activations=plan.activations | {depthwise.y: 8})
    assert channels(split_channels(model, plan)) == [6, 6, 8, 16, 5, 4]


class TwoReaders(nn.Module):
    """A tensor that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second, self.third = (nn.Conv2d(i, 4, 1) for i in (3, 4, 4))
        self.dense = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return self.dense((self.second(x) + self.third(x)).mean((2, 3)))


def test_a_tensor_of_two_readers_is_not_split() -> None:
    model = calibrate(from_torch(TwoReaders().eval(), torch.zeros(1, 3, 9, 9)), IMAGES, InputSpec())
    assert channels(split_channels(model, plan_of(model))) == [4, 4, 4, 2]


def test_copies_bring_the_integer_program_nearer_to_the_float_network() -> None:
    model = model_of()
    plan = plan_of(model, 8)
    depthwise = next(spec for spec in model.layers if spec.op == "depthwise_conv2d")
    plan = replace(plan, activations=plan.activations | {depthwise.y: 4})
    split = split_channels(model, plan)
    assert channels(split) == [8, 8, 8, 11, 5, 4]
    wanted = run_batches(FloatTeacher(model.network), HELD)
    errors = []
    for each in (model, split):
        result = reconstruct(each.network, plan, IMAGES)
        found = run_batches(IntegerNetwork(each.network, result), HELD)
        errors.append(np.square(found - wanted).mean())
    assert errors[1] < 0.8 * errors[0], errors
    block = split.network.by_name[depthwise.name]
    offsets, units = result.channels[block.name].offset, result.channels[block.name].unit
    step = units * result.ranges[block.name][1] / 15
    original = [int(np.flatnonzero((block.weights == w).all((1, 2, 3)))[0]) for w in block.weights]
    apart = (offsets - offsets[original]) / step
    np.testing.assert_allclose(apart, [0, 0, 0, 0, 0, 0, 0.5, 0.5], atol=0.1)
