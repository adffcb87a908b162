"""NormalizeScales: tensors and weights of extreme size get an ordinary one.

    mpq.conv2d(x, w, g, h, y_ranges=[0, 3e-20, ...]) then mpq.dense(x, w2, g2, h2)
        --> mpq.conv2d(x, w, g * 2**65, h * 2**65, y_ranges=[0, 1.1, ...]),
            mpq.dense(x, w2, g2 * 2**-65, h2)

Every block is homogeneous (a clip scales with its tensor), and powers of two are exact, so outputs
stay the same to the last bit; but squares of 1e-20 are nothing in float32, where reconstruction and
retraining work. Ordinary networks are left as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from relay_passes.graph import BlockRebuilder, Node, nodes, output_of
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant, tvm

# Sizes up to 2**_LARGE stay, and those from 2**-_SMALL on of tensors, 2**-_LARGE of weights: their
# squares and sums are far from any limit.
_LARGE, _SMALL = 16, 4


@tvm.transform.module_pass(opt_level=0, name="NormalizeScales")
class NormalizeScales:
    """Float blocks with ranges (after AnnotateRanges) --> the same ones of ordinary size."""

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule; the module itself where everything is of ordinary size."""
        tensors, weights = _tensor_exponents(mod), _weight_exponents(mod)
        if not any(tensors.values()) and not any(weights.values()):
            return mod
        return _Normalizer(mod, tensors, weights).transform()


def _exponent(size: float, small: int) -> int:
    """The power of two that brings ``size`` to 0.5 to 1, or 0 if it is an ordinary one."""
    exponent = -int(np.frexp(size)[1])
    return 0 if -_LARGE <= exponent <= small else exponent


def _inputs(node: Node) -> list[Any]:
    return [arg for arg in node.args if not is_constant(arg)]


def _tensor_exponents(mod: IRModule) -> dict[Any, int]:
    """For every tensor; those of one weightless operator have one exponent."""
    group: dict[Any, set[Any]] = {}
    size: dict[Any, float] = {}
    for node in nodes(mod):
        tied = [node.var] if node.op in WEIGHTED else [node.var, *_inputs(node)]
        size[node.var] = float(np.abs(node.attrs.get("y_ranges", 0.0)).max())
        union = set().union(*(group.get(var, {var}) for var in tied))
        group.update(dict.fromkeys(union, union))
    fixed = {mod["main"].params[0], output_of(mod)}
    return {
        var: 0 if fixed & union else _exponent(max(size[other] for other in union), _SMALL)
        for var, union in group.items()
    }


def _weight_exponents(mod: IRModule) -> dict[Any, int]:
    return {
        node.var: _exponent(float(np.abs(constant_array(node.args[1])).max()), _LARGE)
        for node in nodes(mod)
        if node.op in WEIGHTED
    }


class _Normalizer(BlockRebuilder):
    def __init__(self, mod: IRModule, tensors: dict[Any, int], weights: dict[Any, int]) -> None:
        super().__init__(mod)
        self._tensors = tensors
        self._weights = weights

    def constants(self, node: Node) -> list[Any]:
        if node.op not in WEIGHTED:
            return super().constants(node)
        weights, g, h = super().constants(node)
        up = self._weights[node.var]
        y, x = self._tensors[node.var], self._tensors.get(node.args[0], 0)
        return [np.ldexp(weights, up), np.ldexp(g, y - x - up), np.ldexp(h, y)]

    def attributes(self, node: Node) -> dict[str, Any]:
        attrs = dict(node.attrs)
        for name, tensor in (
            ("y_ranges", node.var),
            ("clip_max", node.var),
            ("x_means", node.args[0]),
        ):
            if name in attrs:
                scaled = np.ldexp(np.array(attrs[name], np.float64), self._tensors.get(tensor, 0))
                attrs[name] = scaled.tolist()
        return attrs
