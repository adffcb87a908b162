"""What travels in the Project API: server information, options, timeouts and errors."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple


class ErrorCode(IntEnum):
    """JSON-RPC error codes; PARSE_ERROR and INTERNAL_ERROR are defined and never sent."""

    SERVER_ERROR = -32000
    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603


class _OptionFields(NamedTuple):
    name: str
    choices: Sequence[str] | None
    default: Any
    type: str
    required: list[str] | None
    optional: list[str] | None
    help: str


class ProjectOption(_OptionFields):
    """An option of the project; ``required`` and ``optional`` list the methods that take it."""

    def __new__(cls, name: str, **fields: Any) -> ProjectOption:
        """``type`` ("bool", "int", "str"), ``help``, ``required`` or ``optional`` are needed."""
        for field in ("type", "help"):
            if field not in fields:
                raise ValueError(f"option {name}: {field} must be given")
        if fields.get("required") is None and fields.get("optional") is None:
            raise ValueError(f"option {name}: give required or optional")
        if fields["type"] not in ("bool", "int", "str"):
            raise ValueError(f"option {name}: type {fields['type']!r}; allowed: bool, int, str")
        filled: dict[str, Any] = dict.fromkeys(("choices", "default", "required", "optional"))
        filled |= fields
        return super().__new__(cls, name=name, **filled)

    def replace(self, changes: dict[str, Any]) -> ProjectOption:
        """A copy with ``changes``."""
        return ProjectOption(**(self._asdict() | changes))


class ServerInfo(NamedTuple):
    """What ``server_info_query`` returns; the path is "" in a template."""

    platform_name: str
    is_template: bool
    model_library_format_path: str | None
    project_options: list[ProjectOption]


class TransportTimeouts(NamedTuple):
    """Seconds; 0 switches a limit off."""

    session_start_retry_timeout_sec: float
    session_start_timeout_sec: float
    session_established_timeout_sec: float


class JSONRPCError(Exception):
    """An error reply."""

    def __init__(self, code: int, message: str, data: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def to_json(self) -> dict[str, Any]:
        """The reply's ``error`` member."""
        return {"code": int(self.code), "message": self.message, "data": self.data}


class ServerError(JSONRPCError):
    """A failure inside a handler. Subclasses give no message: it is their class name."""

    def __init__(self, message: str | None = None, data: Any = None) -> None:
        if type(self) is ServerError:
            if message is None:
                raise ValueError("ServerError: a message must be given")
        elif message is not None:
            raise ValueError(f"{type(self).__name__}: its message is its class name; give none")
        super().__init__(ErrorCode.SERVER_ERROR, message or type(self).__name__, data)

    @classmethod
    def from_exception(cls, error: BaseException, message: str) -> ServerError:
        """The reply to an exception that is no JSONRPCError: its text is in the traceback."""
        wrapped = ServerError(message)
        wrapped.add_traceback(error)
        return wrapped

    def add_traceback(self, error: BaseException | None = None) -> None:
        """Put ``data["traceback"]`` of ``error`` (default: this one), unless there is one."""
        data = self.data if isinstance(self.data, dict) else {}
        if "traceback" not in data:
            lines = "".join(traceback.format_exception(error or self)).splitlines(keepends=True)
            for i, line in enumerate(lines):
                if line.startswith("  File "):
                    lines[i] = line.rstrip("\n") + "  # <--- Outermost server-side stack frame\n"
                    break
            data = data | {"traceback": "".join(lines)}
        self.data = data


class TransportClosedError(ServerError):
    """The transport is not open, or was closed at the other end."""


class IoTimeoutError(ServerError):
    """Reading or writing did not finish in time."""


class UnsupportedTVMVersionError(ServerError):
    """This server does not work with the client's TVM."""
