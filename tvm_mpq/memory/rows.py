"""Row geometry of a network, and the order in which a run of layers makes its rows.

A layer makes a band of output rows from a window of input rows. Layers of one *stage* run row by
row: whenever a tensor gets a row, each of its readers makes every row it now can, and hands it on
before the next row is asked for. The generated C does the same with the same loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.specs import WORD_BYTES

# Where the image lies: in the arena, in a buffer of the caller's, or nowhere as a whole.
INPUT_BUFFERS = ("arena", "caller", "rows")


@dataclass(frozen=True)
class RowTensor:
    """A tensor as rows of bytes.

    Attributes
    ----------
    row_bytes: bytes of a row, padding included. min_bytes: what its buffer needs at least; int32
        sums that become codes in place need more than the codes.
    in_arena: False for the logits and for a caller's image, which have buffers of their own.
    """

    name: str
    height: int
    row_bytes: int
    min_bytes: int = 0
    in_arena: bool = True

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor, padded to a word."""
        return self.ring_bytes(self.height)

    def ring_bytes(self, rows: int) -> int:
        """Bytes of a buffer of ``rows`` rows, padded to a word."""
        return -(-max(rows * self.row_bytes, self.min_bytes) // WORD_BYTES) * WORD_BYTES


@dataclass(frozen=True)
class RowLayer:
    """A layer as the rows it reads and makes.

    Attributes
    ----------
    inputs: tensors read; none for the image that arrives from outside, row by row.
    steps: bands of one row that it makes in all: the height of its output, or of its input when it
        ``accumulates`` (a global pool: every step reads a row, the last one finishes the output).
    window, stride, top: rows of the kernel, vertical stride, rows of padding above.
    band: rows it prefers to make at once.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    steps: int
    window: int = 1
    stride: int = 1
    top: int = 0
    band: int = 1
    accumulates: bool = False

    def __post_init__(self) -> None:
        for field in ("steps", "window", "stride", "band"):
            if getattr(self, field) < 1:
                raise InvalidValueError(
                    f"layer {self.name}: {field} {getattr(self, field)}; expected at least 1"
                )

    def reads(self, first: int, rows: int, height: int) -> tuple[int, int]:
        """[low, high) of the input rows of a map of ``height`` that output rows ``first`` need."""
        low = first * self.stride - self.top
        high = (first + rows - 1) * self.stride - self.top + self.window
        return min(max(low, 0), height), min(max(high, 0), height)

    def finished_rows(self, made: int) -> int:
        """Rows of the output that are there after ``made`` steps."""
        return int(made == self.steps) if self.accumulates else made


@dataclass(frozen=True)
class Call:
    """One kernel call: ``layer`` (an index) makes ``rows`` rows from ``first`` on."""

    layer: int
    first: int
    rows: int


@dataclass(frozen=True)
class RowGraph:
    """Layers in execution order and the tensors between them.

    ``input`` is the image. A first layer without inputs means that it arrives by rows; otherwise it
    is there before the first layer runs.
    """

    layers: tuple[RowLayer, ...]
    tensors: dict[str, RowTensor]
    input: str
    output: str

    def __post_init__(self) -> None:
        known = set() if self.by_rows else {self.input}
        for layer in self.layers:
            unknown = [name for name in layer.inputs if name not in known]
            if unknown or layer.output in known or layer.output not in self.tensors:
                what = f"reads {unknown[0]!r}" if unknown else f"writes {layer.output!r}"
                raise InvalidValueError(
                    f"row graph: layer {layer.name} {what}; expected layers in execution order,"
                    " each with an output of its own"
                )
            known.add(layer.output)

    @property
    def by_rows(self) -> bool:
        """True when the image arrives by rows."""
        return not self.layers[0].inputs

    @cached_property
    def readers(self) -> dict[str, tuple[int, ...]]:
        """Tensor -> the layers that read it."""
        found: dict[str, list[int]] = {name: [] for name in self.tensors}
        for index, layer in enumerate(self.layers):
            for name in dict.fromkeys(layer.inputs):
                found[name].append(index)
        return {name: tuple(indices) for name, indices in found.items()}

    @cached_property
    def writer(self) -> dict[str, int]:
        """Tensor -> the layer that makes it; -1 for an image that is there from the start."""
        made = {layer.output: index for index, layer in enumerate(self.layers)}
        return {name: made.get(name, -1) for name in self.tensors}

    def outside_inputs(self, first: int, end: int) -> tuple[str, ...]:
        """The tensors that layers [first, end) read and do not make."""
        names = [name for layer in self.layers[first:end] for name in layer.inputs]
        return tuple(name for name in dict.fromkeys(names) if self.writer[name] < first)

    def escapes(self, tensor: str, end: int) -> bool:
        """True if a layer from ``end`` on reads ``tensor``, or nobody does (the result)."""
        readers = self.readers[tensor]
        return not readers or readers[-1] >= end


def arrival(count: int, height: int, tallest: int) -> int:
    """Rows of a stage input of ``height`` that count as there after ``count`` of ``tallest`` steps.

    Inputs of a stage are whole; they are released in proportion, so that no branch runs ahead.
    """
    return count * height // tallest


def stage_calls(graph: RowGraph, first: int, end: int) -> list[Call]:
    """The kernel calls of the stage of layers [first, end), in order.

    A single layer runs by bands, front to back.
    """
    return _Run(graph, first, end).calls()


class _Run:
    """One execution of a stage on counters alone."""

    def __init__(self, graph: RowGraph, first: int, end: int) -> None:
        self._graph = graph
        self._range = range(first, end)
        self._made = dict.fromkeys(self._range, 0)
        self._ready = dict.fromkeys(graph.tensors, 0)
        self._calls: list[Call] = []
        self._outside = graph.outside_inputs(first, end)

    def calls(self) -> list[Call]:
        """All calls, once."""
        if not self._outside:
            self._arrive_from_outside()
        else:
            self._release_inputs()
        for index in self._range:
            if self._made[index] != self._graph.layers[index].steps:
                raise AssertionError(f"stage schedule: {self._graph.layers[index].name} starved")
        return self._calls

    def _arrive_from_outside(self) -> None:
        source = self._range[0]
        for row in range(self._graph.layers[source].steps):
            self._make(source, row, 1)

    def _release_inputs(self) -> None:
        heights = {name: self._graph.tensors[name].height for name in self._outside}
        tallest = max(heights.values())
        starters = [i for i in self._range if set(self._graph.layers[i].inputs) & set(heights)]
        for count in range(1, tallest + 1):
            for name, height in heights.items():
                self._ready[name] = arrival(count, height, tallest)
            for index in starters:
                self._advance(index)

    def _advance(self, index: int) -> None:
        layer, tensors = self._graph.layers[index], self._graph.tensors
        while self._made[index] < layer.steps:
            first = self._made[index]
            rows = min(layer.band, layer.steps - first)
            for name in layer.inputs:
                if layer.reads(first, rows, tensors[name].height)[1] > self._ready[name]:
                    return
            self._make(index, first, rows)

    def _make(self, index: int, first: int, rows: int) -> None:
        layer = self._graph.layers[index]
        self._calls.append(Call(index, first, rows))
        self._made[index] = first + rows
        self._ready[layer.output] = layer.finished_rows(first + rows)
        for reader in self._graph.readers[layer.output]:
            if reader in self._range:
                self._advance(reader)
