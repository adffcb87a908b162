"""Symbolic replay of a stage plan: who owns every word of the arena, call by call.

Independent of how the plan was found. It proves that every row is whole when it is read, that no
call writes what it reads, and that every layer makes every row.
"""

from __future__ import annotations

import numpy as np

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.memory.rows import Call, RowGraph
from tvm_mpq.memory.stages import StagePlan
from tvm_mpq.specs import WORD_BYTES


def replay(plan: StagePlan) -> None:
    """Run the schedule of ``plan`` on names instead of codes.

    Raises InvalidValueError, naming layer, tensor and row, when a row is read before it is made or
    after it was overwritten, when a call overwrites what it reads, or when rows are missing.
    """
    memory = _Memory(plan)
    graph = plan.graph
    if not graph.by_rows:
        memory.write(graph.input, 0, graph.tensors[graph.input].height, "the caller")
    made = [0] * len(graph.layers)
    for stage in range(len(plan.stages)):
        for call in plan.calls(stage):
            _check_order(graph, call, made)
            memory.run(call)
            made[call.layer] += call.rows
    for layer, count in zip(graph.layers, made, strict=True):
        if count != layer.steps:
            raise InvalidValueError(f"layer {layer.name}: made {count} of {layer.steps} rows")


def _check_order(graph: RowGraph, call: Call, made: list[int]) -> None:
    layer = graph.layers[call.layer]
    if call.first != made[call.layer]:
        raise InvalidValueError(
            f"layer {layer.name}: makes row {call.first} after {made[call.layer]} rows"
        )
    for name in layer.inputs:
        writer = graph.writer[name]
        if writer < 0:
            continue
        there = graph.layers[writer].finished_rows(made[writer])
        needed = layer.reads(call.first, call.rows, graph.tensors[name].height)[1]
        if needed > there:
            raise InvalidValueError(
                f"layer {layer.name}, row {call.first}: reads row {needed - 1} of {name}, which has"
                f" {there} rows so far"
            )


class _Memory:
    def __init__(self, plan: StagePlan) -> None:
        self._plan = plan
        self._owner = np.full(plan.arena_bytes // WORD_BYTES, -1, np.int64)
        self._ids = {name: i << 32 for i, name in enumerate(plan.graph.tensors)}

    def run(self, call: Call) -> None:
        """Check what a call reads, then let it write."""
        graph = self._plan.graph
        layer = graph.layers[call.layer]
        if layer.accumulates:
            first, rows = 0, 1
        else:
            first, rows = call.first, call.rows
        written = np.zeros(self._owner.size, bool)
        for row in range(first, first + rows):
            for part in self._words(layer.output, row):
                written[part] = True
        for name in layer.inputs:
            low, high = layer.reads(call.first, call.rows, graph.tensors[name].height)
            for row in range(low, high):
                self._check_row(layer.name, name, row, written)
        if layer.accumulates and call.first:
            self._check_row(layer.name, layer.output, 0, np.zeros_like(written))
        self.write(layer.output, first, rows, layer.name)

    def write(self, name: str, first: int, rows: int, who: str) -> None:
        """``who`` makes these rows of ``name``; they must lie inside the arena."""
        for row in range(first, first + rows):
            for part in self._words(name, row):
                if part.stop > self._owner.size:
                    raise InvalidValueError(f"{who}: row {row} of {name} leaves the arena")
                self._owner[part] = self._ids[name] + row

    def _check_row(self, layer: str, name: str, row: int, written: np.ndarray) -> None:
        for part in self._words(name, row):
            if (self._owner[part] != self._ids[name] + row).any():
                raise InvalidValueError(
                    f"layer {layer}: reads row {row} of {name}, which was overwritten"
                )
            if written[part].any():
                raise InvalidValueError(f"layer {layer}: overwrites row {row} of {name} it reads")

    def _words(self, name: str, row: int) -> list[slice]:
        """The words that are the row's alone; rows of odd bytes share a word with a neighbour."""
        tensor = self._plan.graph.tensors[name]
        if name not in self._plan.arena.offsets:
            return []
        ring = self._plan.rings[name]
        start = self._plan.arena.offsets[name] + row % ring * tensor.row_bytes
        stop = start + max(tensor.row_bytes, tensor.min_bytes)
        return [slice(-(-start // WORD_BYTES), max(stop // WORD_BYTES, -(-start // WORD_BYTES)))]
