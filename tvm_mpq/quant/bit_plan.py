"""The outcome of a bit search: a width for every tensor, and why each is not 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from dataclasses import field as dataclass_field
from typing import Any

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import parse_json
from tvm_mpq.specs import (
    MULTIPLIER_WIDTHS,
    WEIGHT_WIDTHS,
    WIDTHS,
    LayerSpec,
    check_width,
    listed,
)

PLAN_VERSION = 1
CONSTRAINTS = ("ro", "rw")
# The value of Target("host")'s budgets: larger than any memory, still an exact JSON integer.
UNLIMITED = 1 << 62


@dataclass(frozen=True)
class Cut:
    """One step to a narrower width.

    Attributes
    ----------
    name: the activation tensor (``constraint="rw"``) or the layer whose weights were cut
        (``constraint="ro"``).
    from_bits, to_bits: bits before and after.
    constraint: ``"rw"`` (RAM) or ``"ro"`` (flash).
    layer: the layer that did not fit; for weights, the layer that owns them.
    """

    name: str
    from_bits: int
    to_bits: int
    constraint: str
    layer: str

    def __post_init__(self) -> None:
        where = f"cut of {self.name!r}"
        for field in ("name", "layer"):
            _check_text(f"{where}: {field}", getattr(self, field))
        allowed = WEIGHT_WIDTHS if self.constraint == "ro" else WIDTHS
        _check_bits(f"{where}: from_bits", self.from_bits, allowed)
        _check_bits(f"{where}: to_bits", self.to_bits, allowed)
        if self.to_bits >= self.from_bits:
            raise InvalidValueError(
                f"{where}: from {self.from_bits} to {self.to_bits} bits; a cut makes it narrower"
            )
        if self.constraint not in CONSTRAINTS:
            raise InvalidValueError(
                f"{where}: constraint {self.constraint!r}; allowed are 'ro' and 'rw'"
            )

    def __str__(self) -> str:
        return f"{self.constraint}: {self.from_bits} -> {self.to_bits} at {self.layer}"


@dataclass(frozen=True)
class BitPlan:
    """Bits of every activation tensor and of every layer's weights.

    Attributes
    ----------
    activations: tensor name -> 8, 4 or 2 bits, with the network input and the logits (both 8).
    weights: layer name -> 8, 4, 3 or 2 bits; weightless layers are absent.
    cuts: in the order in which they were made.
    ro_bytes, rw_bytes: read-only and read-write bytes in the accounting of the reference paper
        (arXiv 1905.13082): weights and per-channel constants; the largest input + output.
        The linked image has its own figures.
    flash_budget, ram_budget: bytes; ``UNLIMITED`` where none was given.
    policy: who chose the widths, for example ``"paper"`` or ``"uniform"``.
    memory_model: what RAM and flash meant to the search, for example ``"paper"``.
    variant: the requantization whose constants ``ro_bytes`` holds, for example ``"pc+icn"``.
    multipliers: layer name -> bits of its requantization's multipliers, 32 or 16; 32 where absent.
        16 make ``ro_bytes`` two bytes a channel smaller.
    """

    activations: dict[str, int]
    weights: dict[str, int]
    cuts: tuple[Cut, ...]
    ro_bytes: int
    rw_bytes: int
    flash_budget: int
    ram_budget: int
    policy: str
    memory_model: str
    variant: str = "pc+icn"
    multipliers: dict[str, int] = dataclass_field(default_factory=dict)

    def __post_init__(self) -> None:
        for field in ("activations", "weights"):
            allowed = WEIGHT_WIDTHS if field == "weights" else WIDTHS
            _check_widths(field, getattr(self, field), allowed)
        _check_widths("multipliers", self.multipliers, MULTIPLIER_WIDTHS)
        for name in self.multipliers:
            _width_of("weights of layer", self.weights, name)
        if not isinstance(self.cuts, tuple) or not all(isinstance(cut, Cut) for cut in self.cuts):
            raise InvalidValueError(f"bit plan: cuts {self.cuts!r}; expected a tuple of Cut")
        for field in ("ro_bytes", "rw_bytes", "flash_budget", "ram_budget"):
            _check_bytes(f"bit plan: {field}", getattr(self, field))
        for field in ("policy", "memory_model", "variant"):
            _check_text(f"bit plan: {field}", getattr(self, field))

    def multiplier_bits(self, layer: str) -> int:
        """Bits of M0 of ``layer``."""
        return self.multipliers.get(layer, 32)

    def activation_string(self, layers: Sequence[LayerSpec]) -> str:
        """The output bits of each weight layer of ``layers``, one digit a layer; logits are 8."""
        outputs = (layer.y for layer in layers if layer.weight_elements)
        return "".join(str(_width_of("activation", self.activations, name)) for name in outputs)

    def weight_string(self, layers: Sequence[LayerSpec]) -> str:
        """The weight bits of each weight layer of ``layers``, one digit a layer."""
        names = (layer.name for layer in layers if layer.weight_elements)
        return "".join(str(_width_of("weights of layer", self.weights, name)) for name in names)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The plan as a table: a header, then one row for each tensor, then the totals in bytes."""
        table = [("kind", "name", "bits", "why")]
        for kind, constraint, widths in (
            ("activation", "rw", self.activations),
            ("weights", "ro", self.weights),
        ):
            for name, bits in widths.items():
                cuts = [c for c in self.cuts if c.constraint == constraint and c.name == name]
                table.append((kind, name, str(bits), "; ".join(map(str, cuts))))
        narrow = [name for name in self.weights if self.multiplier_bits(name) == 16]
        table += [("multipliers", name, "16", "") for name in narrow]
        table.append(("total", "ro_bytes", str(self.ro_bytes), _budget_text(self.flash_budget)))
        table.append(("total", "rw_bytes", str(self.rw_bytes), _budget_text(self.ram_budget)))
        return table

    def to_json(self) -> dict[str, Any]:
        """A JSON object of the fields and a ``version``."""
        content = asdict(self) | {"cuts": [asdict(c) for c in self.cuts]}
        if not self.multipliers:  # as files were before there was a choice
            del content["multipliers"]
        return {"version": PLAN_VERSION} | content

    @classmethod
    def from_json(cls, source: str | bytes | Mapping[str, Any]) -> BitPlan:
        """The plan of a JSON object or of its text.

        Raises
        ------
        InvalidValueError: not JSON, another version, or a field that is missing, unknown or wrong.
        """
        data = _parse(source) if isinstance(source, (str, bytes)) else source
        if not isinstance(data, Mapping):
            raise InvalidValueError(f"bit plan: {type(data).__name__}; expected a JSON object")
        version = data.get("version")
        if version != PLAN_VERSION or isinstance(version, bool):
            raise InvalidValueError(
                f"bit plan: version {version!r}; this release reads version {PLAN_VERSION};"
                " run the bit search again to write a new plan"
            )
        values = {"multipliers": {}} | {k: v for k, v in data.items() if k != "version"}
        _check_keys("bit plan", cls, values)
        return cls(**(values | {"cuts": _read_cuts(values["cuts"])}))


def _parse(text: str | bytes) -> Any:
    return parse_json(text, "bit plan")


def _read_cuts(cuts: Any) -> tuple[Cut, ...]:
    if not isinstance(cuts, Sequence) or isinstance(cuts, (str, bytes)):
        raise InvalidValueError(f"bit plan: cuts {cuts!r}; expected a list of objects")
    read = []
    for index, cut in enumerate(cuts):
        if not isinstance(cut, Mapping):
            raise InvalidValueError(f"bit plan: cuts[{index}] is {cut!r}; expected an object")
        _check_keys(f"bit plan: cuts[{index}]", Cut, cut)
        read.append(Cut(**cut))
    return tuple(read)


def _check_keys(where: str, kind: type, values: Mapping[str, Any]) -> None:
    expected = [field.name for field in fields(kind)]
    missing = [name for name in expected if name not in values]
    unknown = [str(name) for name in values if name not in expected]
    if missing or unknown:
        told = [f"missing {', '.join(missing)}"] if missing else []
        told += [f"unknown {', '.join(unknown)}"] if unknown else []
        raise InvalidValueError(f"{where}: {'; '.join(told)}; expected {', '.join(expected)}")


def _check_widths(field: str, widths: Any, allowed: tuple[int, ...]) -> None:
    if not isinstance(widths, dict):
        raise InvalidValueError(f"bit plan: {field} {widths!r}; expected names and bits")
    for name, bits in widths.items():
        _check_text(f"bit plan: {field}", name)
        _check_bits(f"bit plan: {field}[{name!r}]", bits, allowed)


def _check_bits(where: str, bits: Any, allowed: tuple[int, ...]) -> None:
    if not isinstance(bits, int) or isinstance(bits, bool):
        raise InvalidValueError(f"{where}: {bits!r}; expected {listed(allowed, 'or')}")
    check_width(where, bits, allowed)


def _check_bytes(where: str, count: Any) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise InvalidValueError(f"{where}: {count!r}; expected a whole number of bytes")


def _check_text(where: str, text: Any) -> None:
    if not isinstance(text, str) or not text:
        raise InvalidValueError(f"{where}: {text!r}; expected a name")


def _width_of(kind: str, widths: Mapping[str, int], name: str) -> int:
    if name not in widths:
        known = ", ".join(widths) or "none"
        raise InvalidValueError(
            f"bit plan has no {kind} {name!r}; it has {known}; it was made for another network"
        )
    return widths[name]


def _budget_text(budget: int) -> str:
    return "no budget" if budget >= UNLIMITED else f"budget {budget}"
