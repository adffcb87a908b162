"""ResNet-8 in the shape of MLPerf Tiny's image classification: 32x32x3, three residual blocks."""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 10
SIZE = 32
# (channels, stride) of each block.
BLOCKS = ((16, 1), (32, 2), (64, 2))


class Block(nn.Module):
    """relu(conv(relu(conv(x))) + x), with a 1x1 projection of x where the shape changes."""

    def __init__(self, channels: tuple[int, int], stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(*channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels[1]),
            nn.ReLU(),
            nn.Conv2d(channels[1], channels[1], 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels[1]),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or channels[0] != channels[1]:
            self.skip = nn.Sequential(
                nn.Conv2d(*channels, 1, stride, bias=False), nn.BatchNorm2d(channels[1])
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, C, H, W]"""
        return torch.relu(self.main(x) + self.skip(x))


class ResNet8(nn.Module):
    """float32 [N, 3, 32, 32] -> logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        channels = BLOCKS[0][0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        blocks = []
        for wide, stride in BLOCKS:
            blocks.append(Block((channels, wide), stride))
            channels = wide
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.dense(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))
