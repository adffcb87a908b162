"""Small float networks as plain values, for tests of quantization without TVM."""

from __future__ import annotations

import numpy as np
import torch

from tvm_mpq.quant.bit_plan import UNLIMITED, BitPlan
from tvm_mpq.quant.float_network import FloatTeacher
from tvm_mpq.quant.network import Block, FloatNetwork
from tvm_mpq.specs import InputSpec

SPEC = InputSpec.from_range("-1,1")


def weighted(
    seed: int, name: str, op: str, x: str, cin: int, shape: tuple[int, int, int], **kwargs: object
) -> Block:
    """A random layer whose outputs are of order 1."""
    generator = np.random.default_rng(seed)
    kernel = kwargs.pop("kernel", (1, 1))
    taps = (1 if op == "depthwise_conv2d" else cin) * int(np.prod(kernel))  # type: ignore[call-overload]
    inputs = 1 if op == "depthwise_conv2d" else cin
    weights = generator.normal(0, taps**-0.5, (shape[0], inputs, *kernel))  # type: ignore[misc]
    return Block(
        name,
        op,
        (x,),
        name,
        shape,
        weights.astype(np.float32),
        generator.uniform(0.5, 2.0, shape[0]),
        generator.normal(0.3, 0.3, shape[0]),
        kernel=kernel,  # type: ignore[arg-type]
        **kwargs,  # type: ignore[arg-type]
    )


def small_network(seed: int = 0) -> FloatNetwork:
    """Convolution, depthwise, pointwise, residual add, pool, dense on 3 x 10 x 10 images."""
    same = {"kernel": (3, 3), "padding": (1, 1, 1, 1), "activation": "clip", "clip_max": 6.0}
    clip = {"activation": "clip", "clip_max": 6.0}
    blocks = [
        weighted(seed, "c0", "conv2d", "x", 3, (8, 10, 10), **same),
        weighted(seed + 1, "d1", "depthwise_conv2d", "c0", 8, (8, 10, 10), **same),
        weighted(seed + 2, "p2", "conv2d", "d1", 8, (12, 10, 10), **clip),
        weighted(seed + 3, "p3", "conv2d", "p2", 12, (12, 10, 10)),
        Block("a4", "add", ("p2", "p3"), "a4", (12, 10, 10)),
        weighted(seed + 4, "p5", "conv2d", "a4", 12, (16, 10, 10), **clip),
        Block("g6", "global_avg_pool", ("p5",), "p5", (16, 1, 1)),
        weighted(seed + 5, "f7", "dense", "g6", 16, (5, 1, 1)),
    ]
    return calibrated(FloatNetwork("x", (3, 10, 10), tuple(blocks), SPEC), images(16, seed))


def images(count: int, seed: int = 0) -> np.ndarray:
    """uint8 [N, 10, 10, 3], smooth so that channels differ."""
    generator = np.random.default_rng(seed + 100)
    base = generator.integers(0, 256, (count, 5, 5, 3))
    return base.repeat(2, 1).repeat(2, 2).astype(np.uint8)


def calibrated(network: FloatNetwork, data: np.ndarray) -> FloatNetwork:
    """The network with ranges and input means of ``data``."""
    from dataclasses import replace

    from tvm_mpq.quant.float_network import real_images

    tensor = torch.from_numpy(data)
    real = real_images(tensor, network.input_spec)
    means = {network.input: real.mean((0, 2, 3)).double().numpy()}
    limits: dict[str, tuple[float, float]] = {}

    def see(block: Block, y: torch.Tensor) -> None:
        means[block.name] = y.mean((0, 2, 3)).double().numpy()
        limits[block.name] = (min(float(y.min()), 0.0), float(y.max()))

    with torch.no_grad():
        FloatTeacher(network)(tensor, see)
    blocks = [
        replace(
            block,
            ranges=limits[block.name] * 3 if block.op != "global_avg_pool" else (),
            x_means=means[block.inputs[0]] if block.weights is not None else None,
        )
        for block in network.blocks
    ]
    return replace(network, blocks=tuple(blocks))


def plan_of(network: FloatNetwork, activations: int = 8, weights: int = 8) -> BitPlan:
    """One width for activations, one for weights; image and logits 8."""
    tensors = {network.input: 8} | {b.tensor: activations for b in network.blocks}
    tensors[network.last.tensor] = 8
    owners = {b.name: weights for b in network.weighted}
    return BitPlan(tensors, owners, (), 0, 0, UNLIMITED, UNLIMITED, "manual", "none")
