"""Functions of assembly text."""

from __future__ import annotations

from collections.abc import Sequence

_HEAD = ".syntax unified\n.cpu cortex-m7\n.thumb\n"


def function(name: str, comment: str, lines: Sequence[str]) -> str:
    """A global function in a section of its own, so that the linker can drop it."""
    body = [line if line.endswith(":") else f"  {line}" for line in lines]
    about = "\n".join(f"@ {line}" for line in comment.splitlines())
    return "\n".join(
        [
            f'{about}\n{_HEAD}.section .text.{name}, "ax", %progbits',
            f".balign 8\n.global {name}\n.type {name}, %function\n.thumb_func\n{name}:",
            *body,
            f".size {name}, . - {name}",
            "",
        ]
    )
