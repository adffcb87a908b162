"""Row-streamed stages: schedules, ring lengths, cuts, and their symbolic replay."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory.row_networks import Network, mobilenet, random_graphs
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.memory.bands import widen_bands
from tvm_mpq.memory.replay import replay
from tvm_mpq.memory.rows import RowGraph, RowLayer, stage_calls
from tvm_mpq.memory.stages import StagePlan, _Planner, plan_stages, stage_geometry, whole_tensors

pytestmark = pytest.mark.null


def chain(height: int, *layers: tuple[int, int, int], by_rows: bool = False) -> RowGraph:
    """(window, stride, top) of each layer; SAME at the bottom."""
    net, x = Network(height, 8, by_rows), "x"
    for index, (window, stride, top) in enumerate(layers):
        height = -(-height // stride)
        x = net.add(RowLayer(f"l{index}", (x,), f"t{index}", height, window, stride, top), 8)
    return net.graph()


def test_rows_are_made_as_soon_as_they_can_be() -> None:
    calls = stage_calls(chain(4, (1, 1, 0), (3, 1, 1)), 0, 2)
    assert [(c.layer, c.first) for c in calls] == [
        *((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (0, 3)),
        *((1, 2), (1, 3)),
    ]


@pytest.mark.parametrize(("window", "stride", "top"), [(3, 1, 1), (3, 2, 0), (3, 2, 1), (1, 2, 0)])
def test_a_ring_holds_the_window(window: int, stride: int, top: int) -> None:
    graph = chain(12, (1, 1, 0), (window, stride, top), (1, 1, 0))
    assert stage_geometry(graph, 0, 3).rings == {"t0": window, "t1": 1}


def test_a_skip_edge_lags_behind_the_main_branch() -> None:
    net = Network(10, 8, by_rows=False)
    start = net.add(RowLayer("start", ("x",), "start", 10), 8)
    a = net.add(RowLayer("a", (start,), "a", 10, 3, 1, 1), 8)
    b = net.add(RowLayer("b", (a,), "b", 10, 3, 1, 1), 8)
    net.add(RowLayer("sum", (start, b), "sum", 10), 8)
    assert stage_geometry(net.graph(), 0, 4).rings == {"start": 3, "a": 3, "b": 1}


def test_depthwise_in_place_lags_two_rows() -> None:
    net = Network(10, 8, by_rows=False)
    first = net.add(RowLayer("pw", ("x",), "pw", 10), 64)
    dw = net.add(RowLayer("dw", (first,), "dw", 10, 3, 1, 1), 64)
    net.add(RowLayer("end", (dw,), "end", 5, 2, 2), 4)
    plan = whole_tensors(net.graph())
    assert plan.arena.offsets["pw"] - plan.arena.offsets["dw"] == 128
    assert plan.is_in_place(1) and not plan.is_in_place(2)
    assert len(plan.calls(1)) == 10 and len(plan.calls(2)) == 1
    replay(plan)


def test_the_image_by_rows_never_exists() -> None:
    plan = plan_stages(mobilenet(0.25, 96, by_rows=True))
    assert plan.rings["x"] == 3 and plan.stages[0][1] > 1
    replay(plan)


def test_an_ample_budget_streams_nothing() -> None:
    plan = plan_stages(mobilenet(0.25, 96), budget=400_000)
    assert plan.streamed_layers == 0


def test_a_budget_streams_no_more_than_it_must() -> None:
    graph = mobilenet(0.5, 96)
    plans = [plan_stages(graph, budget) for budget in (120_000, 70_000, 60_000)]
    assert [p.streamed_layers for p in plans] == sorted(p.streamed_layers for p in plans)
    assert 0 == plans[0].streamed_layers < plans[1].streamed_layers
    for plan, budget in zip(plans[:2], (120_000, 70_000), strict=True):
        assert plan.arena_bytes <= budget
        replay(plan)


@pytest.mark.parametrize("by_rows", [False, True])
def test_no_other_cut_is_better(by_rows: bool) -> None:
    """Every cut of a small chain, tried one by one."""
    layers = [(3, 1, 1), (1, 1, 0), (3, 2, 0), (3, 1, 1), (1, 1, 0), (5, 2, 2)]
    net, x, height = Network(24, 40, by_rows), "x", 24
    for index, ((window, stride, top), width) in enumerate(
        zip(layers, (80, 16, 40, 120, 24, 8), strict=True)
    ):
        height = -(-height // stride)
        x = net.add(RowLayer(f"l{index}", (x,), f"t{index}", height, window, stride, top), width)
    planner = _Planner(net.graph())
    count, costs = len(net.layers), planner._costs
    cuts = []
    for inner in range(count):
        for points in combinations(range(1, count), inner):
            ends = (0, *points, count)
            stages = tuple(zip(ends[:-1], ends[1:], strict=True))
            if all(stage in costs for stage in stages):
                streamed = sum(b - a for a, b in stages if b - a > 1)
                cuts.append((max(costs[stage] for stage in stages), streamed))
    for limit in sorted({bytes_ for bytes_, _ in cuts}):
        found = planner._cut(limit)
        assert found is not None
        streamed = sum(b - a for a, b in found if b - a > 1)
        assert max(costs[stage] for stage in found) <= limit
        assert streamed == min(s for bytes_, s in cuts if bytes_ <= limit)
    assert planner._cut(min(bytes_ for bytes_, _ in cuts) - 1) is None


@settings(deadline=None, max_examples=60)
@given(random_graphs(), st.integers(0, 3))
def test_random_graphs_replay(graph: RowGraph, squeeze: int) -> None:
    small = plan_stages(graph, minimize="ram")
    replay(small)
    budget = small.arena_bytes * (4 + squeeze) // 4
    plan = plan_stages(graph, budget)
    replay(plan)
    assert plan.arena_bytes <= budget
    assert not graph.by_rows or plan.stages[0][1] > 1 or len(graph.layers) == 1


@settings(deadline=None, max_examples=60)
@given(random_graphs(), st.integers(0, 6), st.integers(0, 99))
def test_wider_bands_replay_within_the_budget(graph: RowGraph, squeeze: int, seed: int) -> None:
    rng = Random(seed)
    budget = plan_stages(graph, minimize="ram").arena_bytes * (4 + squeeze) // 4
    single = plan_stages(graph, budget)
    costs = {
        layer.name: {rows: rng.random() / rows for rows in (1, 2, 3, 5, layer.steps)}
        for layer in graph.layers
        if layer.inputs and not layer.accumulates
    }
    wide = widen_bands(single, budget, costs)
    replay(wide)
    assert wide.arena_bytes <= budget
    assert wide.stages == single.stages


def test_two_rows_for_all_come_before_more_for_one() -> None:
    single = plan_stages(mobilenet(0.25, 96, by_rows=True), 16_000)
    layers = single.graph.layers[1:-2]
    costs = {
        layer.name: {rows: 1000.0 * layer.steps / rows for rows in (1, 2, 4, layer.steps)}
        for layer in layers
    }

    def bands(budget: int) -> list[int]:
        wide = widen_bands(single, budget, costs)
        assert wide.arena_bytes <= budget
        replay(wide)
        end = wide.stages[0][1]
        return [layer.band for layer in wide.graph.layers[1:end]]

    assert set(bands(16_000)) <= {1, 2}
    assert set(bands(24_000)) == {2, 4}
    assert bands(400_000) == [layer.steps for layer in layers[: len(bands(400_000))]]


def test_single_layers_are_single_calls_in_the_same_arena() -> None:
    """A layer in place by accident, where there is room beside its input, would be slow."""
    plan = plan_stages(mobilenet(0.25, 96), budget=44_000)
    single = [i for i, (first, end) in enumerate(plan.stages) if end - first == 1]
    assert [i for i in single if plan.is_in_place(i)] == [0]  # 36,864 bytes against 46,080


@settings(deadline=None, max_examples=40)
@given(random_graphs())
def test_a_part_of_a_longer_schedule_is_the_schedule(graph: RowGraph) -> None:
    planner = _Planner(graph)
    for first in range(len(graph.layers)):
        for end in range(first + 1, len(graph.layers) + 1):
            assert planner._calls(first, end) == stage_calls(graph, first, end)


@settings(deadline=None, max_examples=60)
@given(random_graphs(), st.data())
def test_every_cut_replays(graph: RowGraph, data: st.DataObject) -> None:
    count = len(graph.layers)
    points = sorted(data.draw(st.sets(st.integers(1, count))) | {count})
    replay(_Planner(graph).place(tuple(zip([0, *points[:-1]], points, strict=True))))


def test_replay_finds_a_ring_that_is_too_short() -> None:
    plan = _Planner(chain(12, (1, 1, 0), (3, 1, 1), (1, 1, 0))).place(((0, 3),))
    replay(plan)
    with pytest.raises(InvalidValueError, match="row 0 of t0, which was overwritten"):
        replay(replace(plan, rings=plan.rings | {"t0": 2}))


def test_replay_finds_a_gap_that_is_too_small() -> None:
    plan = whole_tensors(chain(12, (1, 1, 0), (3, 1, 1), (1, 1, 0)))
    offsets = plan.arena.offsets | {"t1": plan.arena.offsets["t0"] - 8}
    moved: StagePlan = replace(plan, arena=replace(plan.arena, offsets=offsets))
    with pytest.raises(InvalidValueError, match="overwr"):
        replay(moved)


@pytest.mark.parametrize(
    ("width", "resolution", "whole", "by_rows"),
    [
        (1.0, 224, 240_128, 191_968),
        (0.75, 224, 188_160, 144_480),
        (0.5, 224, 168_448, 96_992),
        (0.25, 128, 49_664, 22_144),
        (0.25, 96, 28_032, 14_592),
    ],
)
def test_mobilenet_arenas(width: float, resolution: int, whole: int, by_rows: int) -> None:
    for limit, rows in ((whole, False), (by_rows, True)):
        plan = plan_stages(mobilenet(width, resolution, rows), minimize="ram")
        assert plan.arena_bytes <= limit
        replay(plan)
        assert plan.arena_bytes >= plan.arena.lower_bounds["AXI_SRAM"]


def test_minimize_names_what_is_allowed() -> None:
    with pytest.raises(InvalidValueError, match="minimize 'speed': allowed are streaming, ram"):
        plan_stages(mobilenet(0.25, 96), minimize="speed")


def test_the_table_adds_up() -> None:
    plan = plan_stages(mobilenet(0.25, 96), minimize="ram")
    table = plan.rows()
    assert len(table) == len(plan.graph.layers) + 2
    assert table[-1][4] == str(plan.arena_bytes)
