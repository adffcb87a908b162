"""A Project API client, written from the protocol's description alone; shares no code with server.

Starts the server as microTVM does: two pipes, the project's folder as working directory.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class ReplyError(Exception):
    """An error reply: ``code``, ``message``, ``data``."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        assert set(error) == {"code", "message", "data"}
        self.code, self.message, self.data = error["code"], error["message"], error["data"]


class ConnectionShutdownError(Exception):
    """The server is gone."""


class Client:
    """One server process; ``env`` is added to its environment."""

    def __init__(self, project_dir: Path, **env: str) -> None:
        server_in, self._out = os.pipe()
        self._in, server_out = os.pipe()
        root = str(Path(__file__).parents[2])
        command = [sys.executable, str(project_dir / "microtvm_api_server.py")]
        command += ["--read-fd", str(server_in), "--write-fd", str(server_out)]
        self.process = subprocess.Popen(
            command,
            bufsize=0,
            pass_fds=(server_in, server_out),
            cwd=project_dir,
            env={**os.environ, "PYTHONPATH": root} | env,
            stderr=subprocess.PIPE,
        )
        os.close(server_in)
        os.close(server_out)
        self._replies = os.fdopen(self._in, "rb")
        self._next_id = 1

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        assert self.process.wait(10) is not None

    def hang_up(self) -> None:
        """Close the request pipe: the server ends by itself."""
        if self._out >= 0:
            os.close(self._out)
            self._out = -1

    def send_line(self, line: bytes) -> None:
        """Raw bytes as one request line."""
        try:
            os.write(self._out, line + b"\n")
        except BrokenPipeError:
            raise ConnectionShutdownError from None

    def receive(self) -> dict[str, Any]:
        """The next reply object."""
        line = self._replies.readline()
        if not line:
            raise ConnectionShutdownError
        assert line.endswith(b"\n")
        assert line.isascii()
        reply = json.loads(line)
        assert reply["jsonrpc"] == "2.0"
        assert ("result" in reply) != ("error" in reply)
        return reply  # type: ignore[no-any-return]

    def call(self, method: str, **params: Any) -> Any:
        """The result of ``method``; ReplyError on an error reply."""
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": self._next_id}
        self.send_line(json.dumps(request).encode())
        reply = self.receive()
        assert reply["id"] == self._next_id
        self._next_id += 1
        if "error" in reply:
            raise ReplyError(reply["error"])
        return reply["result"]

    def read(self, n: int, timeout_sec: float | None) -> bytes:
        """read_transport."""
        reply = self.call("read_transport", n=n, timeout_sec=timeout_sec)
        assert set(reply) == {"data"}
        return base64.b85decode(reply["data"])

    def write(self, data: bytes, timeout_sec: float | None = 5.0) -> None:
        """write_transport."""
        text = base64.b85encode(data).decode()
        assert self.call("write_transport", data=text, timeout_sec=timeout_sec) is None


class ApiTransport:
    """A ``tvm_mpq.micro.Transport`` through the server."""

    seconds_per_byte = 0.0
    counts = "cycles"
    chunk_bytes = 32
    is_idle = False

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, n: int, timeout: float) -> bytes:
        try:
            return self._client.read(n, timeout)
        except ReplyError as error:
            if error.message != "IoTimeoutError":
                raise
            return b""

    def write(self, data: bytes, timeout: float) -> None:
        self._client.write(data, timeout)

    def close(self) -> None:
        self._client.call("close_transport")
