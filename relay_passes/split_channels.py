"""SplitChannels: important channels of narrow activations are computed twice, half a step apart.

    mpq.depthwise_conv2d -> y [17, H, W] at 4 bits -> pointwise layer, w [47, 17, 1, 1]
        --> y [24, H, W], the last seven copies of others, w [47, 24, 1, 1]: w[c] / 2 for either

The mean of two codes of one value half a step apart says it nearly one bit finer ("outlier channel
splitting", arXiv 1901.09504, there for weights). Copies are made up to the next multiple of 8
channels, where the kernels' tiles end: they take the places that folded channels have left, so that
the network grows beyond its original size by less than a tile. Where the reader has a border,
code 0 must stand for 0 in every channel, and nothing is split.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from relay_passes.annotate_bitwidths import layer_specs
from relay_passes.graph import BlockRebuilder, Node, nodes, use_counts
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule, constant_array, tvm
from tvm_mpq.quant.bit_plan import BitPlan

_TILE = 8

Indices = npt.NDArray[np.intp]


@tvm.transform.module_pass(opt_level=0, name="SplitChannels")
class SplitChannels:
    """Calibrated float blocks --> the same with copies of channels that ``plan`` makes narrow.

    Outputs stay the same but for float rounding. Layers with copies have an attribute ``copies``:
    how many of their last channels they are.
    """

    def __init__(self, plan: BitPlan) -> None:
        self.plan = plan

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule; the module itself when there is nothing to split."""
        copied = _channels_to_copy(mod, self.plan)
        return _Splitter(mod, copied).transform() if copied else mod


def _channels_to_copy(mod: IRModule, plan: BitPlan) -> dict[Any, Indices]:
    """For each tensor that gets copies, the channels that are copied."""
    made_by, uses = {node.var: node for node in nodes(mod)}, use_counts(mod)
    tensors = {spec.name: spec.y for spec in layer_specs(mod)}
    copied: dict[Any, Indices] = {}
    for reader in nodes(mod):
        chain = _chain(reader, made_by)
        if not chain or any(uses[node.var] > 1 for node in chain):
            continue
        narrow = plan.activations[tensors[chain[0].name]] < 8
        if narrow and not any(reader.attrs.get("padding", ())):
            copied |= dict.fromkeys((node.var for node in chain), _most_important(reader))
    return {var: channels for var, channels in copied.items() if len(channels)}


def _chain(reader: Node, made_by: dict[Any, Node]) -> list[Node]:
    """The layers that must have copies for ``reader`` to see them, the nearest first.

    A depthwise layer has them where its input has them. Empty where that cannot be.
    """
    found = [made_by[x] for x in reader.args[:1] if x in made_by]
    if found and found[0].op == "depthwise_conv2d":
        found += [made_by[x] for x in found[0].args[:1] if x in made_by]
    return found if found and _mixes(found[-1]) and _mixes(reader) else []


def _mixes(node: Node) -> bool:
    return node.op in WEIGHTED and node.op != "depthwise_conv2d"


def _most_important(reader: Node) -> Indices:
    """The input channels whose rounding moves the output of ``reader`` most, at most all once.

    The step of a channel is about as large as its mean.
    """
    weights, g = (constant_array(arg).astype(np.float64) for arg in reader.args[1:3])
    means = np.array(reader.attrs["x_means"])
    moved = np.square(weights * g[:, None, None, None]).sum(axis=(0, 2, 3)) * means**2
    return np.argsort(-moved, kind="stable")[: -len(means) % _TILE]


class _Splitter(BlockRebuilder):
    def __init__(self, mod: IRModule, copied: dict[Any, Indices]) -> None:
        super().__init__(mod)
        self._copied = copied

    def constants(self, node: Node) -> list[Any]:
        read, made = self._copied.get(node.args[0]), self._copied.get(node.var)
        constants = super().constants(node)
        if read is not None and node.op != "depthwise_conv2d":
            constants[0] = _halved(constants[0], read)
        if made is not None:
            constants = [np.concatenate([array, array[made]]) for array in constants]
        return constants

    def attributes(self, node: Node) -> dict[str, Any]:
        read, made = self._copied.get(node.args[0]), self._copied.get(node.var)
        changed: dict[str, Any] = {}
        if read is not None:
            means = np.array(node.attrs["x_means"])
            changed["x_means"] = [*means, *means[read]]
        if made is not None:
            changed["copies"] = len(made)
        return node.attrs | changed


def _halved(weights: npt.NDArray[np.float32], read: Indices) -> npt.NDArray[np.float32]:
    """Weights [O, I, kh, kw] for inputs with copies: each of a pair gets half."""
    shared = weights.copy()
    shared[:, read] *= 0.5
    return np.concatenate([shared, shared[:, read]], axis=1)
