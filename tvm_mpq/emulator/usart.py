"""The console: every USART of the chip, joined to one pair of byte streams for the host."""

from __future__ import annotations

from collections.abc import Callable

from tvm_mpq.emulator.bus import Bus

# RM0433 section 52.8 (USART registers); F7 (RM0385 section 31.8) has the same layout.
CR1, ISR, RDR, TDR = 0x00, 0x1C, 0x24, 0x28
_RXNE = 1 << 5
# TXE and TC: always ready to send. TEACK and REACK: HAL start-up waits for them.
_ALWAYS = 1 << 7 | 1 << 6 | 1 << 21 | 1 << 22
_RXNEIE, _TCIE, _TXEIE = 1 << 5, 1 << 6, 1 << 7
# Polls of an empty receiver in a row before the host is asked for more.
IDLE_POLLS = 2000
# So many tell a program that reads from one that looks whether it may send.
READING_POLLS = 32


class Console:
    """Bytes to and from the host.

    ``on_byte(byte)`` is called for each byte sent, ``on_reading()`` when the firmware polls an
    empty receiver, and ``on_starved()`` when it has done so ``IDLE_POLLS`` times without sending
    anything. ``only`` is the base of the one USART that is joined; None: all of them.
    """

    def __init__(
        self,
        on_byte: Callable[[int], None],
        on_reading: Callable[[], None],
        on_starved: Callable[[], None],
        only: int | None = None,
    ) -> None:
        self.sent = bytearray()
        self._on_byte, self._on_reading, self._on_starved = on_byte, on_reading, on_starved
        self._only = only
        self.sent_by: dict[int, int] = {}
        self._received = bytearray()
        self._position = 0
        self._idle = self._read = 0
        self._control: dict[int, int] = {}
        self.on_change: Callable[[], None] = lambda: None

    def attach(self, bus: Bus, base: int) -> None:
        """Makes the USART at ``base`` a way to this console."""
        if self._only in (None, base):
            bus.on_read(base + ISR, self._status)
            bus.on_read(base + RDR, self._pop)
        else:
            bus.on_read(base + ISR, lambda: _ALWAYS)
        bus.on_write(base + TDR, lambda value: self._push(base, value))
        bus.on_write(base + CR1, lambda value: self._configure(base, value))

    def feed(self, data: bytes) -> None:
        """Queues bytes for the firmware to receive."""
        if self._position == len(self._received):
            self._received.clear()
            self._position = 0
        self._received += data
        self._idle = 0
        self.on_change()

    @property
    def waiting(self) -> int:
        """Bytes queued that the firmware has not read yet."""
        return len(self._received) - self._position

    @property
    def traffic(self) -> int:
        """Bytes sent and received so far."""
        return len(self.sent) + self._read

    @property
    def receive_interrupts(self) -> list[int]:
        """Bases of the USARTs that interrupt on received bytes."""
        return [
            base
            for base, control in self._control.items()
            if control & _RXNEIE and self._only in (None, base)
        ]

    def wants_interrupt(self, base: int) -> bool:
        """True when the USART at ``base`` raises its interrupt line."""
        control = self._control.get(base, 0)
        receives = control & _RXNEIE and self.waiting > 0 and self._only in (None, base)
        return bool(receives or control & (_TXEIE | _TCIE))

    def _configure(self, base: int, value: int) -> None:
        self._control[base] = value
        self.on_change()

    def _status(self) -> int:
        if self._position < len(self._received):
            return _ALWAYS | _RXNE
        self._idle += 1
        if self._idle == READING_POLLS:
            self._on_reading()
        elif self._idle == IDLE_POLLS:
            self._idle = 0
            self._on_starved()
        return _ALWAYS

    def _pop(self) -> int:
        self._idle = 0
        if self._position == len(self._received):
            return 0
        self._position += 1
        self._read += 1
        if not self.waiting:
            self.on_change()
        return self._received[self._position - 1]

    def _push(self, base: int, value: int) -> None:
        self._idle = 0
        self.sent_by[base] = self.sent_by.get(base, 0) + 1
        if self._only not in (None, base):
            return
        self.sent.append(value & 0xFF)
        self._on_byte(value & 0xFF)
