"""The call stack that a firmware needs, from the frames and calls that the compiler reports.

gcc -fcallgraph-info=su writes a graph beside each object; frames of assembly are read from its
source. The figure is an upper bound of every path that the program can take: a call through a
pointer counts as the deepest function that makes none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tvm_mpq.errors import InvalidValueError

# What is reserved beyond the need, for the project's own code in callbacks and handlers.
MARGIN = 256
# memcpy and its kin of newlib-nano and libgcc, which come without a graph.
_LIBRARY_FRAME = 64
# PM0253 2.3.7: 26 words of an exception with the FPU in use, aligned; one interrupt and one fault.
_EXCEPTION_FRAME = 112
_EXCEPTIONS = 2
_RESET, _INTERRUPT = "Reset_Handler", "SysTick_Handler"
_INDIRECT = "__indirect_call"
_NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "([^"\\]+)\\n([^"]*)"', re.MULTILINE)
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.MULTILINE)
_BYTES = re.compile(r"(\d+) bytes \((static|dynamic|dynamic,bounded)\)")
_PUSH = re.compile(r"^\s+push \{([^}]*)\}", re.MULTILINE)
_LOWER = re.compile(r"^\s+sub sp, sp, #(\d+)", re.MULTILINE)


@dataclass
class _Function:
    frame: int
    calls: set[str] = field(default_factory=set)


def stack_need(objects: Path, assembly: Iterable[Path]) -> int:
    """Bytes of stack that the firmware with these ``objects`` needs from reset on.

    Parameters
    ----------
    objects: a folder with the .ci files of gcc -fcallgraph-info=su. assembly: .S files.

    Raises InvalidValueError where no bound exists: recursion, or arrays of variable length.
    """
    graph = _Graph()
    for path in sorted(objects.rglob("*.ci")):
        graph.add(path.read_text())
    for path in assembly:
        graph.functions |= _frames(path.read_text())
    missing = {_RESET, _INTERRUPT} - graph.functions.keys()
    if missing:
        raise InvalidValueError(f"{objects}: no call graph of {', '.join(missing)}; build again")
    exceptions = _EXCEPTIONS * _EXCEPTION_FRAME + graph.deepest(_INTERRUPT)
    return graph.deepest(_RESET) + exceptions


class _Graph:
    """Functions by title: a name, with its file if it is static or weak."""

    def __init__(self) -> None:
        self.functions: dict[str, _Function] = {}
        self._named: dict[str, list[str]] = {}

    def add(self, text: str) -> None:
        """Take in one .ci file."""
        for title, name, rest in _NODE.findall(text):
            size = _BYTES.search(rest)
            if size is None:
                continue  # only declared here
            if size[2] == "dynamic":
                raise InvalidValueError(
                    f"{name}: its stack has no bound; give its arrays a constant size"
                )
            self.functions[title] = _Function(int(size[1]))
            self._named.setdefault(name, []).append(title)
        for source, target in _EDGE.findall(text):
            if source in self.functions:
                self.functions[source].calls.add(target)

    def deepest(self, root: str) -> int:
        """The most that a call of ``root`` takes."""
        depths: dict[str, int] = {}
        try:
            any_pointer = self._any_pointer() if self._calls_pointers(root) else 0
            return self._depth(root, depths, any_pointer)
        except RecursionError:
            raise InvalidValueError(
                f"{root}: its call graph has a cycle, so that its stack has no bound; end the"
                " recursion"
            ) from None

    def _any_pointer(self) -> int:
        plain = [title for title in self.functions if not self._calls_pointers(title)]
        return max(self._depth(title, {}, 0) for title in plain)

    def _calls_pointers(self, title: str) -> bool:
        if title == _INDIRECT:
            return True
        return any(self._calls_pointers(call) for one in self._meant(title) for call in one.calls)

    def _depth(self, title: str, known: dict[str, int], pointer: int) -> int:
        if title == _INDIRECT:
            return pointer
        if title not in known:
            known[title] = max(
                one.frame + max((self._depth(c, known, pointer) for c in one.calls), default=0)
                for one in self._meant(title) or [_Function(_LIBRARY_FRAME)]
            )
        return known[title]

    def _meant(self, title: str) -> list[_Function]:
        """The function, or all weak ones that the name may stand for."""
        titles = [title] if title in self.functions else self._named.get(title, [])
        return [self.functions[one] for one in titles]


def _frames(text: str) -> dict[str, _Function]:
    """Frames of assembly functions, which call nothing."""
    found = {}
    for part in re.split(r"^\.type ", text, flags=re.MULTILINE)[1:]:
        pushed = sum(_registers(one) for one in _PUSH.findall(part))
        lowered = sum(map(int, _LOWER.findall(part)))
        found[part.split(",")[0]] = _Function(4 * pushed + lowered)
    return found


def _registers(text: str) -> int:
    count = 0
    for one in text.split(","):
        first, _, last = one.strip().partition("-")
        count += int(last[1:]) - int(first[1:]) + 1 if last else 1
    return count
