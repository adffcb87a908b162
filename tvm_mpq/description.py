"""What a deployment knows of its network: the ``tvm_mpq`` part of metadata.json, as one type."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import convert, read_json
from tvm_mpq.notes import Note
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.specs import InputSpec

DESCRIPTION_VERSION = 1
METADATA_FILE = "metadata.json"

# 32-bit: what the emitted C counts in.
Count = Annotated[int, Meta(ge=0, lt=1 << 31)]
Positive = Annotated[int, Meta(gt=0, lt=1 << 31)]
Shape = tuple[Positive, Positive, Positive]
Bits = Annotated[int, Meta(ge=0, le=32)]
Symbol = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Row = tuple[str, ...]


class _Fields:
    """``value["field"]`` reads what ``value.field`` does, as it stands in JSON."""

    def __getitem__(self, name: str) -> Any:
        return self.to_json()[name]

    def to_json(self) -> dict[str, Any]:
        """A JSON object of the fields."""
        return _plain(asdict(self))  # type: ignore[call-overload]


@dataclass(frozen=True)
class LayerDescription(_Fields):
    """One layer as it was built.

    Attributes
    ----------
    stage, order: which layers run together, and how ("whole", "row by row").
    ring_rows: rows of the output that the arena keeps.
    kernel: the specification as a name. symbol, constant: of its C function, and of what tells its
        calls from those of other layers; "" without weights.
    inputs, output: (channels, height, width). x_bits, w_bits, y_bits: of codes; w_bits 0 without
        weights. The others are counts and bytes.
    """

    name: str
    stage: Count
    order: str
    ring_rows: Count
    kernel: str
    symbol: Symbol
    constant: str
    inputs: Annotated[tuple[Shape, ...], Meta(min_length=1)]
    output: Shape
    x_bits: tuple[Bits, ...]
    w_bits: Bits
    y_bits: Bits
    macs: Annotated[int, Meta(ge=0, lt=1 << 62)]
    weight_bytes: Count
    side_bytes: Count
    output_bytes: Count
    scratch_bytes: Count


@dataclass(frozen=True)
class InputRow:
    """The image as it arrives: bytes of a row, rows."""

    bytes: Positive
    rows: Positive


@dataclass(frozen=True)
class WidthStrings:
    """One digit for each layer with weights."""

    activations: str
    weights: str


@dataclass(frozen=True)
class Description(_Fields):
    """Everything about a built network that a person or a program asks for.

    Attributes
    ----------
    input_shape: (height, width, channels). input_buffer: "arena", "caller" or "rows".
    arena, stages: tables whose first row is the heading, see ``ArenaPlan.rows``,
        ``StagePlan.rows``.
    classes: the number of logits; a logit times ``logits_scale`` is real.
    policies: what other bit policies would have chosen, as a table.
    notes: what was dropped, approximated or found.

    Raises InvalidValueError where fields contradict each other.
    """

    input_spec: InputSpec
    input_shape: Shape
    input_row: InputRow
    input_buffer: str
    arena: tuple[Row, ...]
    stages: Annotated[tuple[Row, ...], Meta(min_length=2)]
    classes: Positive
    logits_scale: float
    rounding: str
    plan: BitPlan
    bits: WidthStrings
    layers: Annotated[tuple[LayerDescription, ...], Meta(min_length=1)]
    policies: tuple[Row, ...] = ()
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        if not (self.logits_scale > 0 and isfinite(self.logits_scale)):
            raise InvalidValueError(f"logits_scale {self.logits_scale}; expected a positive number")
        if self.input_row.bytes * self.input_row.rows != prod(self.input_shape):
            raise InvalidValueError(
                f"input_row {self.input_row} is not that of input_shape {self.input_shape}"
            )
        if self.input_buffer not in ("arena", "caller", "rows"):
            raise InvalidValueError(
                f"input_buffer {self.input_buffer!r}; expected arena, caller or rows"
            )
        missing = [layer.name for layer in self.layers if layer.name not in self.kept_bytes]
        if missing:
            raise InvalidValueError(f"stages: no row of layer {missing[0]}")
        if any(len(row) != len(self.policies[0]) for row in self.policies):
            raise InvalidValueError("policies: rows of unequal length")

    @property
    def kept_bytes(self) -> dict[str, int]:
        """For each layer the bytes of its output that the arena keeps."""
        rows = [row for row in self.stages[1:-1] if len(row) > 4]
        return {row[1]: int(row[4]) for row in rows if re.fullmatch(r"\d{1,18}", row[4])}

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """The object that metadata.json holds."""
        fields = super().to_json() | {"plan": self.plan.to_json()}
        return {"description_version": DESCRIPTION_VERSION} | fields

    @staticmethod
    def from_json(content: Any, where: str) -> Description:
        """Inverse of ``to_json``; InvalidValueError names ``where`` and the field."""
        if not isinstance(content, dict):
            raise InvalidValueError(f"{where}: damaged: no tvm_mpq object; compile again")
        fields = dict(content)
        version = fields.pop("description_version", None)
        if version != DESCRIPTION_VERSION:
            raise InvalidValueError(
                f"{where}: description version {version!r}, expected {DESCRIPTION_VERSION};"
                " compile the network again with this tvm_mpq"
            )
        fields["plan"] = BitPlan.from_json(fields.get("plan", {}))
        fields["input_spec"] = convert(fields.get("input_spec"), InputSpec, f"{where}: input_spec")
        return convert(fields, Description, where)


def read_description(folder: Path) -> tuple[str, Description]:
    """(C name of the module, description) of a Model Library Format folder.

    Raises InvalidValueError for a missing, damaged or foreign one.
    """
    path = folder / METADATA_FILE
    try:
        content = read_json(path)
        modules = content.get("modules") if isinstance(content, dict) else None
        if not isinstance(modules, dict) or len(modules) != 1:
            raise InvalidValueError(f"{path}: no object of one module")
        ((name, module),) = modules.items()
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,200}", name):
            raise InvalidValueError(f"{path}: module {name[:200]!r}: no lower-case C identifier")
        own = module.get("tvm_mpq") if isinstance(module, dict) else None
        return name, Description.from_json(own, str(path))
    except InvalidValueError as error:
        text = str(error)
        if not text.startswith(str(path)):
            text = f"{path}: {text}"
        if "compile" not in text:
            text = text.replace(f"{path}: ", f"{path}: damaged: ", 1) + "; compile again"
        raise InvalidValueError(text) from None


def _plain(value: Any) -> Any:
    """Tuples become lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
