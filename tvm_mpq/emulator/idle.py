"""Notices a program that waits for input without polling the receiver: it spins on a flag."""

from __future__ import annotations

from collections import Counter as Tally

# How often the program is looked at, in core cycles, and how often it must look the same.
LOOK_CYCLES = 1_000_000
_SAME_LOOKS = 3

Snapshot = tuple[int, ...]


class IdleWatch:
    """Compares snapshots of the core: a loop that makes progress changes its registers."""

    def __init__(self) -> None:
        self._seen: Tally[Snapshot] = Tally()
        self._traffic = -1
        self.next_look = 0

    def is_idle(self, now: int, traffic: int, snapshot: Snapshot) -> bool:
        """True when the core has looked the same several times without console traffic.

        ``traffic`` is a number that changes with every byte sent or received.
        """
        if traffic != self._traffic:
            self._traffic = traffic
            self._seen.clear()
        if now < self.next_look:
            return False
        self.next_look = now + LOOK_CYCLES
        self._seen[snapshot] += 1
        if self._seen[snapshot] < _SAME_LOOKS:
            return False
        self._seen.clear()
        return True
