"""Which layers run together row by row, and where their rows lie.

A *stage* is a run of consecutive layers. Tensors between stages are whole; a tensor that is made
and read inside one stage is a ring of few rows. While a stage runs, its output grows and its input
dies row by row, so the output may lie over the input, shifted by what is still to be read (a
stride-1 depthwise layer alone: by two rows).

The cut into stages is exact: all 2^(n-1) of them are searched, by dynamic programming, since the
bytes alive in a stage depend on its two ends alone, skip edges included. What is not exact is the
placement of the buffers (NP-hard), which may miss the bytes alive by a little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.memory.arena import ARENA_ALIGNMENT, ArenaPlan, Buffer, plan_arena
from tvm_mpq.memory.rows import Call, RowGraph, RowLayer, stage_calls
from tvm_mpq.specs import WORD_BYTES

MINIMIZE = ("streaming", "ram")
# Shuffled orders of placement, tried where the greedy ones miss the bytes alive.
_ATTEMPTS = 60
Cut = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class StagePlan:
    """Stages, ring lengths and the arena.

    Attributes
    ----------
    stages: [first, end) layers of each, in order. rings: rows of every tensor's buffer; its height
        where it is whole. arena: offsets; its steps are stages.
    """

    graph: RowGraph
    stages: Cut
    rings: dict[str, int]
    arena: ArenaPlan

    @property
    def arena_bytes(self) -> int:
        """Size of the arena symbol."""
        size = max(self.arena.sizes.values(), default=0)
        return max(ARENA_ALIGNMENT, -(-size // ARENA_ALIGNMENT) * ARENA_ALIGNMENT)

    @property
    def streamed_layers(self) -> int:
        """Layers that share their stage with another one."""
        return sum(end - first for first, end in self.stages if end - first > 1)

    @cached_property
    def stage_of(self) -> tuple[int, ...]:
        """The stage of every layer."""
        return tuple(i for i, (first, end) in enumerate(self.stages) for _ in range(first, end))

    def is_in_place(self, stage: int) -> bool:
        """True for a layer alone that writes over its own input."""
        first, end = self.stages[stage]
        layer = self.graph.layers[first]
        buffers = {buffer.name: buffer for buffer in self.arena.buffers}
        if end - first > 1 or layer.output not in buffers or buffers[layer.output].alias_of:
            return False
        start = self.arena.offsets[layer.output]
        stop = start + self.graph.tensors[layer.output].nbytes
        places = [(n, self.arena.offsets[n]) for n in layer.inputs if n in self.arena.offsets]
        return any(at < stop and start < at + self.graph.tensors[n].nbytes for n, at in places)

    def calls(self, stage: int) -> list[Call]:
        """The kernel calls of a stage; a layer alone and not in place is a single call."""
        first, end = self.stages[stage]
        layer = self.graph.layers[first]
        if end - first > 1 or self.is_in_place(stage) or not layer.inputs:
            return stage_calls(self.graph, first, end)
        return [Call(first, 0, layer.steps)]

    def order_text(self, stage: int) -> str:
        """In which order a stage makes its rows, in two words."""
        first, end = self.stages[stage]
        if end - first > 1:
            return "row by row"
        return "in place" if self.is_in_place(stage) else "whole"

    def fullest(self) -> dict[str, int]:
        """Bytes by tensor in the stage where the most bytes are alive."""
        live = [
            {b.name: b.size for b in self.arena.buffers if b.first_use <= stage <= b.last_use}
            for stage in range(len(self.stages))
        ]
        return max(live, key=lambda sizes: sum(sizes.values()))

    def rows(self) -> list[tuple[str, ...]]:
        """The plan as a table: a header, then each layer with its stage and its output's buffer."""
        table: list[tuple[str, ...]] = [("stage", "layer", "rows", "of", "bytes", "offset", "note")]
        for index, layer in enumerate(self.graph.layers):
            tensor = self.graph.tensors[layer.output]
            ring = self.rings.get(layer.output, tensor.height)
            offset = self.arena.offsets.get(layer.output)
            in_place = self.is_in_place(self.stage_of[index])
            kind = "whole" if ring == tensor.height else "ring"
            note = "not in the arena" if offset is None else "in place" if in_place else kind
            numbers = (ring, tensor.height, tensor.ring_bytes(ring))
            place = "" if offset is None else str(offset)
            stage = str(self.stage_of[index])
            table.append((stage, layer.name, *map(str, numbers), place, note))
        note = f"{self.streamed_layers} of {len(self.graph.layers)} layers streamed"
        table.append(("", "arena", "", "", str(self.arena_bytes), "", note))
        return table


def plan_stages(
    graph: RowGraph, budget: int | None = None, minimize: str = "streaming"
) -> StagePlan:
    """The stages of ``graph``, every row a call of its own (see ``memory.bands`` for more).

    Parameters
    ----------
    budget: bytes that the arena may take; None for no limit.
    minimize: "streaming": of the plans within the budget one that streams the fewest layers, of
        these the smallest; "ram": the smallest arena, whatever it takes. When nothing fits the
        budget, the smallest plan that was found.
    """
    if minimize not in MINIMIZE:
        raise InvalidValueError(f"minimize {minimize!r}: allowed are {', '.join(MINIMIZE)}")
    single = tuple(replace(layer, band=1) for layer in graph.layers)
    planner = _Planner(replace(graph, layers=single))
    plan = planner.fewest_streamed(budget) if minimize == "streaming" else None
    return _in_one_call(plan or planner.smallest())


def whole_tensors(graph: RowGraph) -> StagePlan:
    """Every layer a stage of its own: layer by layer, in place where the order of rows allows."""
    cut = tuple((i, i + 1) for i in range(len(graph.layers)))
    return _in_one_call(_Planner(graph).place(cut))


def with_band(plan: StagePlan, index: int, band: int) -> StagePlan:
    """The stages of ``plan``, placed anew for a layer that makes ``band`` rows at once."""
    layers = list(plan.graph.layers)
    layers[index] = replace(layers[index], band=band)
    return _Planner(replace(plan.graph, layers=tuple(layers))).place(plan.stages)


def _in_one_call(plan: StagePlan) -> StagePlan:
    """``plan`` with every layer that can run as one call in the same arena doing so."""
    layers = list(plan.graph.layers)
    in_place = []
    for stage, (first, end) in enumerate(plan.stages):
        if plan.is_in_place(stage):
            in_place.append(first)
        elif end - first == 1:
            layers[first] = replace(layers[first], band=layers[first].steps)
    plan = replace(plan, graph=replace(plan.graph, layers=tuple(layers)))
    for index in in_place:
        trial = with_band(plan, index, layers[index].steps)
        if trial.arena_bytes <= plan.arena_bytes:
            plan = trial
    return plan


@dataclass(frozen=True)
class StageGeometry:
    """What a stage needs, in rows: it does not depend on the widths.

    Attributes
    ----------
    rings: rows of every tensor that lives inside the stage.
    overlays: (input, output) -> (rows of output there, oldest input row needed) at every call.
    """

    rings: dict[str, int]
    overlays: dict[tuple[str, str], tuple[tuple[int, int], ...]]


def stage_geometry(
    graph: RowGraph, first: int, end: int, calls: Iterable[Call] | None = None
) -> StageGeometry:
    """Ring lengths and overlays of the stage of layers [first, end), from its schedule.

    ``calls`` is that schedule; it is made when not given.
    """
    tensors, layers = graph.tensors, graph.layers
    outside = graph.outside_inputs(first, end)
    dying = [name for name in outside if not graph.escapes(name, end)]
    made = dict.fromkeys(range(first, end), 0)

    def oldest(name: str) -> int:
        """The first row of ``name`` that some layer of the stage has yet to read."""
        height = tensors[name].height
        readers = [r for r in graph.readers[name] if r in made and made[r] < layers[r].steps]
        return min((layers[r].reads(made[r], 1, height)[0] for r in readers), default=height)

    rings: dict[str, int] = {}
    overlays: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for call in stage_calls(graph, first, end) if calls is None else calls:
        layer = layers[call.layer]
        there = 1 if layer.accumulates else call.first + call.rows
        if graph.escapes(layer.output, end):
            for name in dying:
                pair = overlays.setdefault((name, layer.output), [])
                if oldest(name) < tensors[name].height:
                    pair.append((there, oldest(name)))
        else:
            needed = max(call.rows, there - oldest(layer.output))
            height = tensors[layer.output].height
            rings[layer.output] = min(height, max(needed, rings.get(layer.output, 1)))
        made[call.layer] = call.first + call.rows
    return StageGeometry(rings, {pair: tuple(steps) for pair, steps in overlays.items()})


@lru_cache(maxsize=16)
def _geometries(
    layers: tuple[RowLayer, ...], heights: tuple[tuple[str, int], ...]
) -> dict[tuple[int, int], StageGeometry]:
    """Geometry by stage, filled as it is needed; a bit search asks for one network many times."""
    del layers, heights
    return {}


class _Planner:
    """Costs, cuts and placements of one graph."""

    def __init__(self, graph: RowGraph) -> None:
        self._graph = graph
        heights = tuple((name, tensor.height) for name, tensor in graph.tensors.items())
        self._geometry = _geometries(graph.layers, heights)
        self._longest: dict[int, list[Call]] = {}

    @cached_property
    def _costs(self) -> dict[tuple[int, int], int]:
        count = len(self._graph.layers)
        ends = [(a, b) for a in range(count) for b in range(a + 1, count + 1)]
        # An image that arrives by rows shall not be collected.
        return {(a, b): self._cost(a, b) for a, b in ends if not self._collects_image(a, b)}

    def _collects_image(self, first: int, end: int) -> bool:
        return self._graph.by_rows and first == 0 and self._graph.escapes(self._graph.input, end)

    def _stage(self, first: int, end: int) -> StageGeometry:
        if (first, end) not in self._geometry:
            calls = self._calls(first, end)
            self._geometry[first, end] = stage_geometry(self._graph, first, end, calls)
        return self._geometry[first, end]

    def _calls(self, first: int, end: int) -> list[Call]:
        """The schedule of a stage: part of a longer one's where that has no other inputs."""
        graph, count = self._graph, len(self._graph.layers)
        if graph.outside_inputs(first, end) != graph.outside_inputs(first, count):
            return stage_calls(graph, first, end)
        if first not in self._longest:
            self._longest[first] = stage_calls(graph, first, count)
        return [call for call in self._longest[first] if call.layer < end]

    def _gap(self, pair: tuple[str, str], stage: tuple[int, int]) -> int:
        """Bytes that the output must start below the input it overlays."""
        x, y = (self._graph.tensors[name] for name in pair)
        steps = self._stage(*stage).overlays[pair]
        if not steps:
            return -x.nbytes
        gap = max(
            y.ring_bytes(there) - oldest * x.row_bytes // WORD_BYTES * WORD_BYTES
            for there, oldest in steps
        )
        return max(gap, -x.nbytes)

    def _cost(self, first: int, end: int) -> int:
        """Bytes alive in a stage, all of them counted as alive together but for the overlay."""
        graph, tensors = self._graph, self._graph.tensors
        stage = self._stage(first, end)
        total = sum(tensors[n].ring_bytes(r) for n, r in stage.rings.items() if tensors[n].in_arena)
        shared = 0
        for name, tensor in tensors.items():
            writer = graph.writer[name]
            before = writer < first and graph.escapes(name, first)
            made_here = first <= writer < end and graph.escapes(name, end)
            if tensor.in_arena and (before or made_here):
                total += tensor.nbytes
        for pair in stage.overlays:
            x, y = (tensors[name] for name in pair)
            if x.in_arena and y.in_arena:
                common = y.nbytes - self._gap(pair, (first, end))
                shared = max(shared, min(x.nbytes, y.nbytes, common))
        return total - shared

    def _cut(self, limit: int) -> Cut | None:
        """The stages of at most ``limit`` bytes each that stream the fewest layers."""
        count = len(self._graph.layers)
        best: list[tuple[int, int, int] | None] = [(0, 0, 0), *[None] * count]
        for end in range(1, count + 1):
            for first in range(end):
                cost = self._costs.get((first, end))
                before = best[first]
                if cost is None or cost > limit or before is None:
                    continue
                streamed = end - first if end - first > 1 else 0
                entry = (before[0] + streamed, before[1] + 1, first)
                best[end] = min(best[end] or entry, entry)
        if best[count] is None:
            return None
        stages = []
        end = count
        while end:
            reached = best[end]
            assert reached is not None
            stages.append((reached[2], end))
            end = reached[2]
        return tuple(stages[::-1])

    def _least(self, accept: Callable[[Cut], bool], limit: int | None = None) -> int | None:
        """The smallest limit whose cut exists and is accepted (which larger limits stay)."""
        limits = sorted(set(self._costs.values()))
        limits = limits if limit is None else [value for value in limits if value <= limit]
        low, high = 0, len(limits)
        while low < high:
            middle = (low + high) // 2
            cut = self._cut(limits[middle])
            if cut is not None and accept(cut):
                high = middle
            else:
                low = middle + 1
        return limits[low] if low < len(limits) else None

    def fewest_streamed(self, budget: int | None) -> StagePlan | None:
        """A plan within the budget, or None."""
        limit = budget
        while True:
            loosest = self._cut(limit if limit is not None else 1 << 62)
            if loosest is None:
                return None
            streamed = _streamed(loosest)
            least = self._least(lambda cut, most=streamed: _streamed(cut) <= most, limit)  # type: ignore[misc]
            assert least is not None
            cut = self._cut(least)
            assert cut is not None
            plan = self.place(cut)
            if budget is None or plan.arena_bytes <= budget:
                return plan
            limit = least - 1

    def smallest(self) -> StagePlan:
        """The smallest arena found: from the smallest stages on, better cuts one boundary apart.

        Among equal arenas the climb prefers low addresses, which leads across plateaus (a row of
        equal layers needs all its cuts changed); at the end nothing stays streamed in vain.
        """
        least = self._least(lambda cut: True)
        assert least is not None
        start = self._cut(least)
        assert start is not None
        return self._climb(self._climb(self.place(start), _height), _size)

    def _climb(self, best: StagePlan, key: Callable[[StagePlan], tuple[int, int]]) -> StagePlan:
        while True:
            near = [self._rival(cut, best) for cut in self._neighbours(best)]
            rival = min(near, key=key, default=best)
            if key(rival) >= key(best):
                return best
            best = rival

    def _rival(self, cut: Cut, best: StagePlan) -> StagePlan:
        """A placement of ``cut``; a careful one only where it could beat ``best``."""
        quick = self.place(cut, attempts=0)
        bound = max(quick.arena.lower_bounds.values(), default=0)
        if quick.arena_bytes <= best.arena_bytes or bound >= best.arena_bytes:
            return quick
        return self.place(cut)

    def _neighbours(self, plan: StagePlan) -> list[Cut]:
        """Cuts with one boundary more, less or moved by a layer, and no stage that is too large."""
        count = len(self._graph.layers)
        ends = {end for _, end in plan.stages} - {count}
        changed = [ends ^ {point} for point in range(1, count)]
        changed += [ends - {p} | {q} for p in ends for q in (p - 1, p + 1) if 0 < q < count]
        cuts = []
        for points in changed:
            edges = [0, *sorted(points), count]
            cut = tuple(zip(edges[:-1], edges[1:], strict=True))
            if all(self._costs.get(stage, 1 << 62) <= plan.arena_bytes for stage in cut):
                cuts.append(cut)
        return cuts

    def place(self, stages: Cut, attempts: int = _ATTEMPTS) -> StagePlan:
        """Rings and offsets for one cut."""
        rings = {name: tensor.height for name, tensor in self._graph.tensors.items()}
        for stage in stages:
            rings |= self._stage(*stage).rings
        buffers = self._buffers(stages, rings)
        return StagePlan(self._graph, stages, rings, plan_arena(buffers, attempts=attempts))

    def _buffers(self, stages: Cut, rings: dict[str, int]) -> list[Buffer]:
        graph, buffers = self._graph, []
        stage_of = [i for i, (first, end) in enumerate(stages) for _ in range(first, end)]
        # In execution order, so that equal graphs give equal plans.
        for name in sorted(graph.tensors, key=graph.writer.__getitem__):
            tensor = graph.tensors[name]
            if not tensor.in_arena:
                continue
            writer, readers = graph.writer[name], graph.readers[name]
            start = stage_of[writer] if writer >= 0 else 0
            last = stage_of[readers[-1]] if readers else start
            follows = self._follows(name, stages[start]) if writer >= 0 else ()
            size = tensor.ring_bytes(rings[name])
            buffers.append(Buffer(name, size, start, last, follows=follows))
        return buffers

    def _follows(self, output: str, stage: tuple[int, int]) -> tuple[tuple[str, int], ...]:
        pairs = [pair for pair in self._stage(*stage).overlays if pair[1] == output]
        tensors = self._graph.tensors
        return tuple((x, self._gap((x, y), stage)) for x, y in pairs if tensors[x].in_arena)


def _size(plan: StagePlan) -> tuple[int, int]:
    return plan.arena_bytes, plan.streamed_layers


def _height(plan: StagePlan) -> tuple[int, int]:
    """The arena, and the top addresses of all stages, each as often as it has layers."""
    tops = 0
    for stage, (first, end) in enumerate(plan.stages):
        alive = [b for b in plan.arena.buffers if b.first_use <= stage <= b.last_use]
        tops += (end - first) * max(plan.arena.offsets[b.name] + b.size for b in alive)
    return plan.arena_bytes, tops


def _streamed(cut: Cut) -> int:
    return sum(end - first for first, end in cut if end - first > 1)
