"""FuseBlocks: blocks, their constants, equality with torch, and what has no integer counterpart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from relay_passes.evaluate import evaluate_float
from relay_passes.graph import nodes
from tests.relay_passes.networks import (
    Sequence,
    fused,
    op_counts,
    random_images,
    randomized,
    real_images,
    small_net,
)
from tvm_mpq._tvm_compat import constant_array
from tvm_mpq.errors import UnsupportedOperatorError

pytestmark = pytest.mark.null


def test_small_net_as_blocks() -> None:
    mod = fused(small_net())
    assert op_counts(mod) == {
        "mpq.conv2d": 3,
        "mpq.depthwise_conv2d": 1,
        "mpq.add": 1,
        "mpq.concat": 1,
        "mpq.max_pool2d": 1,
        "mpq.global_avg_pool": 1,
        "mpq.dense": 1,
    }
    activations = {node.name: node.attrs.get("activation") for node in nodes(mod)}
    assert activations == {
        "conv2d_0": "clip",
        "depthwise_conv2d_1": "clip",
        "conv2d_2": "none",
        "add_3": "relu",
        "conv2d_4": "relu",
        "concat_5": None,
        "max_pool2d_6": None,
        "global_avg_pool_7": None,
        "dense_8": "none",
    }
    stem, pool = nodes(mod)[0], nodes(mod)[6]
    assert stem.attrs["clip_max"] == 6.0 and stem.attrs["strides"] == (2, 2)
    assert pool.attrs["window"] == (3, 3) and pool.attrs["strides"] == (2, 2)


def test_blocks_equal_torch() -> None:
    real = real_images(random_images(4))
    expected = small_net()(real).detach().numpy()
    assert np.abs(evaluate_float(fused(small_net()), real.numpy()) - expected).max() < 1e-5


def test_batch_norm_is_not_folded_into_the_weights() -> None:
    model = small_net()
    stem = nodes(fused(model))[0]
    weights, g, h = (constant_array(arg) for arg in stem.args[1:])
    assert np.array_equal(weights, model.stem.weight.detach().numpy())  # type: ignore[union-attr]
    state = {name: tensor.double().numpy() for name, tensor in model.stem_bn.state_dict().items()}  # type: ignore[union-attr]
    scale = state["weight"] / np.sqrt(state["running_var"] + 1e-5)
    assert g.dtype == h.dtype == np.float64 and (g < 0).any()
    assert np.allclose(g, scale, rtol=1e-12)
    assert np.allclose(h, state["bias"] - state["running_mean"] * scale, rtol=1e-12)


def test_the_observer_sees_every_block() -> None:
    seen: dict[str, tuple[int, ...]] = {}
    mod = fused(small_net())
    evaluate_float(
        mod, real_images(random_images(2)).numpy(), lambda n, t: seen.update({n: t.shape})
    )
    assert list(seen) == ["x", *(node.name for node in nodes(mod))]
    assert seen["concat_5"] == (2, 13, 7, 7)


class Branches(nn.Module):
    """A convolution over the whole map, repeated activations, dense layers in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=3)
        self.wide = nn.Conv2d(6, 8, (4, 4))
        self.inner = nn.Linear(8, 7)
        self.head = nn.Linear(7, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.hardtanh(self.stem(x), 0.0, 2.5)
        y = torch.relu(torch.relu(self.wide(y)))
        y = functional.relu6(self.inner(y.flatten(1)))
        return self.head(y)


def test_dense_over_a_map_and_double_activations() -> None:
    model = randomized(Branches())
    mod = fused(model)
    assert op_counts(mod) == {"mpq.conv2d": 1, "mpq.dense": 3}
    stem, wide, inner, _ = nodes(mod)
    assert stem.attrs["activation"] == "clip" and stem.attrs["clip_max"] == 2.5
    assert wide.attrs["activation"] == "relu" and inner.attrs["clip_max"] == 6.0
    real = real_images(random_images(3))
    difference = evaluate_float(mod, real.numpy()) - model(real).detach().numpy()
    assert np.abs(difference).max() < 1e-5


def test_concat_of_three_is_two_of_two() -> None:
    model = randomized(Sequence(lambda x: torch.cat([x, torch.relu(x), x], 1), 24))
    with pytest.raises(UnsupportedOperatorError, match="also read elsewhere"):
        fused(model)
    model = randomized(Sequence(lambda x: torch.cat([x, x, x], 1), 24))
    mod = fused(model)
    assert op_counts(mod)["mpq.concat"] == 2
    real = real_images(random_images(2))
    difference = evaluate_float(mod, real.numpy()) - model(real).detach().numpy()
    assert np.abs(difference).max() < 1e-5


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (torch.sigmoid, ["relax.sigmoid", "no integer counterpart", "Supported: conv2d"]),
        (lambda x: torch.softmax(x, 1), ["softmax", "no integer counterpart"]),
        (lambda x: x * 2.0, ["multiply", "no integer counterpart"]),
        (lambda x: functional.leaky_relu(x), ["leakyrelu", "no integer counterpart"]),
        (lambda x: functional.hardtanh(x, -1.0, 1.0), ["clip", "[-1.0, 1.0]", "[0, a]"]),
        (lambda x: torch.relu(functional.max_pool2d(x, 2)), ["max_pool2d", "directly"]),
        (lambda x: torch.relu(x.view(1, 2, 52, 14))[:, :1], ["reshape", "(1, 2, 52, 14)"]),
        (lambda x: torch.cat([x, x], 2), ["concat", "axis 2"]),
    ],
)
def test_unsupported(middle: Callable[[torch.Tensor], torch.Tensor], words: list[str]) -> None:
    channels = 1 if "reshape" in words else 8
    with pytest.raises(UnsupportedOperatorError) as caught:
        fused(Sequence(middle, channels).eval())
    assert all(word in str(caught.value) for word in words), caught.value


def test_groups_other_than_depthwise() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"groups=2 .*depthwise with multiplier 1"):
        fused(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2)).eval())
    with pytest.raises(UnsupportedOperatorError, match=r"groups=3 with weights \(6, 1, 1, 1\)"):
        fused(nn.Conv2d(3, 6, 1, groups=3).eval())


def test_batch_norm_after_an_add() -> None:
    class After(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.bn(y + y)

    with pytest.raises(UnsupportedOperatorError, match="batch_norm: it follows an add"):
        fused(After().eval())


class PlusConstant(nn.Module):
    """conv -> 4 channels, [height, width] of ``size``, plus a constant; flattened first or not."""

    def __init__(self, constant: torch.Tensor, flat: bool = False) -> None:
        super().__init__()
        self.a, self.constant, self.flat = nn.Conv2d(3, 4, 1), nn.Buffer(constant), flat

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        return (y.flatten(1) if self.flat else y) + self.constant


VALUES = torch.tensor([-3.0, -1.0, 1.0, 3.0])


# Height, width and channels are 4, so that the number of values tells nothing.
@pytest.mark.parametrize(
    ("constant", "flat"),
    [
        (VALUES, False),
        (VALUES[:, None], False),
        (VALUES.reshape(1, 1, 4, 1), False),
        (VALUES.reshape(1, 1, 1, 4), False),
        (torch.arange(16.0).reshape(4, 4), False),
        (torch.arange(64.0).reshape(4, 4, 4), False),
        (torch.arange(64.0), True),
    ],
)
def test_a_constant_over_the_map_cannot_be_added(constant: torch.Tensor, flat: bool) -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"add: a constant of shape .* \[1, .*4\]"):
        fused(PlusConstant(constant, flat).eval(), (4, 4, 3))


@pytest.mark.parametrize(
    "constant",
    [
        VALUES.reshape(4, 1, 1),
        VALUES.reshape(1, 4, 1, 1),
        VALUES.reshape(4, 1, 1).expand(4, 4, 4).contiguous(),
        torch.tensor(2.0),
        torch.full((4,), 2.0),
    ],
)
def test_a_constant_of_the_channels_is_an_offset(constant: torch.Tensor) -> None:
    model, images = PlusConstant(constant).eval(), random_images(2, (4, 4, 3))
    expected = model(real_images(images)).detach().flatten(1).numpy()
    blocks = fused(model, (4, 4, 3))
    assert op_counts(blocks) == {"mpq.conv2d": 1}
    found = evaluate_float(blocks, real_images(images).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Pyramid(nn.Module):
    """Two maps pooled to their own sizes, flattened and joined."""

    def __init__(self, sizes: tuple[tuple[int, int], ...], axis: int = 1) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 3, 1)
        self.sizes, self.axis = sizes, axis
        pixels = [(12 // h) * (12 // w) for h, w in sizes]
        self.fc = nn.Linear(4 * pixels[0] + 3 * pixels[1], 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = (self.a(x).relu(), self.b(x).relu())
        pooled = [
            functional.max_pool2d(one, size).flatten(1)
            for one, size in zip(maps, self.sizes, strict=True)
        ]
        return self.fc(torch.cat(pooled, self.axis))


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("size", [(12, 12), (4, 6), (12, 3)])
def test_flattened_maps_of_one_shape_are_joined(size: tuple[int, int], axis: int) -> None:
    model = randomized(Pyramid((size, size), axis))
    mod = fused(model, (12, 12, 3))
    real = real_images(random_images(3, (12, 12, 3)))
    difference = evaluate_float(mod, real.numpy()) - model(real).detach().numpy()
    assert np.abs(difference).max() < 1e-5


@pytest.mark.parametrize(
    "sizes", [((3, 12), (12, 3)), ((12, 12), (6, 6)), ((6, 6), (12, 12)), ((4, 3), (3, 4))]
)
def test_flattened_maps_of_other_shapes_are_not(sizes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(
        UnsupportedOperatorError, match=r"= concat: maps \(1, 4, .*one height and w"
    ):
        fused(randomized(Pyramid(sizes)), (12, 12, 3))


def test_a_constant_cannot_be_joined() -> None:
    class Joined(Sequence):
        def __init__(self) -> None:
            super().__init__(lambda x: torch.cat([x, self.map], 1), 9)
            self.register_buffer("map", torch.ones(1, 1, 13, 14))

    with pytest.raises(UnsupportedOperatorError, match="concat: a constant among its inputs"):
        fused(randomized(Joined()))
