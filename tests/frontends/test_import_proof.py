"""Arguments of operators: an import is right, or it is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tvm_mpq.errors import UnsupportedOperatorError
from tvm_mpq.frontends import from_torch
from tvm_mpq.frontends.float_program import float_program
from tvm_mpq.frontends.proof import difference, seeded_inputs

pytestmark = pytest.mark.null

SHAPE = (1, 4, 6, 8)
W = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1))
W1 = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(2))
WT = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(3))
V = torch.tensor([0.5, -1.0, 2.0, 0.25])

# Every operator that the importer converts and that a convolutional network could hold, with each
# of its arguments away from the default. f maps [1, 4, 6, 8] to any tensor.
CASES = {
    "add alpha": lambda x: torch.add(x, x.relu(), alpha=2),
    "add scalar alpha": lambda x: torch.add(x, 3.0, alpha=0.5),
    "sub alpha": lambda x: torch.sub(x, x.relu(), alpha=3),
    "rsub alpha": lambda x: torch.rsub(x, x.relu(), alpha=3),
    "rsub": lambda x: 1 - x,
    "addmm alpha beta": lambda x: torch.addmm(
        V[:3], x[0, :, 0], W[0, :, :2].reshape(8, 3), alpha=2.0, beta=3.0
    ),
    "baddbmm": lambda x: torch.baddbmm(x[0, :, :, :6], x[0], x[0].mT, beta=0.5, alpha=2.0),
    "mul scalar": lambda x: x * 3,
    "mul channels": lambda x: x * V[:, None, None],
    "add width": lambda x: x + torch.arange(8.0),
    "add height": lambda x: x + torch.arange(6.0)[:, None],
    "div": lambda x: x / 3,
    "div floor": lambda x: torch.div(x, 3, rounding_mode="floor"),
    "div trunc": lambda x: torch.div(x, 3, rounding_mode="trunc"),
    "floor divide": lambda x: torch.floor_divide(x, 2),
    "fmod": lambda x: torch.fmod(x, 1.5),
    "remainder": lambda x: torch.remainder(x, 1.5),
    "pow": lambda x: x.abs() ** 1.5,
    "pow scalar": lambda x: 2.0**x,
    "maximum": lambda x: torch.maximum(x, x.flip(3)),
    "minimum": lambda x: torch.minimum(x, x.flip(3)),
    "clamp": lambda x: x.clamp(-1, 2),
    "clamp min": lambda x: x.clamp(min=-0.5),
    "clamp max": lambda x: x.clamp(max=0.5),
    "clamp tensors": lambda x: torch.clamp(x, -V.abs()[:, None, None], V.abs()[:, None, None]),
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 3.0),
    "relu6": F.relu6,
    "elu": lambda x: F.elu(x, alpha=0.3),
    "elu scales": lambda x: torch.ops.aten.elu(x, 0.3, 2.0, 0.5),
    "celu": lambda x: F.celu(x, alpha=0.3),
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "leaky relu": lambda x: F.leaky_relu(x, 0.3),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.3])),
    "prelu channels": lambda x: F.prelu(x, V),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": lambda x: F.softplus(x, beta=2.0, threshold=1.0),
    "softshrink": lambda x: F.softshrink(x, 0.3),
    "hardshrink": lambda x: F.hardshrink(x, 0.3),
    "tanhshrink": F.tanhshrink,
    "threshold": lambda x: F.threshold(x, 0.3, 7.0),
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "softmax": lambda x: F.softmax(x, 1),
    "softmax dtype": lambda x: F.softmax(x, 1, dtype=torch.float32),
    "log softmax": lambda x: F.log_softmax(x, -1),
    "softmin": lambda x: F.softmin(x, 2),
    "glu": lambda x: F.glu(x, 1),
    "round": torch.round,
    "round decimals": lambda x: torch.round(x, decimals=1),
    "logit": lambda x: torch.logit(x.sigmoid(), eps=0.1),
    "nan to num": lambda x: torch.nan_to_num(x.log(), nan=1.0),
    "lerp": lambda x: torch.lerp(x, x.relu(), 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1, value=0.5),
    "conv": lambda x: F.conv2d(x, W, V.repeat(2)[:6]),
    "conv stride padding": lambda x: F.conv2d(x, W, None, (2, 1), (1, 0)),
    "conv dilation": lambda x: F.conv2d(x, W, None, 1, (2, 1), (2, 1)),
    "conv same": lambda x: F.conv2d(x, W, None, 1, "same"),
    "conv valid": lambda x: F.conv2d(x, W, None, 1, "valid"),
    "conv even same": lambda x: F.conv2d(x, W[:, :, :2, :2], None, 1, "same"),
    "conv groups": lambda x: F.conv2d(x, W[:, :2], None, groups=2),
    "conv depthwise": lambda x: F.conv2d(x, W1, V, padding=1, groups=4),
    "conv1d": lambda x: F.conv1d(x[:, :, 0], W[:, :, 0], None, 2, 1),
    "conv1d dilation": lambda x: F.conv1d(x[:, :, 0], W[:, :, 0], None, 1, 0, 2),
    "conv transpose": lambda x: F.conv_transpose2d(x, WT, None, 2),
    "conv transpose padding": lambda x: F.conv_transpose2d(x, WT, None, 2, 1, 1),
    "conv transpose groups": lambda x: F.conv_transpose2d(x, WT, None, 2, groups=2),
    "conv transpose dilation": lambda x: F.conv_transpose2d(x, WT, None, 2, dilation=2),
    "conv transpose 1d": lambda x: F.conv_transpose1d(x[:, :, 0], WT[:, :, 0], None, 2, 1, 1),
    "conv reflect": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "conv replicate": nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate"),
    "conv circular": nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "linear": lambda x: F.linear(x, W[0, :, :1].reshape(1, 12).repeat(5, 1)[:, :8]),
    "linear bias": lambda x: F.linear(x, W[0, :, :2].reshape(3, 8), V[:3]),
    "bilinear": nn.Bilinear(8, 8, 3),
    "batch norm": nn.BatchNorm2d(4, eps=0.1),
    "batch norm plain": nn.BatchNorm2d(4, affine=False),
    "batch norm no statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "instance norm": nn.InstanceNorm2d(4, affine=True),
    "group norm": nn.GroupNorm(2, 4, eps=0.1),
    "layer norm": nn.LayerNorm((6, 8), eps=0.1),
    "layer norm last": nn.LayerNorm(8),
    "local response norm": nn.LocalResponseNorm(2),
    "normalize": lambda x: F.normalize(x, dim=1),
    "vector norm": lambda x: torch.linalg.vector_norm(x, 3, (1,), True),
    "avg pool": lambda x: F.avg_pool2d(x, 2),
    "avg pool stride": lambda x: F.avg_pool2d(x, (2, 3), (1, 2)),
    "avg pool pad": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg pool exclude": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg pool ceil": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "avg pool ceil pad": lambda x: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True),
    "avg pool divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=1),
    "avg pool 1d": lambda x: F.avg_pool1d(x[:, :, 0], 3, 2, 1, count_include_pad=False),
    "avg pool 1d ceil": lambda x: F.avg_pool1d(x[:, :, 0], 3, 2, ceil_mode=True),
    "lp pool": lambda x: F.lp_pool2d(x, 2.0, 2),
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool ceil": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "max pool dilation": lambda x: F.max_pool2d(x, 2, 1, 0, 2),
    "max pool 1d": lambda x: F.max_pool1d(x[:, :, 0], 2, 2, 1, 1, True),
    "adaptive avg pool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive avg pool 2x4": lambda x: F.adaptive_avg_pool2d(x, (2, 4)),
    "adaptive avg pool odd": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    "adaptive avg pool 1d": lambda x: F.adaptive_avg_pool1d(x[:, :, 0], 3),
    "adaptive max pool": lambda x: F.adaptive_max_pool2d(x, 1),
    "adaptive max pool odd": lambda x: F.adaptive_max_pool2d(x, (4, 3)),
    "mean": lambda x: x.mean((2, 3)),
    "mean keepdim": lambda x: x.mean((2, 3), keepdim=True),
    "mean one axis": lambda x: x.mean(-1),
    "mean all": lambda x: x.mean(),
    "sum": lambda x: x.sum((1, 3), keepdim=True),
    "amax": lambda x: x.amax((2, 3)),
    "amin": lambda x: x.amin(1, keepdim=True),
    "max dim": lambda x: x.max(1)[0],
    "min dim": lambda x: x.min(1, keepdim=True)[0],
    "var": lambda x: x.var((2, 3), correction=0),
    "var unbiased": lambda x: x.var((2, 3), keepdim=True),
    "std": lambda x: x.std((2, 3), correction=2),
    "var mean": lambda x: torch.var_mean(x, (2, 3))[0],
    "prod": lambda x: x.prod(1),
    "median": lambda x: x.median(1)[0],
    "logsumexp": lambda x: x.logsumexp(1),
    "cumsum": lambda x: x.cumsum(2),
    "cumprod": lambda x: x.cumprod(2),
    "sort": lambda x: x.sort(1, descending=True)[0],
    "topk": lambda x: x.topk(2, 1, largest=False)[0],
    "pad": lambda x: F.pad(x, (1, 2, 3, 0)),
    "pad value": lambda x: F.pad(x, (1, 2), value=5.0),
    "pad negative": lambda x: F.pad(x, (-1, 2)),
    "pad channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "pad reflect": lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"),
    "pad replicate": lambda x: F.pad(x, (1, 2, 2, 1), mode="replicate"),
    "pad circular": lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"),
    "cat": lambda x: torch.cat([x, x.relu()], -3),
    "cat width": lambda x: torch.cat([x, x.relu()], 3),
    "stack": lambda x: torch.stack([x, x.relu()], 2).flatten(1, 2),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "chunk uneven": lambda x: x.chunk(3, 1)[1],
    "split": lambda x: x.split([1, 3], 1)[1],
    "split width": lambda x: x.split(3, 3)[2],
    "unbind": lambda x: x.unbind(1)[2],
    "narrow": lambda x: x.narrow(1, 1, 2),
    "slice": lambda x: x[:, 1:3],
    "slice step": lambda x: x[:, ::2, 1:, 1::3],
    "slice negative": lambda x: x[:, -3:-1],
    "select": lambda x: x[:, :, 2],
    "index": lambda x: x[:, [2, 0, 1]],
    "index select": lambda x: x.index_select(1, torch.tensor([2, 0])),
    "gather": lambda x: x.gather(3, torch.arange(4).expand(1, 4, 6, 4)),
    "flip": lambda x: x.flip((2, 3)),
    "roll": lambda x: x.roll((1, -2), (2, 3)),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "repeat interleave": lambda x: x.repeat_interleave(2, 1),
    "tile": lambda x: x.tile((2, 1, 1)),
    "expand": lambda x: x[:, :1].expand(1, 4, 6, 8) + x,
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, -1),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "view": lambda x: x.view(1, 8, 3, 8),
    "flatten": lambda x: x.flatten(1, 2),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "squeeze": lambda x: x[:, :1].squeeze(1),
    "unsqueeze": lambda x: x.unsqueeze(-2),
    "as strided": lambda x: x.as_strided((1, 4, 3, 4), (192, 48, 16, 2), 1),
    "tril": lambda x: x.tril(-1),
    "triu": lambda x: x.triu(2),
    "masked fill": lambda x: x.masked_fill(x > 0.5, 7.0),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "upsample nearest": lambda x: F.interpolate(x, scale_factor=2),
    "upsample nearest odd": lambda x: F.interpolate(x, size=(9, 13)),
    "upsample nearest exact": lambda x: F.interpolate(x, size=(9, 13), mode="nearest-exact"),
    "upsample bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "upsample bilinear corners": lambda x: F.interpolate(
        x, scale_factor=2, mode="bilinear", align_corners=True
    ),
    "upsample bilinear odd": lambda x: F.interpolate(x, size=(9, 13), mode="bilinear"),
    "upsample bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "upsample antialias": lambda x: F.interpolate(x, size=(3, 5), mode="bilinear", antialias=True),
    "upsample area": lambda x: F.interpolate(x, size=(3, 4), mode="area"),
    "grid sample": lambda x: F.grid_sample(
        x, F.affine_grid(torch.eye(2, 3)[None] * 0.7, [1, 4, 5, 5]), padding_mode="border"
    ),
    "matmul": lambda x: x @ x.mT,
    "einsum": lambda x: torch.einsum("bchw,oc->bohw", x, W[:, :, 0, 0]),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention scale": lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.1),
    "unfold": lambda x: F.unfold(x, 3, padding=1, stride=2),
    "one hot": lambda x: F.one_hot(x.argmax(1), 4).float(),
    "to half and back": lambda x: (100 * x).half().float(),
    "to int and back": lambda x: x.int().float(),
    "to uint8 and back": lambda x: (x.abs() * 30).to(torch.uint8).float() + x,
    "new zeros": lambda x: x + x.new_zeros(8) + x.new_ones(8),
    "full like": lambda x: x + torch.full_like(x, 3.0),
    "arange": lambda x: x * torch.arange(1, 9, 1.0),
    "linspace": lambda x: x * torch.linspace(0, 1, 8),
}

# Arguments that TVM 0.27 drops, and neighbours that it keeps: the quick tests.
TRAPS = (
    "add alpha",
    "rsub alpha",
    "selu",
    "avg pool divisor",
    "avg pool exclude",
    "upsample nearest odd",
    "hardtanh",
    "conv dilation",
)


class _Model(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.inner = function if isinstance(function, nn.Module) else None
        self._function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # As inside a network: something before and something after.
        x = 1.25 * x
        y = self._function(*[x] * (2 if isinstance(self.inner, nn.Bilinear) else 1))
        return y * 0.5


@pytest.mark.parametrize(
    "name",
    [name if name in TRAPS else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_an_argument_is_imported_or_refused(name: str) -> None:
    torch.manual_seed(0)
    model = _Model(CASES[name]).eval()
    try:
        mod = from_torch(model, torch.zeros(SHAPE))
    except UnsupportedOperatorError as error:
        assert "\n" not in str(error)
        return
    program = float_program(mod)
    for x in seeded_inputs(SHAPE):
        # Another draw than that of the proof: a right import is right for every input.
        x = x[:, ::-1, ::-1].copy()
        with torch.no_grad():
            wanted = model(torch.from_numpy(x)).numpy()
        (found,) = program.run(x)[1]
        assert found.shape == wanted.shape
        assert difference(found, wanted) is None


@pytest.mark.parametrize("name", ["add alpha", "rsub alpha", "selu", "avg pool divisor"])
def test_a_dropped_argument_is_named(name: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match="with another meaning, off by .* %"):
        from_torch(_Model(CASES[name]).eval(), torch.zeros(SHAPE))


def test_the_layer_is_named_and_depth_hides_nothing() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.add(x, x.relu(), alpha=1.01)

    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(12)]
    # What the last layer gives is its bias: a thousand times more than what reaches it.
    last = nn.Conv2d(4, 4, 1)
    nn.init.constant_(last.bias, 1e6)
    model = nn.Sequential(Branch(), *layers, last).eval()
    with pytest.raises(UnsupportedOperatorError, match=r"^0: TVM imports add.Tensor.*alpha=1.01"):
        from_torch(model, torch.zeros(SHAPE))


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.01], [1.0, 2.0], False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([1e-30, 0.0], [0.0, 0.0], False),
        ([1e-30, 2e-30], [2e-30, 2e-30], False),
        ([1.0, float("nan")], [1.0, float("nan")], True),
        ([1.0, float("inf")], [1.0, float("-inf")], False),
        ([1.0, 0.0], [1.0, float("inf")], False),
        ([1.0], [1.0, 1.0], False),
    ],
)
def test_difference(found: list[float], expected: list[float], same: bool) -> None:
    assert (difference(np.array(found), np.array(expected)) is None) == same
