"""This project's side of microTVM's Project API: generate, build, flash, open a transport.

The transport carries the bytes of the framed serial protocol (src/protocol.h), to the Nucleo or to
the emulated board. The work is done by the package tvm_mpq, which the interpreter must have; a
client that runs under another one names it in the environment variable TVM_MPQ_PYTHON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import server

if TYPE_CHECKING:
    from tvm_mpq.micro import Transport
    from tvm_mpq.target import Target

HERE = Path(__file__).resolve().parent
MODEL_ARCHIVE = HERE / "model.tar"
BOARDS = tuple(json.loads((HERE / "boards.json").read_text()))
PLATFORM = "stm32h7"
_LOG = logging.getLogger(__name__)
_INTERPRETER = "TVM_MPQ_PYTHON"
_ALL = ["generate_project", "build", "flash", "open_transport"]

OPTIONS = [
    server.ProjectOption(
        "verbose", optional=_ALL, type="bool", default=False, help="log what is done to stderr"
    ),
    server.ProjectOption(
        "project_type",
        choices=("framed_serial",),
        optional=["generate_project"],
        type="str",
        default="framed_serial",
        help="the application: inference over the framed serial protocol",
    ),
    server.ProjectOption(
        "board",
        choices=BOARDS,
        required=["generate_project", "flash", "open_transport"],
        type="str",
        help="where the firmware runs",
    ),
    server.ProjectOption(
        "flash_budget", optional=["generate_project"], type="str", help="bytes of flash, as 2MB"
    ),
    server.ProjectOption(
        "ram_budget", optional=["generate_project"], type="str", help="bytes of RAM, as 512kB"
    ),
    server.ProjectOption(
        "scratch_limit", optional=["generate_project"], type="str", help="bytes of kernel scratch"
    ),
    server.ProjectOption(
        "stack_size", optional=["generate_project"], type="str", help="bytes of call stack"
    ),
    server.ProjectOption(
        "clock_mhz",
        choices=("400", "480"),
        optional=["generate_project"],
        type="int",
        default=400,
        help="core clock; 480 needs revision V silicon",
    ),
    server.ProjectOption(
        "build_timeout_sec", optional=["build"], type="int", default=600, help="limit of a build"
    ),
    server.ProjectOption(
        "flash_tool",
        choices=("pyocd", "openocd", "st-flash"),
        optional=["flash"],
        type="str",
        default="pyocd",
        help="program that writes the flash",
    ),
    server.ProjectOption(
        "serial_number",
        optional=["flash", "open_transport"],
        type="str",
        help="the ST-LINK, where several are connected",
    ),
    server.ProjectOption(
        "port",
        optional=["open_transport"],
        type="str",
        help="serial port; found by its USB id when not given",
    ),
    server.ProjectOption(
        "emulator_cycles",
        optional=["open_transport"],
        type="bool",
        default=False,
        help="model cycles on the emulator (slower)",
    ),
]


class Handler(server.ProjectAPIHandler):
    """A template while ``model.tar`` is absent beside this file, a generated project after."""

    def __init__(self) -> None:
        self._transport: Transport | None = None

    def server_info_query(self, tvm_version: str) -> server.ServerInfo:
        """Works with any client: nothing here depends on the client's TVM."""
        is_template = not MODEL_ARCHIVE.exists()
        archive = "" if is_template else str(MODEL_ARCHIVE)
        return server.ServerInfo(PLATFORM, is_template, archive, OPTIONS)

    def generate_project(
        self,
        model_library_format_path: Path,
        standalone_crt_dir: Path,
        project_dir: Path,
        options: dict[str, Any],
    ) -> None:
        """The CRT is not used: the generated library calls no runtime."""
        if MODEL_ARCHIVE.exists():
            raise server.ServerError(
                "generate_project: this is a generated project; ask the template's server"
            )
        values = read_options(options, "generate_project")
        with our_errors():
            from tvm_mpq.micro import generate_project

            generate_project(
                model_library_format_path, project_dir, _target(values), values["clock_mhz"]
            )

    def build(self, options: dict[str, Any]) -> None:
        """Build, and check every budget."""
        values = read_options(options, "build")
        with our_errors():
            firmware = _project().build(timeout=values["build_timeout_sec"])
        _LOG.debug("flash %d bytes, ram %d bytes", firmware.flash_bytes, firmware.ram_bytes)

    def flash(self, options: dict[str, Any]) -> None:
        """Program the Nucleo; for the emulator it is enough that the firmware exists."""
        values = read_options(options, "flash")
        with our_errors():
            firmware = _project().firmware()
            if values["board"] == "nucleo_h743zi":
                from tvm_mpq.micro.board import flash

                flash(
                    firmware.elf, tool=values["flash_tool"], serial_number=values["serial_number"]
                )

    def open_transport(self, options: dict[str, Any]) -> server.TransportTimeouts:
        """Open the serial line; an open one is closed first."""
        values = read_options(options, "open_transport")
        self.close_transport()
        with our_errors():
            if values["board"] == "emulator":
                from tvm_mpq.micro import EmulatorTransport

                elf = _project().firmware().elf
                cycles = values["emulator_cycles"]
                self._transport = EmulatorTransport(elf, is_patient=False, cycles=cycles)
                return server.TransportTimeouts(2.0, 30.0, 60.0)
            from tvm_mpq.micro import SerialTransport
            from tvm_mpq.micro.board import find_port

            port = values["port"] or find_port(values["serial_number"]).device
            self._transport = SerialTransport(port)
            return server.TransportTimeouts(2.0, 5.0, 5.0)

    def close_transport(self) -> None:
        """Close the line."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def read_transport(self, n: int, timeout_sec: float | None) -> bytes:
        """1..n bytes from the board."""
        transport = self._open_line()
        deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
        while True:
            left = 1.0 if deadline is None else max(0.0, deadline - time.monotonic())
            with our_errors():
                data = transport.read(n, min(left, 1.0))
            if data:
                return data
            # A board that waits for us sends nothing, and this client cannot write while it reads.
            if transport.is_idle or (deadline is not None and time.monotonic() >= deadline):
                raise server.IoTimeoutError()

    def write_transport(self, data: bytes, timeout_sec: float | None) -> None:
        """All of ``data`` to the board."""
        # The serial driver wants a number; a day stands for "for ever".
        seconds = 86400.0 if timeout_sec is None else timeout_sec
        transport = self._open_line()
        with our_errors():
            transport.write(data, seconds)

    def _open_line(self) -> Transport:
        if self._transport is None:
            raise server.TransportClosedError()
        return self._transport


@contextmanager
def our_errors() -> Iterator[None]:
    """Turns the package's own errors into replies that carry their text as the message."""
    try:
        from tvm_mpq.errors import MpqError
    except ModuleNotFoundError:
        raise server.ServerError(
            f"{sys.executable} has no package tvm_mpq: install it there, or set {_INTERPRETER} to"
            " the interpreter that has it"
        ) from None
    from tvm_mpq.micro.transports import TransportEndedError, TransportTimeoutError

    try:
        yield
    except TransportEndedError:
        raise server.TransportClosedError() from None
    except TransportTimeoutError:
        raise server.IoTimeoutError() from None
    except MpqError as error:
        raise server.ServerError(str(error)) from error


def read_options(options: dict[str, Any], method: str) -> dict[str, Any]:
    """Every option's value as its own type: tvmc sends all of them as strings."""
    known = {option.name: option for option in OPTIONS}
    unknown = [name for name in options if name not in known]
    if unknown:
        raise server.ServerError(
            f"unknown option {', '.join(unknown)}; allowed are {', '.join(known)}"
        )
    values = {}
    for name, option in known.items():
        value = options.get(name)
        if value is None or value == "":
            if method in (option.required or []):
                raise server.ServerError(f"{method}: option {name} is required: {option.help}")
            values[name] = option.default
        else:
            values[name] = _value(option, value)
    logging.getLogger().setLevel(logging.DEBUG if values["verbose"] else logging.INFO)
    _LOG.debug("%s with %s", method, values)
    return values


def _value(option: server.ProjectOption, value: Any) -> Any:
    readers: dict[str, Callable[[str], Any]] = {
        "bool": lambda text: {"true": True, "false": False}[text.lower()],
        "int": int,
        "str": str,
    }
    try:
        result = readers[option.type](str(value))
    except (KeyError, ValueError):
        raise server.ServerError(
            f"option {option.name}: {value!r} is no {option.type}; {option.help}"
        ) from None
    if option.choices is not None and str(result) not in option.choices:
        raise server.ServerError(
            f"option {option.name}: {value!r}; allowed are {', '.join(option.choices)}"
        )
    return result


def _target(values: dict[str, Any]) -> Target:
    from tvm_mpq.target import Target

    fields = {
        "flash": values["flash_budget"],
        "ram": values["ram_budget"],
        "scratch": values["scratch_limit"],
        "stack": values["stack_size"],
    }
    return Target(PLATFORM, **{k: _size(v) for k, v in fields.items() if v is not None})


def _size(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _project() -> Any:
    from tvm_mpq.micro import Project

    if not MODEL_ARCHIVE.exists():
        raise server.ServerError("this is the template: generate a project first")
    return Project.open(HERE)


def _use_named_interpreter() -> None:
    wanted = os.environ.pop(_INTERPRETER, "")
    if wanted and Path(wanted) != Path(sys.executable):
        os.execv(wanted, [wanted, *sys.argv])


if __name__ == "__main__":
    _use_named_interpreter()
    logging.captureWarnings(True)
    server.main(Handler())
