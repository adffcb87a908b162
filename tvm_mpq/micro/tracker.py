"""Many boards at one TVM RPC tracker: a server for each board, and the place that uses them all.

    python -m tvm.exec.rpc_tracker --host 127.0.0.1 --port 9190
    python -m tvm_mpq.micro.tracker 127.0.0.1:9190 [--on board --serial NUMBER]
    tvm-mpq tune OUT --tracker 127.0.0.1:9190

RPC runs whatever code it is sent and knows no passwords: bind to loopback, or to a network that you
trust. A server runs one session at a time; that queue is the lock of its board.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from tvm_mpq.errors import BoardFaultError, InvalidValueError, ToolError
from tvm_mpq.files import temporary_folder
from tvm_mpq.kernels.layout import pack_map
from tvm_mpq.micro.places import EmulatorPlace, Place, checked_cycles
from tvm_mpq.micro.single_layer import ELF, RUN_TIMEOUT, Layer, is_exact, run_elf
from tvm_mpq.toolchain import require_packages, require_tool

# What servers register as: boards under the chip's name, board models under one of their own.
KEYS = {"board": "stm32h7", "emulator": "stm32h7-emulator"}
LOOPBACK = "127.0.0.1"
_FUNCTION = "tvm_mpq.run_layer"
_HEADER = struct.Struct("<qI")
_TRIES = 3
_CONNECT_TIMEOUT = 5.0
_PORTS = (9300, 9400)


def parse_address(text: str) -> tuple[str, int]:
    """("host", port) of "host:port"."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidValueError(f"tracker {text!r}: expected HOST:PORT, for example 127.0.0.1:9190")
    return host, int(port)


class TrackerPlace:
    """All boards of a tracker. Firmware is built here; a board that dies loses its turn only.

    ``shares``: how many candidates each server measured, by its process.
    """

    def __init__(self, here: EmulatorPlace, address: str) -> None:
        self._here = here
        self._host, self._port = parse_address(address)
        self.name, self.model = here.name, here.model
        self.batch = 2
        self.shares: Counter[int] = Counter()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Place:
        require_tool("arm-none-eabi-gcc")
        count = self._boards()
        self.batch = 2 * count
        self._pool = ThreadPoolExecutor(count)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def build(self, layer: Layer, folder: Path) -> None:
        """See Place."""
        self._here.build(layer, folder)

    def start(self, layer: Layer, folder: Path) -> Callable[[], int]:
        """See Place."""
        assert self._pool is not None
        elf, request = self._here.job(layer, folder)
        future = self._pool.submit(self._run, layer, elf, request)
        return lambda: self._wait(future)

    def _wait(self, future: Future[int]) -> int:
        patience = _TRIES * RUN_TIMEOUT
        if not wait([future], patience).done:
            raise BoardFaultError(f"no board took the layer within {patience:g} s")
        return future.result()

    def _run(self, layer: Layer, elf: bytes, request: dict[str, Any]) -> int:
        data = pack_map(layer.x, layer.spec.x).tobytes()
        for attempt in range(_TRIES):
            self._boards()
            try:
                answer = self._call(elf, data, json.dumps(request))
                break
            except (BoardFaultError, InvalidValueError):
                raise
            except Exception as error:  # TVM's RPC errors share no class
                if attempt + 1 == _TRIES:
                    raise BoardFaultError(f"no board answers ({_last_line(error)})") from None
                time.sleep(0.5)
        cycles, server = _HEADER.unpack_from(answer)
        self.shares[server] += 1
        return checked_cycles(layer, cycles, is_exact(layer, answer[_HEADER.size :]))

    def _call(self, elf: bytes, data: bytes, request: str) -> bytes:
        from tvm import rpc

        tracker = rpc.connect_tracker(self._host, self._port)
        session = tracker.request(self._key, session_timeout=RUN_TIMEOUT)
        answer = bytes(session.get_function(_FUNCTION)(elf, data, request))
        del session
        if answer[:1] == b"!":
            raise BoardFaultError(answer[1:].decode())
        return answer[1:]

    @property
    def _key(self) -> str:
        return KEYS[self._here.name]

    def _boards(self) -> int:
        """How many boards there are. ToolError when none is: a request would wait for ever."""
        require_packages("tracker")
        from tvm import rpc

        try:
            # TVM itself would try for a minute.
            socket.create_connection((self._host, self._port), _CONNECT_TIMEOUT).close()
            summary = rpc.connect_tracker(self._host, self._port).summary()
        except Exception as error:  # as above
            raise ToolError(
                f"tracker {self._host}:{self._port} does not answer ({_last_line(error)});"
                f" start it with: python -m tvm.exec.rpc_tracker --host {LOOPBACK}"
            ) from None
        count = sum(info["key"] == f"server:{self._key}" for info in summary["server_info"])
        if count == 0:
            raise ToolError(
                f"tracker {self._host}:{self._port} has no board under the key {self._key};"
                " register one with: python -m tvm_mpq.micro.tracker HOST:PORT"
            )
        return count


def serve(
    address: str, on: str = "emulator", serial_number: str | None = None, host: str = LOOPBACK
) -> Any:
    """A server for one board, registered at the tracker "host:port"; ``terminate()`` ends it.

    Parameters
    ----------
    on: "emulator", the board model, or "board", the Nucleo whose ST-LINK has ``serial_number``.
    host: the interface to listen on.
    """
    require_packages("tracker")
    from tvm import rpc

    if on not in KEYS:
        raise InvalidValueError(f"serve {on!r}: allowed are {', '.join(map(repr, KEYS))}")
    first, last = _PORTS
    return rpc.Server(
        host=host,
        port=first,
        port_end=last,
        key=KEYS[on],
        tracker_addr=parse_address(address),
        server_init_callback=_Registration(serial_number),
        silent=True,
    )


class _Registration:
    """Runs in the server's process before it listens: makes the board known to RPC."""

    def __init__(self, serial_number: str | None) -> None:
        self._serial_number = serial_number

    def __call__(self) -> None:
        import tvm_ffi

        def run_layer(elf: Any, data: Any, request: str) -> bytes:
            try:
                return b"=" + _measure(bytes(elf), bytes(data), request, self._serial_number)
            except Exception as error:  # RPC would lose its class: say it in words
                return f"!{error}".encode()

        tvm_ffi.register_global_func(_FUNCTION, run_layer, override=True)


def _measure(elf: bytes, data: bytes, request: str, serial_number: str | None) -> bytes:
    """Cycles of the second run and the server's process, then the bytes of the output map."""
    server = os.getppid()  # a session is a child of its server
    options = json.loads(request)
    with temporary_folder("rpc") as folder:
        path = Path(folder) / ELF
        path.write_bytes(elf)
        if options["on"] == "emulator":
            found = run_elf(path, data)
            return _HEADER.pack(found.cycles, server) + found.output
        from tvm_mpq.micro.board import find_port, flash
        from tvm_mpq.micro.library import TensorInfo
        from tvm_mpq.micro.run import run_session
        from tvm_mpq.micro.transports import SerialTransport

        flash(path, serial_number=serial_number)
        transport = SerialTransport(find_port(serial_number).device)
        inputs = np.stack([np.frombuffer(data, np.uint8)] * 2)
        output = TensorInfo("y", options["output_bytes"], "uint8")
        outputs, cycles = run_session(transport, output, inputs, run_timeout=RUN_TIMEOUT, elf=path)
        return _HEADER.pack(int(cycles[-1]), server) + outputs[-1].tobytes()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]


def main() -> None:
    """Serve one board until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Offer one board to a TVM RPC tracker")
    parser.add_argument("tracker", help="HOST:PORT")
    parser.add_argument("--on", default="emulator", choices=sorted(KEYS))
    parser.add_argument("--serial", help="ST-LINK serial number, with several boards")
    parser.add_argument("--host", default=LOOPBACK, help="interface to listen on")
    arguments = parser.parse_args()
    # The server's process would live on without its parent.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = serve(arguments.tracker, arguments.on, arguments.serial, arguments.host)
    print(f"serving {arguments.on} to {arguments.tracker}", flush=True)
    try:
        server.proc.join()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()


if __name__ == "__main__":
    # What a server's process is sent must come from a module that it can import.
    from tvm_mpq.micro import tracker

    tracker.main()
