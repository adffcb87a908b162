"""Rule 13: what a cache line miss costs, from the clocks and wait states of the program.

One function a quantity, in core cycles. ``ratio`` is core clock / AXI clock, ``wait_states`` what
the program wrote to FLASH_ACR, ``reads`` the flash reads that fill a line. docs/cycle_model.md has
the measurements.
"""

from __future__ import annotations

from typing import Any

from tvm_mpq.emulator.chips import Chip

# From the flash's output to the core, fitted on the STM32H743 at 400 MHz (10 = 2 x (2 + 1) + 4).
_PATH = 4


def flash_read(ratio: int, wait_states: int) -> int:
    """One read of the flash: a bus cycle and the wait states."""
    return ratio * (wait_states + 1)


def flash_data_stall(ratio: int, wait_states: int) -> int:
    """Data: the critical word comes first, the rest of the line behind the program's back."""
    return flash_read(ratio, wait_states) + _PATH


def flash_code_stall(ratio: int, wait_states: int, reads: int) -> int:
    """Code: the whole line is wanted at once."""
    return flash_busy(ratio, wait_states, reads) + _PATH


def flash_busy(ratio: int, wait_states: int, reads: int) -> int:
    """How long a line keeps the flash busy from the start of its read: the next one waits."""
    return reads * flash_read(ratio, wait_states)


def set_stalls(state: Any, chip: Chip, ratio: int, wait_states: int, unit: int) -> None:
    """Write the costs to a counter's state, in 1/``unit`` cycle."""
    state.flash_data_cost = unit * flash_data_stall(ratio, wait_states)
    state.flash_code_cost = unit * flash_code_stall(ratio, wait_states, chip.flash_reads)
    state.flash_busy_cost = unit * flash_busy(ratio, wait_states, chip.flash_reads)
    state.sram_cost = round(unit * chip.sram_stall(ratio))
