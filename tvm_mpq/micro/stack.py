"""The call stack that a firmware needs, from the frames and calls that the compiler reports.

gcc -fcallgraph-info=su writes a graph beside each object; frames of assembly are read from its
source. The figure is an upper bound of every path that the program can take: a call through a
pointer counts as the deepest function that makes none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
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
    graph = _read(sorted(objects.rglob("*.ci")))
    for path in assembly:
        graph |= _frames(path.read_text())
    missing = {_RESET, _INTERRUPT} - graph.keys()
    if missing:
        raise InvalidValueError(f"{objects}: no call graph of {', '.join(missing)}; build again")
    exceptions = _EXCEPTIONS * _EXCEPTION_FRAME + _deepest(graph, _INTERRUPT)
    return _deepest(graph, _RESET) + exceptions


def _read(paths: list[Path]) -> dict[str, _Function]:
    """Functions by name; static ones by file and name."""
    graph: dict[str, _Function] = {}
    for path in paths:
        text = path.read_text()
        names = {}
        for title, name, rest in _NODE.findall(text):
            size = _BYTES.search(rest)
            if size is None:
                continue  # only declared here
            if size[2] == "dynamic":
                raise InvalidValueError(
                    f"{name}: its stack has no bound; give its arrays a constant size"
                )
            # A weak function is listed as if it were static. Twice the same name is two of those.
            names[title] = name if name not in graph else title
            graph[names[title]] = _Function(int(size[1]))
        for source, target in _EDGE.findall(text):
            if source in names:
                graph[names[source]].calls.add(names.get(target, target))
    return graph


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


def _deepest(graph: dict[str, _Function], root: str) -> int:
    """The most that a call of ``root`` takes."""

    @cache
    def direct(name: str) -> int | None:
        """The same, or None where a pointer is called on the way."""
        if name == _INDIRECT:
            return None
        depths = [direct(call) for call in graph[name].calls] if name in graph else []
        if any(depth is None for depth in depths):
            return None
        known = [depth for depth in depths if depth is not None]
        return max(known, default=0) + (graph[name].frame if name in graph else _LIBRARY_FRAME)

    @cache
    def depth(name: str) -> int:
        if name == _INDIRECT:
            return max(found for one in graph if (found := direct(one)) is not None)
        if name not in graph:
            return _LIBRARY_FRAME
        return graph[name].frame + max(map(depth, graph[name].calls), default=0)

    try:
        return depth(root)
    except RecursionError:
        raise InvalidValueError(
            f"{root}: its call graph has a cycle, so that its stack has no bound; end the recursion"
        ) from None
