"""The float network in torch: the teacher of reconstruction, sensitivity and distillation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from tvm_mpq.quant.integer_network import convolve
from tvm_mpq.quant.network import WEIGHTED, Block, FloatNetwork
from tvm_mpq.specs import InputSpec

Observer = Callable[[Block, torch.Tensor], None]


class FloatTeacher(nn.Module):
    """uint8 images [N, H, W, C] -> float32 logits [N, classes]."""

    def __init__(self, network: FloatNetwork) -> None:
        super().__init__()
        self.network = network
        self.blocks = nn.ModuleDict(
            {block.name: FloatBlock(block) for block in network.blocks if block.op in WEIGHTED}
        )

    def forward(self, images: torch.Tensor, observe: Observer | None = None) -> torch.Tensor:
        """Real logits; ``observe(block, output)`` sees every output."""
        values = {self.network.input: real_images(images, self.network.input_spec)}
        last_use = self.network.last_use()
        result = values[self.network.input]
        for index, block in enumerate(self.network.blocks):
            result = self.run_block(block, [values[name] for name in block.inputs])
            values[block.name] = result
            if observe:
                observe(block, result)
            for name in block.inputs:
                if last_use[name] <= index:
                    values.pop(name, None)
        return result.flatten(1)

    def run_block(self, block: Block, inputs: list[torch.Tensor]) -> torch.Tensor:
        """One block's output from its real inputs."""
        if block.op in WEIGHTED:
            return activate(block, self.blocks[block.name](inputs[0]))
        return weightless(block, inputs)


class FloatBlock(nn.Module):
    """Pre-activations g * conv(x, w) + h."""

    weights: torch.Tensor
    h: torch.Tensor

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        assert block.weights is not None and block.g is not None and block.h is not None
        weights = torch.from_numpy(block.weights).double()
        scaled = weights * torch.from_numpy(block.g)[:, None, None, None]
        self.register_buffer("weights", scaled.float())
        self.register_buffer("h", torch.from_numpy(block.h).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, O, H, W]."""
        return convolve(self.block, x, self.weights, self.h)


def weightless(block: Block, inputs: list[torch.Tensor]) -> torch.Tensor:
    """add, concat and pools on real values."""
    if block.op == "add":
        return activate(block, inputs[0] + inputs[1])
    if block.op == "concat":
        return torch.cat(inputs, 1)
    if block.op == "max_pool2d":
        top, left, bottom, right = block.padding
        padded = functional.pad(inputs[0], (left, right, top, bottom), value=-float("inf"))
        return functional.max_pool2d(padded, block.kernel, block.strides)
    return inputs[0].mean((2, 3), keepdim=True)


def activate(block: Block, z: torch.Tensor) -> torch.Tensor:
    """The block's activation."""
    if block.activation == "none":
        return z
    if block.activation == "clip":
        return functional.hardtanh(z, 0.0, block.clip_max)  # one pass less than clamp's gradient
    return functional.relu(z)


def real_images(images: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """uint8 [N, H, W, C] -> float32 [N, C, H, W]."""
    return spec.scale * (images.permute(0, 3, 1, 2).float() - spec.zero_point) + spec.offset
