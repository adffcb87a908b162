"""Small torch networks with every operator we support, and the plans and images they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from relay_passes import (
    AnnotateBitwidths,
    AnnotateRanges,
    Canonicalize,
    FoldFlattened,
    FuseBlocks,
    layer_specs,
)
from relay_passes.graph import bindings, op_name
from tvm_mpq._tvm_compat import IRModule
from tvm_mpq.frontends.torch import from_torch
from tvm_mpq.pipeline import CalibratedModel, calibrate
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.specs import InputSpec

SHAPE = (13, 14, 3)
CLASSES = 5
Images = npt.NDArray[np.uint8]


class SmallNet(nn.Module):
    """conv + bn + relu6, depthwise, linear pointwise, residual add, concat, max pool, mean, fc."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(SHAPE[2], 8, 3, stride=2, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(8)
        self.project = nn.Conv2d(8, 8, 1)
        self.project_bn = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 5, 1)
        self.classifier = nn.Linear(13, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = nn.functional.relu6(self.stem_bn(self.stem(x)))
        y = nn.functional.relu6(self.depthwise_bn(self.depthwise(stem)))
        y = nn.functional.relu(self.project_bn(self.project(y)) + stem)
        y = torch.cat([y, nn.functional.relu(self.branch(y))], 1)
        y = nn.functional.max_pool2d(y, 3, 2)
        return self.classifier(y.mean((2, 3)))


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """``model`` in eval mode with random weights and batch norms, some of negative gamma."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            values = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(values.abs() + 0.5)
            elif tensor.ndim > 1:
                tensor.copy_(values / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(values * 0.3 + (1.0 if name.endswith("bn.weight") else 0.0))
    for name, tensor in model.state_dict().items():
        if name.endswith("bn.weight"):
            tensor[0] = -tensor[0].abs() - 0.2
    return model.eval()


def imported(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> IRModule:
    """``model`` as the frontend gives it; ``shape`` is (H, W, C)."""
    height, width, channels = shape
    return from_torch(model, torch.zeros(1, channels, height, width))


def random_images(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 1) -> Images:
    """Smooth random images, uint8 [count, H, W, C]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, shape[2]), dtype=np.uint8)
    tensor = torch.from_numpy(coarse).permute(0, 3, 1, 2).float()
    smooth = nn.functional.interpolate(tensor, shape[:2], mode="bilinear")
    return np.ascontiguousarray(smooth.permute(0, 2, 3, 1).numpy().astype(np.uint8))


def real_images(images: Images) -> torch.Tensor:
    """What torch sees of ``images`` under the default InputSpec, float32 [N, C, H, W]."""
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1.0).permute(0, 3, 1, 2)


def fused(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> IRModule:
    """``model`` as float blocks."""
    return FuseBlocks()(FoldFlattened()(Canonicalize()(imported(model, shape))))


def with_ranges(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> IRModule:
    """``model`` as float blocks with ranges from a few random images."""
    return AnnotateRanges(random_images(8, shape), InputSpec(), "mse")(fused(model, shape))


def plan_of(mod: IRModule, activations: int = 8, weights: int = 8) -> BitPlan:
    """One width for all activations, another for all weights; image and logits stay 8."""
    layers = layer_specs(mod)
    fixed = {layers[0].x[0]: 8, layers[-1].y: 8}
    tensors = dict.fromkeys((name for s in layers for name in (*s.x, s.y)), activations) | fixed
    kept = {s.name: weights for s in layers if s.weight_elements}
    return BitPlan(tensors, kept, (), 0, 0, 1 << 62, 1 << 62, "test", "test")


@cache
def small_net() -> nn.Module:
    """The randomized SmallNet, made once."""
    return randomized(SmallNet())


@cache
def small_net_with_ranges() -> IRModule:
    """The calibrated float blocks of SmallNet, made once."""
    return with_ranges(small_net())


@cache
def small_net_annotated(activations: int = 8, weights: int = 8) -> IRModule:
    """The same with widths."""
    mod = small_net_with_ranges()
    return AnnotateBitwidths(plan_of(mod, activations, weights))(mod)


def op_counts(mod: IRModule) -> dict[str, int]:
    """How often each operator occurs in ``main``; Relax's own without their prefix."""
    names = (op_name(value).removeprefix("relax.") for _, value in bindings(mod))
    return dict(Counter(name for name in names if name))


class Sequence(nn.Module):
    """A function of one map between a convolution and a classifier, for error tests."""

    def __init__(self, middle: Callable[[torch.Tensor], torch.Tensor], channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(SHAPE[2], 8, 3, padding=1)
        self.middle = middle
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.middle(self.stem(x)).mean((2, 3)))


@cache
def calibrated_small_net() -> CalibratedModel:
    """SmallNet as ``build`` takes it, made once."""
    return calibrate(imported(small_net()), random_images(8), InputSpec())
