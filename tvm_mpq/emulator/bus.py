"""Memory-mapped registers: a word store with handlers where reading or writing does something."""

from __future__ import annotations

from collections.abc import Callable

Reader = Callable[[], int]
Writer = Callable[[int], None]


class Bus:
    """All peripheral and system registers of the chip.

    A register nobody claimed reads back what was written to it (0 before), which is what
    configuration code of foreign firmware expects.
    """

    def __init__(self) -> None:
        self.registers: dict[int, int] = {}
        self._readers: dict[int, Reader] = {}
        self._writers: dict[int, Writer] = {}

    def on_read(self, address: int, reader: Reader) -> None:
        """``reader()`` answers 32-bit reads of the register at ``address``."""
        self._readers[address] = reader

    def on_write(self, address: int, writer: Writer) -> None:
        """``writer(value)`` is told the register's new 32-bit value after each write."""
        self._writers[address] = writer

    def read(self, address: int, size: int) -> int:
        """``size`` (1, 2 or 4) bytes at ``address``."""
        word = address & ~3
        reader = self._readers.get(word)
        value = self.registers.get(word, 0) if reader is None else reader()
        if size == 4:
            return value & 0xFFFFFFFF
        return value >> 8 * (address & 3) & ((1 << 8 * size) - 1)

    def write(self, address: int, size: int, value: int) -> None:
        """Stores ``size`` (1, 2 or 4) bytes and tells the register's handler."""
        word = address & ~3
        if size != 4:
            mask, shift = (1 << 8 * size) - 1, 8 * (address & 3)
            old = self.registers.get(word, 0)
            value = old & ~(mask << shift) | (value & mask) << shift
        self.registers[word] = value
        writer = self._writers.get(word)
        if writer is not None:
            writer(value)
