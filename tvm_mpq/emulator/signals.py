"""Python's signal handlers wait until the core stands between two blocks.

A handler that raises inside a callback from C has its exception swallowed there, with whatever the
callback was to do left undone. So while the core runs, a signal only asks it to stop; the program's
own handler is called afterwards.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class DeferredSignals:
    """While entered, signals with a Python handler call ``on_signal()`` and wait.

    Other threads than the main one never run handlers: there it does nothing.
    """

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._noted: list[int] = []

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        try:
            for number in signal.valid_signals():
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        self.deliver()

    def deliver(self) -> None:
        """Call the handlers of the signals that came; what a handler raises is raised here."""
        while self._noted:
            number = self._noted.pop(0)
            self._handlers[number](number, sys._getframe())

    def _note(self, number: int, _: FrameType | None) -> None:
        self._noted.append(number)
        self._on_signal()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
