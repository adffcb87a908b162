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
# output by less than this share of all that may reach it is no information in float32. A share, so
# that nothing changes when a layer is scaled and the next one scaled back.
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
    """Per tensor: the constant of each channel (NaN if it has none) and which channels leave.

    ``bound`` limits what a channel can be, in units of the largest input; ``used`` tells which
    outputs [O] of a layer depend on which inputs [I].
    """

    def __init__(self, mod: IRModule) -> None:
        self._nodes = nodes(mod)
        parameter, output = mod["main"].params[0], output_of(mod)
        channels = shape_of(parameter)[1]
        self.constant: dict[Any, Float64] = {parameter: np.full(channels, np.nan)}
        self.bound: dict[Any, Float64] = {parameter: np.ones(channels)}
        self.used: dict[Any, Mask] = {}
        for node in self._nodes:
            self.bound[node.var] = self._bounds(node)
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

    def _bounds(self, node: Node) -> Float64:
        x = [self.bound[arg] for arg in self._inputs(node)]
        if node.op == "add":
            return x[0] + x[1]
        if node.op not in WEIGHTED:
            return np.concatenate(x)
        weights, g, h = (constant_array(arg).astype(np.float64) for arg in node.args[1:])
        inputs = x[0][:, None] if node.op == "depthwise_conv2d" else x[0]
        parts = np.abs(g)[:, None] * np.abs(weights).sum(axis=(2, 3)) * inputs
        total = parts.sum(axis=1) + np.abs(h)
        self.used[node.var] = parts > NEGLIGIBLE * total[:, None]
        return np.abs(_activated(total, node.attrs))

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
        used = self.used[node.var]
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
        return absorbed | ~self.used[node.var].any(axis=0)


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
