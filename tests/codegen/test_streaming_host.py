"""Streamed and layer-by-layer programs: the same logits as the numpy reference, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.codegen.networks import HostPlans, Network
from tvm_mpq.codegen.row_plan import row_graph
from tvm_mpq.memory.bands import widen_bands
from tvm_mpq.memory.replay import replay
from tvm_mpq.memory.rows import RowGraph
from tvm_mpq.memory.stages import StagePlan, _Planner, plan_stages, whole_tensors

pytestmark = pytest.mark.cc


def mobile(seed: int) -> Network:
    """Separable convolutions, TF SAME padding, odd sizes."""
    net = Network(seed, 19, 13)
    x = net.conv("x", 5, 3, 2, (1, 1, 1, 1))
    x = net.conv(x, 0, 3, 1, (1, 1, 1, 1), depthwise=True)
    x = net.conv(x, 9, 1, 1, (0, 0, 0, 0))
    x = net.conv(x, 0, 3, 2, (0, 0, 1, 1), depthwise=True)
    x = net.conv(x, 6, 1, 1, (0, 0, 0, 0))
    return finished(net, x)


def residual(seed: int) -> Network:
    """Blocks with an identity and with a strided projection."""
    net = Network(seed, 16, 9)
    x = net.conv("x", 6)
    y = net.conv(net.conv(x, 4), 6)
    x = net.add(x, y)
    y = net.conv(net.conv(x, 5, 3, 2), 7)
    x = net.add(net.conv(x, 7, 1, 2, (0, 0, 0, 0)), y)
    return finished(net, x)


def branches(seed: int) -> Network:
    """Concatenated branches of different lag, and max pools."""
    net = Network(seed, 17, 11)
    x = net.max_pool(net.conv("x", 4, 2, 1, (0, 0, 1, 1)), 3, 2, 1)
    a = net.conv(x, 3, 5, 1, (2, 2, 2, 2))
    b = net.max_pool(x, 3, 1, 1)
    x = net.concat(a, net.conv(b, 5, 1, 1, (0, 0, 0, 0)))
    x = net.add(x, net.conv(x, 8, 3))
    return finished(net, x)


def borders(seed: int) -> Network:
    """Random windows, strides and paddings, to the point of one row."""
    net = Network(seed, 15, 8)
    x = "x"
    for _ in range(5):
        source = net.tensors[x]
        kernel = int(net.rng.integers(1, min(source.height, source.width, 4) + 1))
        pads = tuple(int(v) for v in net.rng.integers(0, kernel, 4))
        stride = int(net.rng.integers(1, 3))
        depthwise = x != "x" and bool(net.rng.integers(0, 2))
        channels = int(net.rng.integers(2, 9))
        x = net.conv(x, channels, kernel, stride, pads, depthwise)  # type: ignore[arg-type]
    net.logits(x)
    return net


def finished(net: Network, x: str) -> Network:
    net.logits(net.pool(x))
    return net


def plans_of(graph: RowGraph, rows: RowGraph, seed: int) -> list[StagePlan]:
    """Layer by layer, smallest, everything in one stage, random cuts, bands of several rows."""
    count = len(graph.layers)
    rng = np.random.default_rng(seed)
    planner = _Planner(graph)
    plans = [whole_tensors(graph), plan_stages(graph, minimize="ram"), planner.place(((0, count),))]
    for _ in range(2):
        points = sorted({int(v) for v in rng.integers(1, count, 3)} | {count})
        plans.append(planner.place(tuple(zip([0, *points[:-1]], points, strict=True))))
    banded = tuple(replace(layer, band=1 + i % 3) for i, layer in enumerate(graph.layers))
    plans.append(_Planner(replace(graph, layers=banded)).place(((0, count),)))
    plans.append(whole_tensors(replace(graph, layers=banded)))
    costs = {layer.name: {1: 5.0, 2: 4.0, 3: 3.0, layer.steps: 2.0} for layer in graph.layers}
    smallest = plan_stages(rows, minimize="ram")
    plans.append(widen_bands(smallest, 2 * smallest.arena_bytes, costs))
    return [*plans, smallest, _Planner(rows).place(((0, count + 1),))]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [mobile, residual, branches, borders])
def test_every_plan_gives_the_same_bits(
    make: Callable[[int], Network], seed: int, tmp_path: Path
) -> None:
    network = make(seed)
    program = network.program("p0")
    plans = plans_of(row_graph(program), row_graph(program, "rows"), seed)
    for plan in plans:
        replay(plan)
    library = HostPlans(network, plans, tmp_path)
    expected = network.codes[program.output]
    assert len(set(expected.tolist())) > 1
    for index, plan in enumerate(plans):
        assert (library.run(index) == expected).all(), plan.stages
        if plan.graph.by_rows:
            assert (library.push(index) == expected).all(), plan.stages
