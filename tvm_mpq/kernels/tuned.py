"""Tuned kernels: one small table from (operator, widths, shape class, stride) to the best kernel.

``tuned.json`` ships with the package; ``tvm-mpq tune`` writes one beside a deployment. A record
says which of a layer's candidates was fastest when it was measured, so it can only ever choose
among kernels that do the layer: a record that no candidate answers to is passed over.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from tvm_mpq.emulator import COMPARABLE_VERSIONS, MODEL_VERSION
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import read_json, write_text
from tvm_mpq.kernels.spec import KernelSpec

TABLE_VERSION = 1
ON_BOARD = "board"
SHIPPED = Path(__file__).with_name("tuned.json")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerClass:
    """What layers have in common that share a tuned kernel.

    x, w, y: bits. shape: rows x columns x channels of the input and, unless 1x1, the window; output
    channels play no part (a strip meets them one pair after the other), nor do the channels of a
    depthwise layer. stride: y then x.
    """

    op: str
    x: int
    w: int
    y: int
    shape: str
    stride: str

    @staticmethod
    def of(layer: KernelSpec) -> LayerClass:
        """The class of ``layer``; zero points and tiles play no part in it."""
        x = layer.x
        shape = f"{x.height}x{x.width}"
        shape += "" if layer.op == "depthwise_conv2d" else f"x{x.channels}"
        shape += "" if layer.kernel == (1, 1) else "k{}x{}".format(*layer.kernel)
        stride = "x".join(map(str, layer.strides))
        return LayerClass(layer.op, x.bits, layer.w_bits, layer.output.bits, shape, stride)

    @property
    def kind(self) -> tuple[object, ...]:
        """What must be equal for one class to speak for another."""
        window = self.shape.partition("k")[2]
        return (self.op, self.x, self.w, self.stride, window)

    def distance(self, other: LayerClass) -> float:
        """How far apart two classes of one kind are: octaves of columns and of channels.

        Infinite beyond a factor of two: then neither speaks for the other. Widths of the output
        only settle a draw: storing costs every kernel the same.
        """
        sizes = zip(self._sizes, other._sizes, strict=True)
        octaves = [abs(math.log2(one / two)) for one, two in sizes]
        if max(octaves) > 1:
            return math.inf
        return sum(octaves) + 0.1 * (self.y != other.y)

    @property
    def _sizes(self) -> list[int]:
        """Columns, and channels where the class has them."""
        return [int(size) for size in self.shape.partition("k")[0].split("x")[1:]]


@dataclass(frozen=True)
class TunedRecord:
    """The fastest kernel of a class.

    cycles, macs: of the layer as it was measured (``schedule.space.canonical``: few output
        channels).
    kernel: its name, for people; variant, rows, pixels: those fields of its KernelSpec.
    model: the version of the cycle model, or "board" for cycles read on a chip.
    """

    layer: LayerClass
    kernel: str
    variant: str
    rows: int
    pixels: int
    cycles: int
    macs: int
    model: str = MODEL_VERSION

    @staticmethod
    def of(spec: KernelSpec, cycles: int, model: str = MODEL_VERSION) -> TunedRecord:
        """The record of a measured kernel."""
        fields_of = (spec.name, spec.variant, spec.rows, spec.pixels)
        return TunedRecord(LayerClass.of(spec), *fields_of, cycles, spec.macs, model)

    def matches(self, spec: KernelSpec) -> bool:
        """Whether ``spec`` is the kernel that was recorded."""
        return (self.variant, self.rows, self.pixels) == (spec.variant, spec.rows, spec.pixels)


class TunedTable:
    """Records by layer class."""

    def __init__(self, records: Iterable[TunedRecord] = ()) -> None:
        self.records: Mapping[LayerClass, TunedRecord] = {r.layer: r for r in records}
        self._kinds: dict[tuple[object, ...], list[TunedRecord]] = {}
        for record in self.records.values():
            self._kinds.setdefault(record.layer.kind, []).append(record)

    def over(self, other: TunedTable) -> TunedTable:
        """This table, with the records of ``other`` for the classes that it does not have."""
        return TunedTable({**other.records, **self.records}.values())

    def pick(self, layer: KernelSpec, candidates: Sequence[KernelSpec]) -> KernelSpec | None:
        """The candidate that was fastest for the class of ``layer``; None when nothing is known.

        A class that was not measured goes by the nearest one: that tells the family of kernels, and
        ``candidates``, the cheapest by estimate first, the tile. So does a record whose tile
        scratch cannot hold. A family that does not do the layer is passed over; the log says so.
        """
        wanted = LayerClass.of(layer)
        exact = self.records.get(wanted)
        record = exact or self._nearest(wanted)
        if record is None:
            return None
        family = [spec for spec in candidates if spec.variant == record.variant]
        if not family:
            _log.warning(
                "tuned kernel %s ignored for %s: no kernel of that family does this layer",
                record.kernel,
                layer.name,
            )
            return None
        same = (spec for spec in family if exact and record.matches(spec))
        return next(same, family[0])

    def cycles(self, layer: KernelSpec) -> float | None:
        """Cycles that a layer with weights stays below: those a MAC of its class, or the nearest.

        Its own are fewer where it has more output channels than were measured: they share the
        packing of the input. None when nothing is known. Weights of 3 bits go by 4: the same core
        after the unpacking.
        """
        wanted = LayerClass.of(replace(layer, w_bits=4) if layer.w_bits == 3 else layer)
        record = self.records.get(wanted) or self._nearest(wanted)
        return record.cycles / record.macs * layer.macs if record and record.macs else None

    def _nearest(self, wanted: LayerClass) -> TunedRecord | None:
        near = self._kinds.get(wanted.kind, [])
        found = min(near, key=lambda r: wanted.distance(r.layer), default=None)
        return found if found and math.isfinite(wanted.distance(found.layer)) else None

    @staticmethod
    def load(path: Path) -> TunedTable:
        """The table in ``path``, without what another version of the cycle model measured.

        The log says what was left out. Raises InvalidValueError when the file is damaged.
        """
        try:
            content = read_json(path)
            if content["version"] != TABLE_VERSION:
                raise ValueError(f"version {content['version']}, expected {TABLE_VERSION}")
            records = [_record(row) for row in content["records"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidValueError(
                f"{path}: no table of tuned kernels ({error}); remove it, or tune again"
            ) from None
        usable = [r for r in records if r.model in (*COMPARABLE_VERSIONS, ON_BOARD)]
        if len(usable) < len(records):
            text = "%s: %d of %d records ignored: not measured by cycle model %s; tune again"
            _log.warning(text, path, len(records) - len(usable), len(records), MODEL_VERSION)
        return TunedTable(usable)

    def save(self, path: Path) -> None:
        """Write the table, one record a line, in an order of its own; whole or not at all."""
        rows = [json.dumps(asdict(r.layer) | _own_fields(r)) for r in self.records.values()]
        body = ",\n".join(sorted(rows))
        text = f'{{"version": {TABLE_VERSION}, "records": [\n{body}\n]}}\n'
        write_text(path, text)


def _own_fields(record: TunedRecord) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name != "layer"}


def _record(row: dict[str, Any]) -> TunedRecord:
    """A record from its JSON object; ValueError names a field that is wrong."""

    def values(kind: type) -> dict[str, Any]:
        found = {f.name: row[f.name] for f in fields(kind) if f.name != "layer"}
        for field in fields(kind):
            expected = {"str": str, "int": int}.get(str(field.type))
            if expected is not None and type(found[field.name]) is not expected:
                value = found[field.name]
                raise ValueError(f"{field.name}: {value!r}, expected {expected.__name__}")
        return found

    layer = LayerClass(**values(LayerClass))
    size = r"[1-9]\d{0,5}"
    channels = "" if layer.op == "depthwise_conv2d" else f"x{size}"
    if not re.fullmatch(f"{size}x{size}{channels}(k{size}x{size})?", layer.shape):
        raise ValueError(f"shape: {layer.shape!r}, expected for example '14x14x192'")
    record = TunedRecord(layer, **values(TunedRecord))
    for name in ("cycles", "macs"):
        if not 0 <= getattr(record, name) < 1 << 62:
            raise ValueError(f"{name}: {getattr(record, name)}, expected 0 to 2**62")
    return record


@cache
def shipped_table() -> TunedTable:
    """The table that ships with the package."""
    return TunedTable.load(SHIPPED)
