"""FoldConstantChannels: channels that carry no information leave the network.

    mpq.conv2d(x, w [8, 3, 3, 3], ...) with w[5] = 0, then a pointwise layer w2 [4, 8, 1, 1]
        --> mpq.conv2d(x, w [7, 3, 3, 3], ...), w2 [4, 7, 1, 1], its offset + w2[:, 5] * constant

A channel leaves when every reader can do without it: its value is a constant that goes into the
reader's offset, or the reader has only zero weights for it. A constant other than 0 cannot cross a
padded window, because the border holds 0. Outputs stay the same but for float rounding; weights,
side parameters and MACs shrink (networks trained with weight decay have many such channels).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from relay_passes.graph import BlockRebuilder, Node, nodes, output_of, shape_of
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant, tvm

Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
# Weights that weight decay has driven to nothing are 1e-20 and the like, not 0: what moves an
# output by less than this much for each unit of input is no information in float32.
NEGLIGIBLE = 1e-9
_CHANNELWISE = ("depthwise_conv2d", "max_pool2d", "global_avg_pool")


@tvm.transform.module_pass(opt_level=0, name="FoldConstantChannels")
class FoldConstantChannels:
    """Float blocks --> the same blocks without channels that carry no information."""

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule; the module itself when there is nothing to fold."""
        analysis = _Analysis(mod)
        if not any(mask.any() for mask in analysis.leaving.values()):
            return mod
        return _Folder(mod, analysis).transform()


class _Analysis:
    """Per tensor: the constant of each channel (NaN if it has none) and which channels leave."""

    def __init__(self, mod: IRModule) -> None:
        self._nodes = nodes(mod)
        parameter, output = mod["main"].params[0], output_of(mod)
        self.constant: dict[Any, Float64] = {parameter: np.full(shape_of(parameter)[1], np.nan)}
        for node in self._nodes:
            self.constant[node.var] = self._constants(node)
        self.leaving: dict[Any, Mask] = {
            var: np.full(len(values), True) for var, values in self.constant.items()
        }
        self.leaving[parameter][:] = False
        self.leaving[output][:] = False
        while self._narrow():
            pass

    def _inputs(self, node: Node) -> list[Any]:
        return [arg for arg in node.args if not is_constant(arg)]

    def _constants(self, node: Node) -> Float64:
        x = self.constant[self._inputs(node)[0]]
        if node.op in ("max_pool2d", "global_avg_pool"):
            return x
        if node.op not in WEIGHTED:
            return np.full(node.shape[1], np.nan)
        weights, g, h = (constant_array(arg).astype(np.float64) for arg in node.args[1:])
        sums = weights.sum(axis=(2, 3))
        if node.op == "depthwise_conv2d":
            x, sums = x[:, None], sums
        used = _used(node)
        known = ~np.isnan(x) & ((x == 0) | (not any(node.attrs.get("padding", ()))))
        depends = (used & ~known).any(axis=1)
        value = g * np.where(used, sums * np.nan_to_num(x), 0.0).sum(axis=1) + h
        return np.where(depends, np.nan, _activated(value, node.attrs))

    def _narrow(self) -> bool:
        """One round of asking every reader; True if something changed."""
        before = sum(int(mask.sum()) for mask in self.leaving.values())
        for node in reversed(self._nodes):
            for x in self._inputs(node):
                self.leaving[x] &= self._does_without(node, x)
            if node.op in _CHANNELWISE:
                self.leaving[node.var] &= self.leaving[self._inputs(node)[0]]
            if self.leaving[node.var].all():
                self.leaving[node.var][0] = False  # a tensor keeps at least one channel
        return sum(int(mask.sum()) for mask in self.leaving.values()) != before

    def _does_without(self, node: Node, x: Any) -> Any:
        """For each channel of ``x``: whether the reader can do without it."""
        if node.op in _CHANNELWISE:
            return self.leaving[node.var]
        if node.op not in WEIGHTED:
            return False
        known = self.constant[x]
        absorbed = ~np.isnan(known) & ((known == 0) | (not any(node.attrs.get("padding", ()))))
        return absorbed | ~_used(node).any(axis=0)


def _used(node: Node) -> Mask:
    """Which outputs [O] of a layer depend on which inputs [I]."""
    weights, g = (constant_array(arg).astype(np.float64) for arg in node.args[1:3])
    return np.abs(weights).sum(axis=(2, 3)) * np.abs(g)[:, None] > NEGLIGIBLE


def _activated(value: Float64, attrs: dict[str, Any]) -> Float64:
    if attrs["activation"] == "none":
        return value
    return np.clip(value, 0.0, attrs["clip_max"] if attrs["activation"] == "clip" else None)


class _Folder(BlockRebuilder):
    def __init__(self, mod: IRModule, analysis: _Analysis) -> None:
        super().__init__(mod)
        self._analysis = analysis

    def constants(self, node: Node) -> list[Any]:
        if node.op not in WEIGHTED:
            return []
        weights, g, h = super().constants(node)
        stays = ~self._analysis.leaving[node.var]
        if node.op != "depthwise_conv2d":
            x = node.args[0]
            leaves, known = self._analysis.leaving[x], self._analysis.constant[x]
            sums = weights.astype(np.float64).sum(axis=(2, 3))
            # A channel without a known value leaves only where its weights are zero.
            h = h + g * (sums[:, leaves] @ np.nan_to_num(known[leaves]))
            weights = weights[:, ~leaves]
        return [weights[stays], g[stays], h[stays]]
