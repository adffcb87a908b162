"""What ``build`` left out, approximated or found by itself: told, never silent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tvm_mpq.errors import InvalidValueError

KINDS = ("dropped", "approximated", "found", "skipped")


@dataclass(frozen=True)
class Note:
    """One thing that differs from what the model says, or that the model did not say.

    Attributes
    ----------
    kind: ``dropped`` (an operator that is not computed), ``approximated`` (another value than the
        float network's, beyond quantization), ``found`` (chosen from the model or the images) or
        ``skipped`` (a check that could not be made).
    layer: the layer or input it is about. text: one sentence for a person.
    """

    kind: str
    layer: str
    text: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidValueError(f"Note.kind {self.kind!r}: allowed are {', '.join(KINDS)}")

    def __str__(self) -> str:
        return f"{self.kind}: {self.layer}: {self.text}"


def notes_text(notes: Iterable[Note]) -> str:
    """A line for each note."""
    return "\n".join(map(str, notes))
