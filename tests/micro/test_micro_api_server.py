"""The Project API over real pipes: every method, every error reply, a server that dies."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_client import ApiTransport, Client, ConnectionShutdownError, ReplyError
from fake_library import INPUTS, FakeLibrary

from tvm_mpq.micro import Firmware, Project, Session
from tvm_mpq.micro.project import template_folder

SERVER_ERROR, INVALID_REQUEST = -32000, -32600
METHOD_NOT_FOUND, INVALID_PARAMS = -32601, -32602
EMULATOR = {"board": "emulator"}


@pytest.fixture()
def template() -> Iterator[Client]:
    with Client(template_folder()) as client:
        yield client


@pytest.fixture()
def generated(project: Project, firmware: Firmware) -> Iterator[Client]:
    with Client(project.folder) as client:
        yield client


def error_of(client: Client, method: str, **params: Any) -> ReplyError:
    with pytest.raises(ReplyError) as info:
        client.call(method, **params)
    return info.value


def test_template_describes_itself(template: Client) -> None:
    info = template.call("server_info_query", tvm_version="0.18.0")
    assert set(info) == {
        "platform_name", "is_template", "model_library_format_path", "project_options",
        "protocol_version",
    }  # fmt: skip
    assert info["platform_name"] == "stm32h7"
    assert info["is_template"] is True
    assert info["model_library_format_path"] == ""
    assert info["protocol_version"] == 1
    fields = {"name", "choices", "default", "type", "required", "optional", "help"}
    for option in info["project_options"]:
        assert set(option) == fields
        assert option["type"] in ("bool", "int", "str")
        assert option["required"] or option["optional"]
    assert {"verbose", "project_type", "board"} <= {o["name"] for o in info["project_options"]}


def test_whole_way_from_template_to_result(
    template: Client, tmp_path: Path, project: Project, arm_gcc: None
) -> None:
    archive = tmp_path / "model.tar"
    archive.write_bytes((project.folder / "model.tar").read_bytes())
    options = {"board": "emulator", "flash_budget": "1MB", "ram_budget": "65536"}
    target_dir = tmp_path / "generated"
    template.call(
        "generate_project",
        model_library_format_path=str(archive),
        standalone_crt_dir=str(tmp_path / "unused"),
        project_dir=str(target_dir),
        options=options,
    )
    archive.unlink()  # the caller may delete it
    with Client(target_dir) as client:
        info = client.call("server_info_query", tvm_version="x")
        assert info["is_template"] is False
        assert info["model_library_format_path"] == str(target_dir / "model.tar")
        assert client.call("build", options=options) is None
        assert client.call("flash", options=options) is None
        timeouts = client.call("open_transport", options=options)["timeouts"]
        assert set(timeouts) == {
            "session_start_retry_timeout_sec",
            "session_start_timeout_sec",
            "session_established_timeout_sec",
        }
        assert all(value > 0 for value in timeouts.values())
        transport = ApiTransport(client)
        session = Session(transport)
        row = np.arange(INPUTS, dtype=np.uint8)
        result = session.run(row.tobytes())
        assert result.data == FakeLibrary().reference(row[None]).tobytes()
        assert client.call("close_transport") is None
    assert Project.open(target_dir).target.flash == 1024000


def test_transport_timeouts_and_closing(generated: Client) -> None:
    assert error_of(generated, "read_transport", n=1, timeout_sec=0).message == (
        "TransportClosedError"
    )
    assert error_of(generated, "write_transport", data="", timeout_sec=0).message == (
        "TransportClosedError"
    )
    assert generated.call("close_transport") is None
    generated.call("open_transport", options=EMULATOR)
    error = error_of(generated, "read_transport", n=10, timeout_sec=0.2)
    assert (error.code, error.message) == (SERVER_ERROR, "IoTimeoutError")
    assert error_of(generated, "read_transport", n=10, timeout_sec=None).message == "IoTimeoutError"
    session = Session(ApiTransport(generated))
    assert session.hello().model_name == "default"
    session.end()
    closed = error_of(generated, "read_transport", n=10, timeout_sec=1)
    assert closed.message == "TransportClosedError"
    generated.call("open_transport", options=EMULATOR)  # a fresh board
    assert Session(ApiTransport(generated)).hello().input_bytes == INPUTS


def test_reads_return_at_most_n_bytes(generated: Client) -> None:
    from tvm_mpq.micro.frames import Frame, FrameType, encode

    generated.call("open_transport", options=EMULATOR)
    generated.write(encode(Frame(FrameType.HELLO, 1)))
    assert generated.read(4, 5.0) == b"MPQ1"
    assert len(generated.read(3, 5.0)) == 3


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b'{"method": "build", "params": {}, "id": 1}',
        b'{"jsonrpc": "1.0", "method": "build", "params": {}, "id": 1}',
        b'{"jsonrpc": "2.0", "method": "no-dashes", "params": {}, "id": 1}',
        b'{"jsonrpc": "2.0", "method": 3, "params": {}, "id": 1}',
        b'{"jsonrpc": "2.0", "method": "build", "params": [], "id": 1}',
        b'{"jsonrpc": "2.0", "method": "build", "params": {}}',
        b'{"jsonrpc": "2.0", "method": "build", "params": {}, "id": 1.5}',
    ],
)
def test_invalid_request_is_answered_and_ends_the_server(template: Client, line: bytes) -> None:
    template.send_line(line)
    reply = template.receive()
    assert reply["id"] is None
    assert (reply["error"]["code"], reply["error"]["data"]) == (INVALID_REQUEST, None)
    with pytest.raises(ConnectionShutdownError):
        template.receive()
    assert template.process.wait(10) == 0


@pytest.mark.parametrize("line", [b"no json", b"\xff\xfe", b'{"half": '])
def test_a_line_that_is_no_json_ends_the_server_without_reply(
    template: Client, line: bytes
) -> None:
    template.send_line(line)
    with pytest.raises(ConnectionShutdownError):
        template.receive()
    assert template.process.stderr is not None
    assert b"Caught error reading request" in template.process.stderr.read()


def test_unknown_methods(template: Client) -> None:
    for method in ("nonsense", "__init__"):
        error = error_of(template, method)
        assert (error.code, error.message) == (METHOD_NOT_FOUND, f"{method}: no such method")


def test_parameter_errors(template: Client) -> None:
    error = error_of(template, "build")
    assert (error.code, error.message) == (
        INVALID_PARAMS,
        "method build: parameter options not given",
    )
    error = error_of(template, "close_transport", a=1, b=2)
    assert (error.code, error.message) == (
        INVALID_PARAMS,
        "close_transport: extra parameters: a, b",
    )
    error = error_of(template, "flash", options="text")
    assert error.code == INVALID_PARAMS
    assert error.message.startswith("method flash: parameter options: want <class 'dict'>, got ")
    assert template.call("close_transport") is None  # it still serves


def test_other_exceptions_carry_a_traceback(template: Client) -> None:
    error = error_of(template, "write_transport", data='not base85 "', timeout_sec=1)
    assert (error.code, error.message) == (SERVER_ERROR, "calling method write_transport")
    assert "ValueError" in error.data["traceback"]
    assert "# <--- Outermost server-side stack frame" in error.data["traceback"]


def test_handler_errors_name_the_cause(
    template: Client, generated: Client, tmp_path: Path, project: Project
) -> None:
    error = error_of(template, "build", options=EMULATOR)
    assert error.message == "this is the template: generate a project first"
    assert "traceback" in error.data
    params = {
        "model_library_format_path": str(project.folder / "model.tar"),
        "standalone_crt_dir": "",
        "project_dir": str(tmp_path / "p"),
    }
    for options, message in [
        ({}, "generate_project: option board is required: where the firmware runs"),
        ({"board": "toaster"}, "option board: 'toaster'; allowed are emulator, nucleo_h743zi"),
        ({"board": "emulator", "colour": 1}, "unknown option colour; allowed are verbose, "),
        ({"board": "emulator", "verbose": "maybe"}, "option verbose: 'maybe' is no bool"),
        ({"board": "emulator", "clock_mhz": "fast"}, "option clock_mhz: 'fast' is no int"),
        ({"board": "emulator", "flash_budget": "3MB"}, "flash budget 3MB is 3072000 bytes"),
    ]:
        error = error_of(template, "generate_project", options=options, **params)
        assert message in error.message
    assert not (tmp_path / "p").exists()
    error = error_of(generated, "generate_project", options=EMULATOR, **params)
    assert "this is a generated project" in error.message


def test_a_project_that_does_not_fit_says_so(template: Client, tmp_path: Path) -> None:
    from tvm_mpq.codegen.archive import pack_library

    pack_library(FakeLibrary().write(tmp_path / "lib"), tmp_path / "m.tar")
    options = {"board": "emulator", "ram_budget": "4000", "verbose": "true", "clock_mhz": "480"}
    template.call(
        "generate_project",
        model_library_format_path=str(tmp_path / "m.tar"),
        standalone_crt_dir="",
        project_dir=str(tmp_path / "p"),
        options=options,
    )
    with Client(tmp_path / "p") as client:
        message = error_of(client, "build", options=options).message
        assert "ram budget" in message
        assert "4000 allowed" in message
        assert "not built yet" in error_of(client, "flash", options=options).message
        client.hang_up()
        assert client.process.stderr is not None
        log = client.process.stderr.read()
        assert b"build with {'verbose': True" in log


def test_no_board_is_a_named_error(generated: Client) -> None:
    options = {"board": "nucleo_h743zi", "port": "/dev/does-not-exist"}
    assert "/dev/does-not-exist" in error_of(generated, "open_transport", options=options).message


def test_a_killed_server_is_an_end_of_file(template: Client) -> None:
    template.process.send_signal(signal.SIGKILL)
    template.process.wait(10)
    with pytest.raises((ConnectionShutdownError, AssertionError)):
        template.call("close_transport")


def test_a_client_that_hangs_up_ends_the_server(template: Client) -> None:
    template.hang_up()
    assert template.process.wait(10) == 0


def test_another_interpreter_can_be_named(tmp_path: Path) -> None:
    marker = tmp_path / "used"
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\ntouch {marker}\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    with Client(template_folder(), TVM_MPQ_PYTHON=str(wrapper)) as client:
        assert client.call("server_info_query", tvm_version="")["is_template"]
    assert marker.exists()


def test_server_needs_only_the_standard_library(template: Client) -> None:
    reads = os.popen(
        f'{sys.executable} -S -c \'import sys; sys.path.insert(0, "{template_folder()}");'
        " import server; print(server.PROTOCOL_VERSION)'"
    ).read()
    assert json.loads(reads) == 1


pytestmark = pytest.mark.emu
