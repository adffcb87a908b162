"""What it would gain to move code, activations or weights into the tightly coupled memories.

``python -m benchmarks.placement [--json]``. The program has code and weights in flash, activations
in AXI SRAM, operands and stack in DTCM. Each column moves one of the first three; cycles of a layer
relative to that, on the board model with warm caches.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.kernels import Entry, entries
from tvm_mpq.emulator import MODEL_ERROR
from tvm_mpq.files import temporary_folder
from tvm_mpq.micro.single_layer import LINKER_SCRIPT, build, random_layer, run

LAYERS = ("pw 14x14 192->192", "dw 3x3 s1 14x14x192")
WIDTHS = (8, 4)
# What to replace in the linker script.
_TEXT = ".text : { *(.text .text.*) } > FLASH"
_ITCM = ".start : { *(.text.Reset_Handler) } > FLASH\n  .text : { *(.text .text.*) } > ITCM"
_RODATA = "*(.rodata .rodata.*) . = ALIGN(4); } >"
PLACEMENTS = {
    "as linked": ("", ""),
    "code in ITCM": (_TEXT, _ITCM),
    "activations in DTCM": ("> AXI", "> DTCM"),
    "weights in DTCM": (f"{_RODATA} FLASH", f"{_RODATA} DTCM"),
}


def script(placement: str) -> str:
    """The linker script of one placement."""
    old, new = PLACEMENTS[placement]
    text = LINKER_SCRIPT.read_text()
    if old not in text:
        raise AssertionError(f"{LINKER_SCRIPT.name} has no {old!r}")
    itcm = "  ITCM  (rwx) : ORIGIN = 0x00000000, LENGTH = 64K\n  DTCM "
    return text.replace(old, new).replace("  DTCM ", itcm, 1)


def cycles(entry: Entry, placement: str) -> int:
    """Cycles of the second run of a layer."""
    with temporary_folder("placement") as name:
        folder = Path(name)
        path = folder / "placed.ld"
        path.write_text(script(placement))
        layer = random_layer(entry.spec)
        found = run(layer, build(layer, folder, path))
    assert found.bit_exact, f"{entry.layer}: {placement}"
    return found.cycles


def main() -> None:
    """Print the table, or a JSON list."""
    parser = argparse.ArgumentParser(description="Cycles of layers by placement")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    arguments = parser.parse_args()
    rows = []
    print(f"cycles: {MODEL_ERROR}", file=sys.stderr)
    for entry in entries():
        x, w = entry.spec.x.bits, entry.spec.w_bits
        if entry.layer not in LAYERS or x != w or x not in WIDTHS:
            continue
        row = {place: cycles(entry, place) for place in PLACEMENTS}
        rows.append({"layer": entry.layer, "kernel": entry.spec.name, "cycles": row})
        base = row["as linked"]
        shares = ", ".join(f"{place} {count / base - 1:+.2%}" for place, count in row.items())
        if not arguments.json:
            print(f"{entry.layer:22s} {entry.spec.name:28s} {base:>9d}: {shares}", flush=True)
    if arguments.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
