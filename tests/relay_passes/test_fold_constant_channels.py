"""FoldConstantChannels: fewer channels, the same outputs; what must stay stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from relay_passes import Canonicalize, FoldConstantChannels, FuseBlocks, layer_specs
from relay_passes.evaluate import evaluate_float
from tvm_mpq._tvm_compat import IRModule
from tvm_mpq.frontends import from_torch

pytestmark = pytest.mark.null


def fused(model: nn.Module) -> IRModule:
    return FuseBlocks()(Canonicalize()(from_torch(model.eval(), torch.zeros(1, 3, 9, 9))))


def channels(mod: IRModule) -> list[int]:
    return [spec.out_channels for spec in layer_specs(mod) if spec.weight_elements]


def chain(padding: int = 1) -> nn.Sequential:
    """conv, relu, depthwise, relu6, pointwise, pool, linear."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=padding, groups=6),
        nn.ReLU6(),
        nn.Conv2d(6, 5, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    )


def check(model: nn.Sequential, expected: list[int]) -> None:
    before = fused(model)
    after = FoldConstantChannels()(before)
    assert channels(after) == expected
    images = np.random.default_rng(0).normal(size=(3, 3, 9, 9)).astype(np.float32)
    wanted = evaluate_float(before, images)
    np.testing.assert_allclose(evaluate_float(after, images), wanted, atol=1e-5)


def test_nothing_to_fold() -> None:
    check(chain(), [6, 6, 5, 4])


@pytest.mark.parametrize(("bias", "left"), [(-1.0, [5, 5, 5, 4]), (1.0, [6, 6, 5, 4])])
def test_a_constant_crosses_a_padded_window_only_as_zero(bias: float, left: list[int]) -> None:
    model = chain()
    with torch.no_grad():
        model[0].weight[2] = 0.0
        model[0].bias[2] = bias  # ReLU makes -1 a constant 0; a constant 1 meets zeros at borders
    check(model, left)


def test_without_padding_any_constant_is_folded_into_the_offset() -> None:
    model = chain(padding=0)
    with torch.no_grad():
        model[0].weight[2] = 1e-20  # what weight decay leaves
        model[0].bias[2] = 1.0
        model[4].weight[3] = 0.0
    check(model, [5, 5, 4, 4])


def test_channels_that_no_reader_uses_leave() -> None:
    model = chain()
    with torch.no_grad():
        model[4].weight[:, 4] = 0.0
        model[8].weight[:, 1] = 0.0
    check(model, [5, 5, 4, 4])


def test_a_layer_keeps_one_channel() -> None:
    model = chain()
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.fill_(0.5)
    mod = FoldConstantChannels()(fused(model))
    assert min(channels(mod)) >= 1
    check(model, channels(mod))


class Residual(nn.Module):
    """Both inputs of an add keep all their channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.dense = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.first(x))
        return self.dense((a + self.second(a)).mean((2, 3)))


def test_an_add_keeps_its_channels() -> None:
    model = Residual()
    with torch.no_grad():
        model.first.weight[1] = 0.0
    assert channels(FoldConstantChannels()(fused(model))) == [4, 4, 2]
