"""Where every activation buffer lies: one arena a memory region, buffers reuse dead space.

Placing intervals so that the arena is smallest is NP-hard; greedy by size over real lifetimes
(Pisarchyk & Lee, arXiv 2001.03288) is usually at the lower bound for CNN graphs, and trying a few
orders removes most of the exceptions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.specs import WORD_BYTES

# Alignment of the arena symbol itself in bytes: one cache line of the Cortex-M7.
ARENA_ALIGNMENT = 32


@dataclass(frozen=True)
class Buffer:
    """A block of bytes that is alive from step ``first_use`` to step ``last_use``, both included.

    Attributes
    ----------
    size: bytes. first_use: the step that writes it. last_use: the last step that reads it.
    region: the memory it lies in.
    alias_of: a buffer that dies in step ``first_use``; this one is written over it, at its offset.
    follows: (name, gap) of buffers that die in step ``first_use`` while this one grows: it may
        overlap them if it starts at least ``gap`` bytes (of either sign) below them.
    """

    name: str
    size: int
    first_use: int
    last_use: int
    region: str = "AXI_SRAM"
    alias_of: str | None = None
    follows: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidValueError("buffer: empty name; every buffer needs one")
        if self.size <= 0:
            raise InvalidValueError(
                f"buffer {self.name!r}: size {self.size}; expected a positive number of bytes"
            )
        if not 0 <= self.first_use <= self.last_use:
            raise InvalidValueError(
                f"buffer {self.name!r}: first use {self.first_use}, last use {self.last_use};"
                " expected 0 <= first_use <= last_use"
            )

    def meets(self, other: Buffer) -> bool:
        """True if some step sees both buffers alive."""
        return self.first_use <= other.last_use and other.first_use <= self.last_use

    def clearance(self, other: Buffer) -> int:
        """Bytes that this one's start must lie below the other's start when it begins there."""
        for name, gap in self.follows:
            if name == other.name:
                return min(gap, self.size)
        return self.size


@dataclass(frozen=True)
class ArenaPlan:
    """Offset of every buffer from the start of its region's arena.

    Attributes
    ----------
    buffers: with size and lifetime, in the order given.
    offsets: buffer name -> bytes from the start of the arena, a multiple of ``alignment``.
    sizes: region -> bytes of its arena, a multiple of ``alignment``.
    lower_bounds: region -> the most bytes alive in one step; no plan is smaller.
    alignment: bytes. The arena itself starts at a multiple of ``ARENA_ALIGNMENT``.
    """

    buffers: tuple[Buffer, ...]
    offsets: dict[str, int]
    sizes: dict[str, int]
    lower_bounds: dict[str, int]
    alignment: int = WORD_BYTES

    def check(self) -> None:
        """Prove the plan.

        Raises
        ------
        InvalidValueError: two live buffers share a byte, a buffer leaves its arena or is not
            aligned, or an alias is not at its buffer's offset.
        """
        _check_buffers(self.buffers)
        for buffer in self.buffers:
            self._check_place(buffer)
        for index, one in enumerate(self.buffers):
            for other in self.buffers[index + 1 :]:
                if self._collide(one, other):
                    raise InvalidValueError(
                        f"arena {one.region}: {self._span(one)} and {self._span(other)} overlap and"
                        f" are both alive in step {max(one.first_use, other.first_use)}"
                    )

    def rows(self) -> list[tuple[str, ...]]:
        """The plan as a table: a header, the buffers by region and offset, the regions' totals."""
        table: list[tuple[str, ...]] = [
            ("region", "offset", "size", "first use", "last use", "buffer", "in place of")
        ]
        for b in sorted(self.buffers, key=lambda b: (b.region, self.offsets[b.name], b.first_use)):
            numbers = (self.offsets[b.name], b.size, b.first_use, b.last_use)
            table.append((b.region, *map(str, numbers), b.name, b.alias_of or ""))
        for region, size in self.sizes.items():
            note = f"total; lower bound {self.lower_bounds[region]}"
            table.append((region, "", str(size), "", "", note, ""))
        return table

    def _check_place(self, buffer: Buffer) -> None:
        where = f"arena {buffer.region}: buffer {buffer.name!r}"
        if buffer.name not in self.offsets or buffer.region not in self.sizes:
            raise InvalidValueError(f"{where} has no offset or no arena")
        offset, end = self.offsets[buffer.name], self.sizes[buffer.region]
        if offset < 0 or offset + buffer.size > end:
            raise InvalidValueError(f"{self._span(buffer)} leaves the arena of {end} bytes")
        if offset % self.alignment:
            raise InvalidValueError(f"{where}: offset {offset}; expected {self.alignment}-aligned")
        if buffer.alias_of is not None and offset != self.offsets.get(buffer.alias_of):
            raise InvalidValueError(
                f"{where}: offset {offset}, but {buffer.alias_of!r}, which it replaces, is at"
                f" {self.offsets.get(buffer.alias_of)}"
            )

    def _collide(self, one: Buffer, other: Buffer) -> bool:
        if one.region != other.region or not one.meets(other) or _is_in_place(one, other):
            return False
        start, other_start = self.offsets[one.name], self.offsets[other.name]
        below = start + one.clearance(other) <= other_start
        return not below and start < other_start + other.clearance(one)

    def _span(self, buffer: Buffer) -> str:
        offset = self.offsets[buffer.name]
        return f"buffer {buffer.name!r} at [{offset}, {offset + buffer.size})"


# Buffers that alias each other share one offset, so they are placed together: the original first.
_Group = tuple[Buffer, ...]
# Buffer -> each other one that is alive with it: its name, and how far below and above that one's
# start no start is allowed.
_Conflicts = Mapping[str, Sequence[tuple[str, int, int]]]
# Largest key first. Which order is best depends on the graph; none wins always.
_Order = Callable[[_Group], tuple[int, ...]]


def plan_arena(
    buffers: Sequence[Buffer], alignment: int = WORD_BYTES, attempts: int = 0
) -> ArenaPlan:
    """Place ``buffers``, each region for itself; the smallest of a few greedy placements.

    The same buffers in the same order always give the same plan.

    Parameters
    ----------
    alignment: of every offset, in bytes; a power of two, at least a word.
    attempts: how many shuffled orders to try when the greedy ones miss the lower bound.

    Raises
    ------
    InvalidValueError: two buffers of one name, an alias that cannot be in place, a bad alignment.
    """
    if alignment < WORD_BYTES or alignment & (alignment - 1):
        raise InvalidValueError(
            f"alignment {alignment}: expected a power of two, at least {WORD_BYTES}"
        )
    _check_buffers(buffers)
    offsets: dict[str, int] = {}
    sizes: dict[str, int] = {}
    bounds: dict[str, int] = {}
    for region in dict.fromkeys(buffer.region for buffer in buffers):
        members = [buffer for buffer in buffers if buffer.region == region]
        bounds[region] = lower_bound(members, alignment)
        sizes[region], placed = _best_placement(members, alignment, attempts)
        offsets |= placed
    in_order = {buffer.name: offsets[buffer.name] for buffer in buffers}
    plan = ArenaPlan(tuple(buffers), in_order, sizes, bounds, alignment)
    plan.check()
    return plan


def lower_bound(buffers: Sequence[Buffer], alignment: int = WORD_BYTES) -> int:
    """The most bytes alive in one step; an alias counts nothing while its buffer still lives.

    What a follower may share with the buffer it follows counts once.
    """
    return max(_live_bytes(buffers, alignment).values(), default=0)


def _live_bytes(buffers: Sequence[Buffer], alignment: int) -> Counter[int]:
    """Bytes alive in each step that writes a buffer; the sum only rises in such steps."""
    live: Counter[int] = Counter()
    sizes = {buffer.name: buffer.size for buffer in buffers}
    for step in {buffer.first_use for buffer in buffers}:
        for b in buffers:
            begin = b.first_use + (b.alias_of is not None)
            if begin <= step <= b.last_use:
                live[step] += _round_up(b.size, alignment)
            if b.first_use == step:
                shares = [min(b.size - gap, b.size, sizes.get(n, 0)) for n, gap in b.follows]
                live[step] -= sum(max(0, share) for share in shares)
    return live


def _best_placement(
    buffers: Sequence[Buffer], alignment: int, attempts: int
) -> tuple[int, dict[str, int]]:
    """Arena bytes and offsets of the smallest placement; of equal ones the first."""
    groups = _alias_groups(buffers)
    live, conflicts = _live_bytes(buffers, alignment), _conflicts(buffers)
    placements = [
        _place(sorted(groups, key=order, reverse=True), conflicts, alignment)
        for order in _orders(live)
    ]
    by_time = sorted(groups, key=lambda group: group[0].first_use)
    placements.append(_place(by_time, conflicts, alignment, ceiling=max(live.values())))
    best = min(placements, key=lambda offsets: _end(buffers, offsets))
    random = Random(0)
    for _ in range(attempts):
        if _end(buffers, best) <= max(live.values()):
            break
        by_size = sorted(
            groups, key=lambda group: group[0].size * random.uniform(0.3, 1.0), reverse=True
        )
        trial = _place(by_size, conflicts, alignment)
        best = min(best, trial, key=lambda offsets: _end(buffers, offsets))
    return _round_up(_end(buffers, best), alignment), best


def _end(buffers: Sequence[Buffer], offsets: Mapping[str, int]) -> int:
    return max(offsets[buffer.name] + buffer.size for buffer in buffers)


def _orders(live: Mapping[int, int]) -> tuple[_Order, ...]:
    def size(group: _Group) -> int:
        return group[0].size

    def duration(group: _Group) -> int:
        return group[-1].last_use - group[0].first_use + 1

    def breadth(group: _Group) -> int:
        first, last = group[0].first_use, group[-1].last_use
        return max(total for step, total in live.items() if first <= step <= last)

    return (
        lambda g: (size(g), duration(g)),
        lambda g: (duration(g), size(g)),
        lambda g: (size(g) * duration(g), size(g)),
        lambda g: (breadth(g), size(g), duration(g)),
        lambda g: (-g[0].first_use, size(g)),
    )


def _conflicts(buffers: Sequence[Buffer]) -> _Conflicts:
    return {
        b.name: [
            (other.name, b.clearance(other), other.clearance(b))
            for other in buffers
            if other is not b and b.meets(other)
        ]
        for b in buffers
    }


def _place(
    groups: Sequence[_Group], conflicts: _Conflicts, alignment: int, ceiling: int | None = None
) -> dict[str, int]:
    """Each group at the lowest offset where none of its members meets a live buffer.

    With a ceiling, every second group hangs from it instead, where there is room. In order of time
    and with the lower bound as the ceiling, that is a smallest plan for every plain chain of layers
    (neighbours always lie at opposite ends); lowest offsets alone cost random chains up to 45 %.
    """
    offsets: dict[str, int] = {}
    for index, group in enumerate(groups):
        # A start strictly inside (low, high) makes a member overlap a buffer that is placed.
        taken = [
            (offsets[other] - below, offsets[other] + above)
            for b in group
            for other, below, above in conflicts[b.name]
            if other in offsets
        ]
        start = -1
        if ceiling is not None and index % 2:
            start = _highest(taken, ceiling - group[0].size, alignment)
        if start < 0:
            start = _lowest(taken, alignment)
        offsets |= {b.name: start for b in group}
    return offsets


def _lowest(taken: Sequence[tuple[int, int]], alignment: int) -> int:
    start = 0
    for low, high in sorted(taken):
        if low < start < high:
            start = _round_up(high, alignment)
    return start


def _highest(taken: Sequence[tuple[int, int]], limit: int, alignment: int) -> int:
    """The highest aligned start up to ``limit``; negative if there is none."""
    start = _round_down(limit, alignment)
    for low, high in sorted(taken, key=lambda interval: interval[1], reverse=True):
        if low < start < high:
            start = _round_down(low, alignment)
    return start


def _alias_groups(buffers: Sequence[Buffer]) -> list[_Group]:
    """Chains of aliases; a buffer without one is a chain of its own."""
    successor = {b.alias_of: b for b in buffers if b.alias_of is not None}
    groups = []
    for buffer in buffers:
        if buffer.alias_of is None:
            chain = [buffer]
            while chain[-1].name in successor:
                chain.append(successor[chain[-1].name])
            groups.append(tuple(chain))
    return groups


def _check_buffers(buffers: Sequence[Buffer]) -> None:
    by_name: dict[str, Buffer] = {}
    for buffer in buffers:
        if buffer.name in by_name:
            raise InvalidValueError(f"buffer {buffer.name!r}: the name occurs twice")
        by_name[buffer.name] = buffer
    replaced: dict[str, str] = {}
    for buffer in buffers:
        if buffer.alias_of is None:
            continue
        if buffer.alias_of not in by_name:
            raise InvalidValueError(
                f"buffer {buffer.name!r}: in place of {buffer.alias_of!r}, which does not exist"
            )
        rival = replaced.setdefault(buffer.alias_of, buffer.name)
        if rival != buffer.name:
            raise InvalidValueError(
                f"buffers {rival!r} and {buffer.name!r}: both in place of {buffer.alias_of!r};"
                " only one can be"
            )
        _check_alias(buffer, by_name[buffer.alias_of])


def _check_alias(buffer: Buffer, dying: Buffer) -> None:
    where = f"buffer {buffer.name!r} in place of {dying.name!r}"
    if buffer.region != dying.region:
        raise InvalidValueError(f"{where}: {buffer.region} is not {dying.region}")
    if buffer.size > dying.size:
        raise InvalidValueError(
            f"{where}: {buffer.size} bytes over {dying.size}; expected at most as many"
        )
    # Within a chain, each link starts later: no circles, no two aliases written in one step.
    in_time = dying.alias_of is None or dying.first_use < buffer.first_use
    if buffer.first_use != dying.last_use or not in_time:
        raise InvalidValueError(
            f"{where}: it is written in step {buffer.first_use}, and {dying.name!r} lives from step"
            f" {dying.first_use} to {dying.last_use}; expected a buffer that dies in that step, and"
            " is not itself written over another one in it"
        )


def _is_in_place(one: Buffer, other: Buffer) -> bool:
    return other.alias_of == one.name or one.alias_of == other.name


def _round_up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _round_down(value: int, alignment: int) -> int:
    return value // alignment * alignment
