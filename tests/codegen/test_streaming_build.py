"""Streaming from a torch module to linked firmware: ResNet-8 and small MobileNets."""

from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np
import pytest
import torch

from benchmarks.mobilenet_v1 import MobileNetV1
from benchmarks.random_weights import settle
from benchmarks.resnet8 import ResNet8
from relay_passes.evaluate import evaluate_integer
from relay_passes.row_geometry import module_rows, streamed_ram_model
from tvm_mpq.builder import build
from tvm_mpq.codegen.row_plan import plan_streamed, pooled_by_rows, row_graph
from tvm_mpq.deployment import Deployment
from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.frontends import from_torch
from tvm_mpq.memory.picture import arena_svg
from tvm_mpq.memory.stages import plan_stages
from tvm_mpq.micro import run_on_emulator, run_session
from tvm_mpq.micro.profiling import profile_on_emulator
from tvm_mpq.micro.transports import EmulatorTransport
from tvm_mpq.pipeline import CalibratedModel, calibrate, quantize
from tvm_mpq.quant.bit_search import paper_bit_plan, uniform_bit_plan
from tvm_mpq.quant.policies import SensitivityPolicy
from tvm_mpq.quant.sensitivity import DamageTable
from tvm_mpq.specs import InputSpec
from tvm_mpq.target import Target


def random_model(model: torch.nn.Module, size: int) -> CalibratedModel:
    settle(model, (3, size, size))
    module = from_torch(model, torch.zeros(1, 3, size, size))
    return calibrate(module, images(size), InputSpec(), "max")


def images(size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def resnet() -> CalibratedModel:
    torch.manual_seed(0)
    return random_model(ResNet8(), 32)


@pytest.fixture(scope="module")
def mobilenet() -> CalibratedModel:
    torch.manual_seed(0)
    return random_model(MobileNetV1(0.25, 32, 5), 32)


@pytest.fixture(scope="module")
def by_rows(mobilenet: CalibratedModel) -> Deployment:
    return build(mobilenet, "stm32h7", minimize="ram", input_buffer="rows")


@pytest.mark.null
@pytest.mark.parametrize("input_buffer", ["arena", "caller", "rows"])
@pytest.mark.parametrize("bits", [8, 4])
def test_the_search_plans_what_codegen_plans(
    resnet: CalibratedModel, input_buffer: str, bits: int
) -> None:
    """Rows of the float module = rows of the program, so the search's RAM is the linked one."""
    plan = uniform_bit_plan(resnet.layers, bits, 8)
    program = pooled_by_rows(quantize(resnet, plan, Target("stm32h7")).program)
    found = module_rows(resnet.module, plan.activations, input_buffer)
    assert found == row_graph(program, input_buffer)


@pytest.mark.null
def test_activations_are_cut_only_where_no_stage_helps(resnet: CalibratedModel) -> None:
    def widths(ram: int, input_buffer: str = "rows") -> str:
        model = streamed_ram_model(resnet.module, input_buffer, ram)
        plan = paper_bit_plan(resnet.layers, 1 << 20, ram, ram_model=model)
        assert plan.memory_model == "streamed"
        assert model(plan.activations)[0] <= ram
        return plan.activation_string(resnet.layers)

    assert set(widths(14_000)) == {"8"}
    assert "4" in widths(11_000)
    assert widths(60_000, "arena") == widths(14_000)
    with pytest.raises(DoesNotFitError, match=r"the activations do not fit the RAM: .*too few"):
        widths(3_000, "arena")


@pytest.mark.null
@pytest.mark.parametrize("ram", [14_000, 11_000])
def test_sensitivity_keeps_to_the_streamed_ram(
    resnet: CalibratedModel, ram: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {layer.y for layer in resnet.layers[:-1]}
    weights = {
        layer.name: {4: 1.0, 3: 1.5, 2: 2.0} for layer in resnet.layers if layer.weight_elements
    }
    damage = DamageTable(weights, {name: {4: 1.0, 2: 2.0} for name in tensors}, 0.0, 1)
    policy = SensitivityPolicy(resnet.layers, resnet.network, images(2))
    monkeypatch.setattr(policy, "_measured", lambda activations: damage)
    model = streamed_ram_model(resnet.module, "rows", ram)
    plan = policy.plan(1 << 20, ram, model)
    assert model(plan.activations)[0] <= ram
    assert set(plan.weights.values()) == {8}
    assert (min(plan.activations.values()) == 8) == (ram == 14_000)


@pytest.mark.cc
def test_resnet8_is_the_same_streamed(resnet: CalibratedModel) -> None:
    batch = images(32)
    expected = None
    for options in (
        {"memory_model": "linked"},
        {"minimize": "ram"},
        {"minimize": "ram", "input_buffer": "rows"},
    ):
        deployment = build(resnet, "host", **options)
        assert deployment.integer is not None
        if expected is None:
            module = deployment.integer.module
            expected = np.stack([evaluate_integer(module, image) for image in batch])
        assert (deployment.run(batch) == expected).all(), options
    assert deployment.description["input_buffer"] == "rows"


@pytest.mark.cc
def test_two_tensor_is_layer_by_layer(resnet: CalibratedModel) -> None:
    deployment = build(resnet, "host", memory_model="two-tensor")
    assert {layer["order"] for layer in deployment.description["layers"]} == {"whole"}
    with pytest.raises(InvalidValueError, match="needs memory_model 'streamed'"):
        build(resnet, "host", memory_model="linked", input_buffer="rows")
    with pytest.raises(InvalidValueError, match="input_buffer 'row': allowed are arena, caller"):
        build(resnet, "host", input_buffer="row")


@pytest.mark.emu
@pytest.mark.parametrize("chunk", [1 << 20, 40, 100])
def test_rows_come_over_the_serial_line(by_rows: Deployment, chunk: int) -> None:
    """Frames longer than a row, and frames that do not divide it."""
    batch = images(32)
    firmware = by_rows.firmware
    plan_rows = by_rows.description["stages"]
    assert int(plan_rows[-1][4]) == firmware.arena_bytes
    assert firmware.arena_bytes < batch[0].nbytes  # the image never exists
    transport = EmulatorTransport(firmware.elf)
    transport.chunk_bytes = chunk
    logits, _ = run_session(transport, firmware.output, batch.reshape(2, -1))
    assert (logits == by_rows.run(batch)).all()


class DamagingTransport(EmulatorTransport):
    """Flips, drops and repeats a byte now and then, both ways."""

    chunk_bytes = 64

    def read(self, n: int, timeout: float) -> bytes:
        return self._damage(super().read(n, timeout))

    def write(self, data: bytes, timeout: float) -> None:
        super().write(self._damage(data), timeout)

    def _damage(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            kind = self.random.randrange(1200)
            out += bytes([byte ^ 4] if kind == 0 else [] if kind == 1 else [byte])
            out += bytes([byte] if kind == 2 else [])
        # A silent answer would look like a device that waits.
        return bytes(out) or data


@pytest.mark.emu
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_damaged_rows_are_sent_again(by_rows: Deployment, seed: int) -> None:
    """A row is pushed once, and only when its check is right."""
    batch = images(32)
    transport = DamagingTransport(by_rows.firmware.elf)
    transport.random = random.Random(seed)  # type: ignore[attr-defined]
    logits, _ = run_session(transport, by_rows.firmware.output, batch.reshape(2, -1))
    assert (logits == by_rows.run(batch)).all()


@pytest.mark.emu
@pytest.mark.parametrize("input_buffer", ["arena", "caller"])
def test_streamed_firmware_equals_the_host(mobilenet: CalibratedModel, input_buffer: str) -> None:
    batch = images(32)
    linked = build(mobilenet, "stm32h7", memory_model="linked", input_buffer=input_buffer)
    streamed = build(mobilenet, "stm32h7", minimize="ram", input_buffer=input_buffer)
    assert (streamed.run(batch, on="emulator") == linked.run(batch)).all()
    assert streamed.firmware.arena_bytes < linked.firmware.arena_bytes
    assert int(streamed.description["stages"][-1][4]) == streamed.firmware.arena_bytes
    text = str(streamed.report())
    assert re.search(r"conv2d_\d+ +\d+ row by row", text)
    assert "Stages; image:" in text
    assert (streamed.folder / "arena.svg").read_text().startswith("<svg")


@pytest.mark.emu
def test_a_tight_budget_links_at_once(resnet: CalibratedModel) -> None:
    """The search knows the arena; what the application needs beside it, it learns by linking."""
    ample = build(resnet, "stm32h7")
    tight = build(resnet, "stm32h7 -ram=20kB")
    assert set(tight.description["bits"]["activations"]) == {"8"}
    assert tight.firmware.ram_bytes <= 20_000 < ample.firmware.ram_bytes


@pytest.mark.emu
@pytest.mark.parametrize("input_buffer", ["arena", "rows"])
def test_layers_of_a_stage_are_profiled_one_by_one(
    mobilenet: CalibratedModel, input_buffer: str
) -> None:
    """Every call counts for its own layer, also where layers share a kernel; nothing is lost."""
    deployment = build(mobilenet, "stm32h7", minimize="ram", input_buffer=input_buffer)
    firmware, layers = deployment.firmware, deployment.description.layers
    assert len({layer.symbol for layer in layers}) < len(layers)
    assert deployment.integer is not None
    plan = plan_streamed(deployment.integer.program, input_buffer, minimize="ram")
    shift = len(plan.graph.layers) - len(layers)
    planned = Counter(
        call.layer - shift
        for stage in range(len(plan.stages))
        for call in plan.calls(stage)
        if call.layer >= shift
    )
    called: Counter[int] = Counter()
    image = images(32)[:1]
    profile = profile_on_emulator(
        firmware, layers, image[0], on_layer=lambda index, _board: called.update([index])
    )
    assert called == planned and max(planned.values()) > 1
    entry = profile.cycles - sum(layer.cycles for layer in profile.layers)
    assert 0 < entry < 0.05 * profile.cycles
    _, (counted,) = run_on_emulator(firmware, image, cycles=True)
    assert abs(int(counted) - profile.cycles) < 100


@pytest.mark.emu
def test_bands_take_what_the_budget_leaves(mobilenet: CalibratedModel) -> None:
    """More rows a call need more RAM and fewer cycles; the search asks for single rows alone."""
    batch = images(32)
    tight = build(mobilenet, "stm32h7", minimize="ram", input_buffer="rows")
    ample = build(mobilenet, "stm32h7 -ram=12kB", input_buffer="rows")
    assert tight.firmware.ram_bytes < ample.firmware.ram_bytes <= 12_000
    assert ample.description["bits"] == tight.description["bits"]
    assert ample.profile().cycles < 0.9 * tight.profile().cycles
    assert (ample.run(batch, on="emulator") == tight.run(batch)).all()


@pytest.mark.null
def test_the_picture_shows_every_buffer(resnet: CalibratedModel) -> None:
    graph = module_rows(resnet.module, uniform_bit_plan(resnet.layers, 8, 8).activations)
    plan = plan_stages(graph, minimize="ram")
    picture = arena_svg(plan)
    for buffer in plan.arena.buffers:
        assert f"<title>{buffer.name}: {buffer.size:,} bytes" in picture
