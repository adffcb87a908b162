"""Profiles as text: cycles per layer, and one layer instruction by instruction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tvm_mpq.emulator import MODEL_ERROR
from tvm_mpq.report.fit import plain_table, tables_text

if TYPE_CHECKING:
    from tvm_mpq.micro.profiling import AnnotatedFunction, NetworkProfile

_CAUSES = ("pipeline", "mispredict", "flash", "axi", "unaligned")
# What a narrow terminal shows last comes last.
_OPTIONAL = (
    *(f"{cause} stalls" for cause in reversed(_CAUSES)),
    *("bytes", "instructions", "kernel", "MACs"),
)


def profile_text(profile: NetworkProfile) -> str:
    """A table of cycles, stalls by cause and bytes per layer, with the model's stated error."""
    table = plain_table(f"Cycles at {profile.clock_mhz} MHz ({profile.model_error})")
    table.add_column("layer")
    table.add_column("kernel")
    columns = ["MACs", "cycles", "cycles/MAC", "instructions"]
    for heading in (*columns, *(f"{cause} stalls" for cause in _CAUSES), "bytes"):
        table.add_column(heading, justify="right")
    for layer in profile.layers:
        ratio = layer.cycles_per_mac
        table.add_row(
            layer.name,
            layer.kind,
            f"{layer.macs:,}",
            f"{layer.cycles:,}",
            "-" if ratio is None else f"{ratio:.2f}",
            f"{layer.instructions:,}",
            *(f"{layer.stalls.get(cause, 0):,}" for cause in _CAUSES),
            f"{layer.bytes:,}",
        )
    lines = [tables_text([(table, _OPTIONAL)])]
    lines.append(
        f"{profile.cycles:,} cycles for {profile.macs:,} MACs:"
        f" {profile.cycles / profile.macs:.2f} cycles/MAC, {profile.milliseconds:.1f} ms"
        f" at {profile.clock_mhz} MHz; {profile.model_error}"
    )
    return "\n".join(lines)


def annotation_text(functions: Sequence[AnnotatedFunction]) -> str:
    """The instructions of each function, with the rule that cost their cycles."""
    from tvm_mpq.emulator.annotate import format_annotation

    parts = []
    for function in functions:
        parts.append(f"{function.name}: {function.cycles:,} cycles in this layer; {MODEL_ERROR}")
        parts.append(format_annotation(function.instructions))
    return "\n".join(parts)
