"""Bands of several rows, where the budget has room for them.

A plan is found for single rows, so whether a network fits never depends on bands. What the budget
leaves then goes to the rings: every layer gets two rows a call before one gets four, and the layer
that gains most comes first.
"""

from __future__ import annotations

from collections.abc import Mapping

from tvm_mpq.memory.stages import StagePlan, with_band

# Rows at a time -> cycles of the whole layer.
BandCosts = Mapping[int, float]


def widen_bands(plan: StagePlan, budget: int | None, costs: Mapping[str, BandCosts]) -> StagePlan:
    """``plan`` with the same stages and larger bands.

    Parameters
    ----------
    budget: bytes that the arena may take; None for what ``plan`` takes.
    costs: by layer; a layer without costs keeps its single rows.
    """
    limit = max(budget or 0, plan.arena_bytes)
    sizes = sorted({rows for cost in costs.values() for rows in cost})
    for rows in sizes[1:]:
        for index in _by_gain(plan, rows, costs):
            wider = with_band(plan, index, rows)
            if wider.arena_bytes <= limit:
                plan = wider
    return plan


def _by_gain(plan: StagePlan, rows: int, costs: Mapping[str, BandCosts]) -> list[int]:
    """The layers that run by rows and gain from ``rows`` at a time, the greatest gain first."""
    gains = {}
    for index, layer in enumerate(plan.graph.layers):
        cost = costs.get(layer.name, {})
        if rows in cost and plan.order_text(plan.stage_of[index]) != "whole":
            gains[index] = cost[layer.band] - cost[rows]
    return sorted((i for i in gains if gains[i] > 0), key=lambda i: -gains[i])
