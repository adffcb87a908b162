"""The server side of microTVM's Project API, protocol version 1. Standard library only.

JSON-RPC 2.0 over two pipes: one UTF-8 JSON object a line, one request at a time, parameters always
by name, bytes as base85 (RFC 1924). A project's ``microtvm_api_server.py`` subclasses
``ProjectAPIHandler`` and ends with ``server.main(Handler())``. The wire types (options, errors) are
in ``api_types.py`` beside this file.
"""

from __future__ import annotations

import abc
import argparse
import base64
import json
import logging
import os
import pathlib
import re
import select
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, get_type_hints

from api_types import (
    ErrorCode,
    IoTimeoutError,
    JSONRPCError,
    ProjectOption,
    ServerError,
    ServerInfo,
    TransportClosedError,
    TransportTimeouts,
    UnsupportedTVMVersionError,
)

__all__ = [
    "ErrorCode",
    "IoTimeoutError",
    "JSONRPCError",
    "ProjectAPIHandler",
    "ProjectAPIServer",
    "ProjectOption",
    "ServerError",
    "ServerInfo",
    "TransportClosedError",
    "TransportTimeouts",
    "UnsupportedTVMVersionError",
    "main",
    "read_with_timeout",
    "write_with_timeout",
]

PROTOCOL_VERSION = 1
_LOG = logging.getLogger(__name__)


class ProjectAPIHandler(abc.ABC):
    """What a project implements. The type hints are the parameters the server checks."""

    @abc.abstractmethod
    def server_info_query(self, tvm_version: str) -> ServerInfo:
        """Describe this project; may raise UnsupportedTVMVersionError."""

    @abc.abstractmethod
    def generate_project(
        self,
        model_library_format_path: pathlib.Path,
        standalone_crt_dir: pathlib.Path,
        project_dir: pathlib.Path,
        options: dict,
    ) -> None:
        """Write a project for the model to ``project_dir``, which must not exist."""

    @abc.abstractmethod
    def build(self, options: dict) -> None:
        """Build the firmware."""

    @abc.abstractmethod
    def flash(self, options: dict) -> None:
        """Program the board with the built firmware."""

    @abc.abstractmethod
    def open_transport(self, options: dict) -> TransportTimeouts:
        """Open the byte stream to the board."""

    @abc.abstractmethod
    def close_transport(self) -> None:
        """Close it; nothing happens when it is not open."""

    @abc.abstractmethod
    def read_transport(self, n: int, timeout_sec: float | None) -> bytes:
        """1..n bytes; None waits for ever. TransportClosedError, IoTimeoutError."""

    @abc.abstractmethod
    def write_transport(self, data: bytes, timeout_sec: float | None) -> None:
        """Write all of ``data``. TransportClosedError, IoTimeoutError."""


class _Method(NamedTuple):
    """How a method's parameters and result differ from what travels; None: they do not."""

    decode: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    encode: Callable[[Any], Any] | None = None


def _decode_paths(params: dict[str, Any]) -> dict[str, Any]:
    paths = ("model_library_format_path", "standalone_crt_dir", "project_dir")
    return {k: pathlib.Path(v) if k in paths else v for k, v in params.items()}


def _decode_write(params: dict[str, Any]) -> dict[str, Any]:
    return params | {"data": base64.b85decode(params["data"])}


def _encode_info(info: ServerInfo) -> dict[str, Any]:
    options = [option._asdict() for option in info.project_options]
    return info._asdict() | {"project_options": options, "protocol_version": PROTOCOL_VERSION}


def _unchanged(value: Any) -> Any:
    return value


_METHODS = {
    "server_info_query": _Method(_unchanged, _encode_info),
    "generate_project": _Method(_decode_paths),
    "build": _Method(),
    "flash": _Method(),
    "open_transport": _Method(_unchanged, lambda timeouts: {"timeouts": timeouts._asdict()}),
    "close_transport": _Method(),
    "read_transport": _Method(
        _unchanged, lambda data: {"data": base64.b85encode(data).decode("ascii")}
    ),
    "write_transport": _Method(_decode_write),
}


class ProjectAPIServer:
    """Answers requests from ``read_file`` on ``write_file`` until the first one closes."""

    def __init__(
        self, read_file: BinaryIO, write_file: BinaryIO, handler: ProjectAPIHandler
    ) -> None:
        self._read_file, self._write_file, self._handler = read_file, write_file, handler

    def serve_forever(self) -> None:
        """Serve until the client is gone or sends something that is no request."""
        while self.serve_one_request():
            pass

    def serve_one_request(self) -> bool:
        """Serve one request; False when there will be no more."""
        try:
            line = self._read_file.readline()
            if not line:
                return False
            request = json.loads(line.decode("utf-8"))
        except (OSError, ValueError):
            _LOG.exception("Caught error reading request")
            return False
        try:
            return self._answer(request)
        except OSError:
            _LOG.error("the client closed its pipe before the reply")
            return False

    def _answer(self, request: Any) -> bool:
        problem = _what_is_wrong(request)
        if problem is not None:
            error = JSONRPCError(ErrorCode.INVALID_REQUEST, problem, None)
            self._reply(None, "error", error.to_json())
            return False
        try:
            result = self._call(request["method"], request["params"])
        except JSONRPCError as error:
            if isinstance(error, ServerError):
                error.add_traceback()
            self._reply(request["id"], "error", error.to_json())
        except Exception as error:
            _LOG.exception("error while calling method %s", request["method"])
            wrapped = ServerError.from_exception(error, f"calling method {request['method']}")
            self._reply(request["id"], "error", wrapped.to_json())
        else:
            self._reply(request["id"], "result", result)
        return True

    def _call(self, name: str, params: dict[str, Any]) -> Any:
        method = _METHODS.get(name)
        if method is None:
            raise JSONRPCError(ErrorCode.METHOD_NOT_FOUND, f"{name}: no such method", None)
        _check_params(name, params, checks_types=method.decode is None)
        if method.decode is not None:
            params = method.decode(params)
        result = getattr(self._handler, name)(**params)
        return result if method.encode is None else method.encode(result)

    def _reply(self, request_id: Any, kind: str, content: Any) -> None:
        # Built whole before a byte is sent: a result that is not JSON must not leave half a line.
        try:
            line = json.dumps({"jsonrpc": "2.0", "id": request_id, kind: content})
        except (TypeError, ValueError) as error:
            wrapped = ServerError.from_exception(error, "encoding the result")
            line = json.dumps({"jsonrpc": "2.0", "id": request_id, "error": wrapped.to_json()})
        self._write_file.write(line.encode("utf-8") + b"\n")
        self._write_file.flush()


def _what_is_wrong(request: Any) -> str | None:
    """What keeps ``request`` from being a JSON-RPC request; None when nothing does."""
    if not isinstance(request, dict):
        return "request: want an object"
    if request.get("jsonrpc") != "2.0":
        return 'request: want "jsonrpc": "2.0"'
    method = request.get("method")
    if not isinstance(method, str) or not re.fullmatch(r"[a-zA-Z0-9_]+", method):
        return "request: want a method name of letters, digits and underscores"
    if not isinstance(request.get("params"), dict):
        return "request: want params by name, as an object"
    if "id" not in request or not isinstance(request["id"], (str, int, type(None))):
        return "request: want an id that is a string, a number or null"
    return None


def _check_params(name: str, params: dict[str, Any], checks_types: bool) -> None:
    hints = get_type_hints(getattr(ProjectAPIHandler, name))
    hints.pop("return", None)
    for param, want in hints.items():
        if param not in params:
            message = f"method {name}: parameter {param} not given"
            raise JSONRPCError(ErrorCode.INVALID_PARAMS, message, None)
        if checks_types and not isinstance(params[param], want):
            message = f"method {name}: parameter {param}: want {want!r}, got {type(params[param])}"
            raise JSONRPCError(ErrorCode.INVALID_PARAMS, message, None)
    extra = [param for param in params if param not in hints]
    if extra:
        message = f"{name}: extra parameters: {', '.join(extra)}"
        raise JSONRPCError(ErrorCode.INVALID_PARAMS, message, None)


def _wait(fd: int, deadline: float | None, writes: bool) -> None:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    fds = ([], [fd]) if writes else ([fd], [])
    if not any(select.select(*fds, [], left)):
        raise IoTimeoutError()


def read_with_timeout(fd: int, n: int, timeout_sec: float | None) -> bytes:
    """1..n bytes of the non-blocking ``fd``; IoTimeoutError, or TransportClosedError at its end."""
    deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
    while True:
        _wait(fd, deadline, writes=False)
        try:
            data = os.read(fd, n)
        except BlockingIOError:
            continue
        except OSError:
            raise TransportClosedError() from None
        if not data:
            raise TransportClosedError()
        return data


def write_with_timeout(fd: int, data: bytes, timeout_sec: float | None) -> int:
    """Write all of ``data`` to the non-blocking ``fd``; the count. Errors as for reading."""
    deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
    written = 0
    while written < len(data):
        _wait(fd, deadline, writes=True)
        try:
            written += os.write(fd, data[written:])
        except BlockingIOError:
            continue
        except OSError:
            raise TransportClosedError() from None
    return written


def main(handler: ProjectAPIHandler, argv: list[str] | None = None) -> None:
    """Serve ``handler`` on the file descriptors given on the command line; logs go to stderr."""
    parser = argparse.ArgumentParser(description="Project API server")
    parser.add_argument("--read-fd", type=int, required=True, help="requests come from here")
    parser.add_argument("--write-fd", type=int, required=True, help="replies go here")
    parser.add_argument("--debug", action="store_true", help="log more")
    args = parser.parse_args(argv)
    logging.basicConfig(level="DEBUG" if args.debug else "INFO")
    with os.fdopen(args.read_fd, "rb") as read_file, os.fdopen(args.write_fd, "wb") as write_file:
        ProjectAPIServer(read_file, write_file, handler).serve_forever()
