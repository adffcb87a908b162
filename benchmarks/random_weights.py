"""Random weights that behave: networks whose activations neither vanish nor explode."""

from __future__ import annotations

import torch
from torch import nn


def settle(model: nn.Module, shape: tuple[int, int, int], images: int = 2) -> nn.Module:
    """``model`` in eval mode, its batch norms set to the statistics of random images.

    ``shape`` is (channels, height, width); images lie in [-1, 1]. Deterministic.
    """
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the cumulative mean, not a slow one
            layer.reset_running_stats()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.train()(torch.rand(images, *shape, generator=generator) * 2 - 1)
    return model.eval()
