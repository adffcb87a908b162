"""The float network as plain values: what reconstruction, sensitivity and retraining work on.

``relay_passes.float_network`` makes it from the fused blocks; nothing here knows TVM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tvm_mpq.finite import check_finite
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.quantization import Quantization
from tvm_mpq.specs import WIDTHS, InputSpec

Float64 = npt.NDArray[np.float64]

WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")
# Their output has the width of their input and its scale, unless a mean has a range of its own.
KEEPS_RANGE = ("max_pool2d", "global_avg_pool")


@dataclass(frozen=True, eq=False)
class Block:
    """One float block: ``act(g * conv(x, w) + h)`` per channel, or a weightless operator.

    Attributes
    ----------
    name: also the name of its output. inputs: names of blocks, or the network's input.
    tensor: the name that decides the output's width in a BitPlan.
    shape: output [C, H, W]. weights: float32 O I kh kw; g, h: float64 [O]; None if weightless.
    activation: ``none``, ``relu`` or ``clip`` to [0, clip_max].
    kernel, strides: (y, x); padding: (top, left, bottom, right).
    ranges: calibrated low, high for 8, 4 and 2 bits; empty for pools.
    x_means: calibrated mean of each input channel; None if weightless.
    copies: how many of the last channels repeat others (SplitChannels).

    Raises InvalidValueError for NaN or infinity.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    tensor: str
    shape: tuple[int, int, int]
    weights: npt.NDArray[np.float32] | None = None
    g: Float64 | None = None
    h: Float64 | None = None
    activation: str = "none"
    clip_max: float = 0.0
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    ranges: tuple[float, ...] = ()
    x_means: Float64 | None = None
    copies: int = 0

    def __post_init__(self) -> None:
        for field in ("weights", "g", "h", "clip_max", "ranges", "x_means"):
            values = getattr(self, field)
            if values is not None:
                check_finite(f"layer {self.name}: {field}", values, "check the float network")

    @property
    def kernel_op(self) -> str:
        """The operator as the bit search knows it: 1x1 convolutions are ``pointwise_conv2d``."""
        return "pointwise_conv2d" if (self.op, self.kernel) == ("conv2d", (1, 1)) else self.op

    @property
    def groups(self) -> int:
        """Groups of the convolution."""
        return self.shape[0] if self.op == "depthwise_conv2d" else 1

    def range(self, bits: int) -> tuple[float, float]:
        """The calibrated range for ``bits`` bits, inside what the activation lets through."""
        position = 2 * WIDTHS.index(bits)
        low, high = self.ranges[position : position + 2]
        if self.activation != "none":
            low = 0.0
        return low, min(high, self.clip_max) if self.activation == "clip" else high


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """A straight line of blocks; the last one is a dense layer that gives the logits.

    Attributes
    ----------
    input: name of the image. input_shape: [C, H, W].
    """

    input: str
    input_shape: tuple[int, int, int]
    blocks: tuple[Block, ...]
    input_spec: InputSpec

    @cached_property
    def by_name(self) -> dict[str, Block]:
        """Blocks by name."""
        return {block.name: block for block in self.blocks}

    @property
    def weighted(self) -> Iterator[Block]:
        """The blocks that have weights, in order."""
        return (block for block in self.blocks if block.op in WEIGHTED)

    @property
    def last(self) -> Block:
        """The block that gives the logits."""
        return self.blocks[-1]

    def readers(self, name: str) -> list[Block]:
        """The blocks that read a tensor, looking through pools, which keep channels and units."""
        found: list[Block] = []
        for block in self.blocks:
            if name in block.inputs:
                passes = block.op in KEEPS_RANGE
                found += self.readers(block.name) if passes else [block]
        return found

    def last_use(self) -> dict[str, int]:
        """Index of the last block that reads each tensor."""
        return {name: i for i, block in enumerate(self.blocks) for name in block.inputs}

    def quantizations(
        self, plan: BitPlan, ranges: dict[str, tuple[float, float]]
    ) -> dict[str, Quantization]:
        """The quantizer of the image and of every output but the logits."""
        spec = self.input_spec
        found = {self.input: Quantization(spec.scale, spec.zero_point, 8, spec.offset)}
        for block in self.blocks[:-1]:
            bits = plan.activations[block.tensor]
            if block.op in KEEPS_RANGE and block.name not in ranges:
                x = found[block.inputs[0]]
                found[block.name] = Quantization(x.scale, x.zero_point, x.bits)
            else:
                found[block.name] = Quantization.of_range(*ranges[block.name], bits)
        return found
