"""A conversation with firmware: what to say, and what to wait for before saying it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from tvm_mpq.emulator.board import Board
from tvm_mpq.errors import InvalidValueError

_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "0": b"\0", "\\": b"\\"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)


class Step(NamedTuple):
    """``is_send``: say ``text`` when the firmware reads; otherwise wait until it was printed."""

    is_send: bool
    text: bytes


class Talk:
    """Follows ``steps`` in their order while ``board`` runs.

    A text to send right after one to wait for is sent as soon as that was printed.
    """

    def __init__(self, board: Board, steps: Iterable[Step]) -> None:
        self._board = board
        self._steps = list(steps)
        self._heard = bytearray()
        board.on_uart_byte = self._hear
        board.on_input_wanted = self._say

    @property
    def left(self) -> Step | None:
        """The step that has not come about; None when all is said."""
        return self._steps[0] if self._steps else None

    def _hear(self, byte: int) -> None:
        self._heard.append(byte)
        if not self._steps or self._steps[0].is_send:
            return
        if self._heard.endswith(self._steps[0].text):
            self._steps.pop(0)
            self._heard.clear()
            self._board.uart_send(self._say())

    def _say(self) -> bytes:
        if self._steps and self._steps[0].is_send:
            return self._steps.pop(0).text
        return b""


def unescape(option: str, text: str) -> bytes:
    r"""The bytes of ``text``, in which \n, \r, \t, \0, \\ and \xNN are read.

    Raises InvalidValueError for any other escape; ``option`` names where it stands.
    """

    def read(match: re.Match[str]) -> str:
        code = match[1]
        if code[:1] == "x" and len(code) == 3:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise InvalidValueError(
                f"{option} {text!r}: unknown escape \\{code}; allowed are \\n, \\r, \\t, \\0,"
                " \\\\ and \\xNN"
            )
        return _ESCAPES[code].decode("latin-1")

    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        parts += [text[at : match.start()].encode(), read(match).encode("latin-1")]
        at = match.end()
    return b"".join((*parts, text[at:].encode()))
