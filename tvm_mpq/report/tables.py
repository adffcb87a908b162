"""Tables for people: bits and bytes per layer, totals, and what was linked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm_mpq.notes import notes_text
from tvm_mpq.report.fit import plain_table, tables_text

if TYPE_CHECKING:
    from rich.table import Table

    from tvm_mpq.description import Description, LayerDescription
    from tvm_mpq.micro import Firmware


@dataclass(frozen=True)
class Report:
    """A deployment in figures; ``print(report)`` shows it, ``to_json()`` gives it to programs.

    Attributes
    ----------
    firmware: None for the host target.
    """

    description: Description
    firmware: Firmware | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object; all sizes in bytes."""
        known = self.description.to_json()
        content: dict[str, Any] = {name: known[name] for name in _TOLD} | {
            "ro_bytes": self.description.plan.ro_bytes,
            "rw_bytes": self.description.plan.rw_bytes,
            "macs": self.description.macs,
        }
        if self.firmware is not None:
            content["elf"] = elf_sizes(self.firmware)
            content["arena_bytes"] = self.firmware.arena_bytes
            content["sections"] = self.firmware.sections
        return content

    def __str__(self) -> str:
        found = [
            (self._layers(), _OPTIONAL),
            (self._stages(), ("order", "rings inside", "MACs")),
            (self._totals(), ()),
        ]
        if self.description.policies:
            found.append((self._policies(), ("ro + rw bytes",)))
        if self.firmware is not None:
            found.append((self._sections(), ()))
        text = tables_text(found)
        if self.description.notes:
            text += f"\nNotes\n{notes_text(self.description.notes)}"
        return text

    def _layers(self) -> Table:
        table = plain_table("Layers")
        for heading in ("layer", "stage", "kernel", "input", "output", "Qx/Qw/Qy"):
            table.add_column(heading)
        for heading in ("MACs", "weight bytes", "side bytes", "output bytes"):
            table.add_column(heading, justify="right")
        layers = self.description.layers
        for layer in layers:
            table.add_row(
                layer.name,
                f"{layer.stage} {layer.order}",
                layer.kernel,
                " ".join(_shape(shape) for shape in layer.inputs),
                _shape(layer.output),
                _bits(layer),
                *(f"{getattr(layer, key):,}" for key in _SUMMED),
            )
        table.add_section()
        sums = [sum(getattr(layer, key) for layer in layers) for key in _SUMMED[:3]]
        table.add_row("total", "", "", "", "", "", *(f"{value:,}" for value in sums), "")
        return table

    def _stages(self) -> Table:
        """Layers that run together, and the bytes of what they keep in the arena."""
        table = plain_table(f"Stages; image: {_IMAGE[self.description['input_buffer']]}")
        for heading in ("stage", "layers", "order"):
            table.add_column(heading)
        for heading in ("MACs", "rings inside", "output"):
            table.add_column(heading, justify="right")
        bytes_of = self.description.kept_bytes
        by_stage: dict[int, list[LayerDescription]] = {}
        for layer in self.description.layers:
            by_stage.setdefault(layer.stage, []).append(layer)
        for stage, layers in by_stage.items():
            names = [layers[0].name, *(layer.name for layer in layers[1:][-1:])]
            rings = sum(bytes_of[layer.name] for layer in layers[:-1])
            counts = (sum(layer.macs for layer in layers), rings, bytes_of[layers[-1].name])
            order = layers[0].order
            table.add_row(str(stage), " to ".join(names), order, *(f"{n:,}" for n in counts))
        return table

    def _totals(self) -> Table:
        plan = self.description.plan
        table = plain_table("Memory, bytes")
        table.add_column("what")
        table.add_column("the paper's accounting", justify="right")
        table.add_column("linked", justify="right")
        table.add_column("budget", justify="right")
        firmware = self.firmware
        flash = firmware.flash_bytes if firmware else None
        ram = firmware.ram_bytes if firmware else None
        budgets = (firmware.target.flash, firmware.target.ram) if firmware else (None, None)
        table.add_row("flash", f"{plan.ro_bytes:,}", _count(flash), _count(budgets[0]))
        table.add_row("RAM", f"{plan.rw_bytes:,}", _count(ram), _count(budgets[1]))
        if firmware:
            table.add_row("  of which arena", "", _count(firmware.arena_bytes), "")
            table.add_row(
                "scratch (DTCM)",
                "",
                _count(firmware.scratch_bytes),
                _count(firmware.target.scratch),
            )
            stack = (firmware.stack_bytes, firmware.target.stack)
            table.add_row("stack (DTCM)", "", *map(_count, stack))
            need = _count(firmware.stack_need_bytes or None)
            table.add_row("  of which needed at most", "", need, "")
        return table

    def _policies(self) -> Table:
        """What other policies would have chosen."""
        head, *rows = self.description.policies
        table = plain_table("Policies")
        for heading in head:
            table.add_column(heading)
        for row in rows:
            table.add_row(*row)
        return table

    def _sections(self) -> Table:
        assert self.firmware is not None
        table = plain_table("Sections of the ELF")
        table.add_column("section")
        table.add_column("bytes", justify="right")
        for name, size in self.firmware.sections.items():
            table.add_row(name, f"{size:,}")
        return table


_IMAGE = {
    "arena": "in the arena",
    "caller": "in a buffer of the caller's",
    "rows": "arrives by rows",
}
# Fields of the description that ``to_json`` hands on.
_TOLD = ("bits", "layers", "arena", "stages", "input_buffer", "policies", "notes")
# Of the layers: what a narrow terminal shows last comes last.
_OPTIONAL = ("stage", "side bytes", "input", "kernel", "output bytes", "output", "MACs")
_SUMMED = ("macs", "weight_bytes", "side_bytes", "output_bytes")


def elf_sizes(firmware: Firmware) -> dict[str, int]:
    """The three figures of an ELF that benchmarks print, in bytes."""
    return {
        "flash": firmware.flash_bytes,
        "axi_sram": firmware.axi_sram_bytes,
        "dtcm": firmware.dtcm_bytes,
    }


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _bits(layer: LayerDescription) -> str:
    inputs = ",".join(map(str, layer.x_bits))
    return f"{inputs}/{layer.w_bits or '-'}/{layer.y_bits}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
