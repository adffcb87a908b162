"""Tuned kernels: one small table from (operator, widths, shape class, stride) to the best kernel.

``tuned.json`` ships with the package; ``tvm-mpq tune`` writes one beside a deployment. A record
says which of a layer's candidates was fastest when it was measured, so it can only ever choose
among kernels that do the layer: a record that no candidate answers to is passed over.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from tvm_mpq.emulator import MODEL_VERSION
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.spec import KernelSpec

TABLE_VERSION = 1
ON_BOARD = "board"
SHIPPED = Path(__file__).with_name("tuned.json")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerClass:
    """What layers have in common that share a tuned kernel.

    x, w, y: bits. shape: input rows x columns x channels, then output channels. stride: y then x.
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
        shape = f"{x.height}x{x.width}x{x.channels}"
        stride = "x".join(map(str, layer.strides))
        return LayerClass(layer.op, x.bits, layer.w_bits, layer.output.bits, shape, stride)


@dataclass(frozen=True)
class TunedRecord:
    """The fastest kernel of a class. ``cycles``: of the measured layer, by ``model``.

    kernel: its name, for people; variant, rows, pixels: those fields of its KernelSpec.
    model: the version of the cycle model, or "board" for cycles read on a chip.
    """

    layer: LayerClass
    kernel: str
    variant: str
    rows: int
    pixels: int
    cycles: int
    model: str = MODEL_VERSION

    @staticmethod
    def of(spec: KernelSpec, cycles: int, model: str = MODEL_VERSION) -> TunedRecord:
        """The record of a measured kernel."""
        fields_of = (spec.name, spec.variant, spec.rows, spec.pixels)
        return TunedRecord(LayerClass.of(spec), *fields_of, cycles, model)

    def matches(self, spec: KernelSpec) -> bool:
        """Whether ``spec`` is the kernel that was recorded."""
        return (self.variant, self.rows, self.pixels) == (spec.variant, spec.rows, spec.pixels)


class TunedTable:
    """Records by layer class. ``fallback`` is asked for classes that this table does not have."""

    def __init__(
        self, records: Iterable[TunedRecord] = (), fallback: TunedTable | None = None
    ) -> None:
        self.records: Mapping[LayerClass, TunedRecord] = {
            record.layer: record for record in records
        }
        self._fallback = fallback

    def pick(self, layer: KernelSpec, candidates: Sequence[KernelSpec]) -> KernelSpec | None:
        """The candidate that was fastest for the class of ``layer``; None when nothing is known.

        A record of another cycle model, or of a kernel that is no candidate, is passed over; the
        log says why.
        """
        record = self.records.get(LayerClass.of(layer))
        if record is not None:
            spec = next((spec for spec in candidates if record.matches(spec)), None)
            if record.model not in (MODEL_VERSION, ON_BOARD):
                reason = f"measured by cycle model {record.model}, this one is {MODEL_VERSION}"
            elif spec is None:
                reason = "no kernel of that kind does this layer on this target"
            else:
                return spec
            _log.warning("tuned kernel %s of %s ignored: %s", record.kernel, layer.op, reason)
        return self._fallback.pick(layer, candidates) if self._fallback else None

    @staticmethod
    def load(path: Path, fallback: TunedTable | None = None) -> TunedTable:
        """The table in ``path``. Raises InvalidValueError when the file is damaged."""
        try:
            content = json.loads(path.read_text())
            if content["version"] != TABLE_VERSION:
                raise ValueError(f"version {content['version']}, expected {TABLE_VERSION}")
            records = [_record(row) for row in content["records"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidValueError(
                f"{path}: no table of tuned kernels ({error}); remove it, or tune again"
            ) from None
        return TunedTable(records, fallback)

    def save(self, path: Path) -> None:
        """Write the table, one record a line, in an order of its own; whole or not at all."""
        rows = [json.dumps(asdict(r.layer) | _own_fields(r)) for r in self.records.values()]
        body = ",\n".join(sorted(rows))
        text = f'{{"version": {TABLE_VERSION}, "records": [\n{body}\n]}}\n'
        work = path.with_name(f".{path.name}.new")
        work.write_text(text)
        work.replace(path)


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

    return TunedRecord(LayerClass(**values(LayerClass)), **values(TunedRecord))


@cache
def shipped_table() -> TunedTable:
    """The table that ships with the package."""
    return TunedTable.load(SHIPPED)
