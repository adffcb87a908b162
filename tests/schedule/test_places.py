"""Places that measure: the board model here, a layer as a network, boards at a tracker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.schedule.layers import candidates_of, depthwise, pointwise
from tvm_mpq.errors import BoardFaultError, InvalidValueError, ToolError
from tvm_mpq.kernels.tuned import LayerClass
from tvm_mpq.micro import single_layer
from tvm_mpq.micro.places import BoardPlace, EmulatorPlace, as_place
from tvm_mpq.micro.run import run_on_emulator
from tvm_mpq.micro.tracker import TrackerPlace, parse_address, serve
from tvm_mpq.micro.tuning import tune_layers

SPEC = candidates_of(pointwise())[0]


@pytest.mark.emu
def test_the_board_model_measures_what_a_layer_takes(tmp_path: Path) -> None:
    layer = single_layer.random_layer(SPEC)
    place = EmulatorPlace()
    place.build(layer, tmp_path)
    cycles = place.start(layer, tmp_path)()
    assert cycles == single_layer.measure(layer, tmp_path).cycles > SPEC.macs / 8


@pytest.mark.emu
def test_a_kernel_with_wrong_bits_is_no_result(tmp_path: Path) -> None:
    layer = single_layer.random_layer(SPEC)
    wrong = replace(layer, expected=layer.expected ^ 1)
    EmulatorPlace().build(layer, tmp_path)
    with pytest.raises(BoardFaultError, match=f"{SPEC.symbol} gives wrong bits"):
        EmulatorPlace().start(wrong, tmp_path)()


@pytest.mark.emu
def test_a_layer_as_a_network_of_its_own_gives_the_same_bits(tmp_path: Path) -> None:
    """What a Nucleo would run, on the board model: same outputs, about the same cycles."""
    layer = single_layer.random_layer(SPEC)
    BoardPlace().build(layer, tmp_path)
    firmware = single_layer.project_firmware(tmp_path)
    outputs, cycles = run_on_emulator(firmware, single_layer.project_inputs(layer), cycles=True)
    assert single_layer.is_exact(layer, outputs[1].tobytes())
    alone = single_layer.measure(layer, tmp_path).cycles
    # The entry point costs more, and the session leaves the caches otherwise.
    assert abs(int(cycles[1]) - alone) < 2000
    elf, request = BoardPlace().job(layer, tmp_path)
    assert elf[:4] == b"\x7fELF" and request["output_bytes"] == layer.spec.output.nbytes


@pytest.fixture(scope="module")
def tracker() -> Iterator[Any]:
    from tvm.rpc.tracker import Tracker

    running = Tracker(host="127.0.0.1", port=9190, port_end=9290, silent=True)
    yield running
    running.terminate()


@pytest.mark.emu
@pytest.mark.slow
def test_two_boards_share_the_work_and_one_may_die(tracker: Any, tmp_path: Path) -> None:
    address = f"127.0.0.1:{tracker.port}"
    command = [sys.executable, "-m", "tvm_mpq.micro.tracker", address]
    servers: list[Any] = [serve(address), subprocess.Popen(command, stdout=subprocess.PIPE)]
    try:
        assert servers[1].stdout.readline().startswith(b"serving emulator")
        place = as_place("emulator", address)
        assert isinstance(place, TrackerPlace)
        layers = [pointwise(), depthwise()]
        shared = tune_layers(layers, candidates_of, tmp_path / "two", place, trials=4)
        assert shared.measured == 8 and not shared.failures
        assert len(place.shares) == 2 and min(place.shares.values()) >= 2
        here = tune_layers(layers, candidates_of, tmp_path / "one", EmulatorPlace(), trials=4)
        assert shared.table.records == here.table.records

        # The second server is asked while it is still registered, and gone when work comes.
        with place:
            servers[1].terminate()
            survived = tune_layers([pointwise(16)], candidates_of, tmp_path / "d", place, trials=4)
        assert survived.measured == 4 and not survived.failures
        assert LayerClass.of(pointwise(16)) in survived.table.records

        servers[0].terminate()
        with pytest.raises(ToolError, match="no board under the key stm32h7-emulator"):
            tune_layers([pointwise(24)], candidates_of, tmp_path / "e", place, trials=2)
    finally:
        for server in servers:
            server.terminate()
        servers[1].wait(20)


@pytest.mark.null
def test_without_a_board_nothing_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(*_: object) -> None:
        raise ToolError("no ST-LINK found")

    monkeypatch.setattr("tvm_mpq.micro.board.find_port", none)
    with pytest.raises(ToolError, match="no ST-LINK"):
        tune_layers([pointwise()], candidates_of, tmp_path, as_place("board"), trials=2)


@pytest.mark.null
def test_a_tracker_that_is_not_there_is_named() -> None:
    with pytest.raises(ToolError, match="127.0.0.1:1 does not answer.*rpc_tracker"):
        as_place("emulator", "127.0.0.1:1").__enter__()


@pytest.mark.null
@pytest.mark.parametrize("text", ["9190", "host:", ":9190", "host:abc"])
def test_addresses(text: str) -> None:
    assert parse_address("10.0.0.1:9190") == ("10.0.0.1", 9190)
    with pytest.raises(InvalidValueError, match="expected HOST:PORT"):
        parse_address(text)


@pytest.mark.null
def test_places_have_names() -> None:
    with pytest.raises(InvalidValueError, match="tune on 'moon': allowed are 'emulator', 'board'"):
        as_place("moon")
    with pytest.raises(InvalidValueError, match="serve 'moon'"):
        serve("127.0.0.1:9190", on="moon")


@pytest.mark.null
def test_random_layers_are_the_same_every_time() -> None:
    one, two = (single_layer.random_layer(SPEC) for _ in range(2))
    assert np.array_equal(one.x, two.x) and np.array_equal(one.expected, two.expected)
