"""Retraining on another device, in replicas and in other types: the same program, or a message."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.quant.elsewhere import DEVICES, Elsewhere
from tests.quant.networks import images, plan_of, small_network
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant import training
from tvm_mpq.quant.float_network import FloatTeacher
from tvm_mpq.quant.integer_network import run_batches
from tvm_mpq.quant.qat import QatNetwork, convert, prepare
from tvm_mpq.quant.reconstruct import ReconstructionOptions, reconstruct
from tvm_mpq.quant.result import QuantizationResult
from tvm_mpq.quant.training import Recipe, fit

pytestmark = pytest.mark.null
NETWORK = small_network()
IMAGES = images(16, 1)


PLAN = plan_of(NETWORK, 4, 4)
MODES = ("min_max", "learned_range", "on_grid", "first layers")


@cache
def reconstruction(until: str | None) -> QuantizationResult:
    options = ReconstructionOptions(search=False)
    return reconstruct(NETWORK, PLAN, IMAGES, options, until=until)


def model_of(mode: str) -> QatNetwork:
    if mode in ("min_max", "learned_range"):
        return prepare(NETWORK, PLAN, mode=mode)
    return prepare(NETWORK, PLAN, reconstruction("p2" if mode == "first layers" else None))


def test_the_device_of_the_tests_is_another_one() -> None:
    with Elsewhere():
        far = torch.ones(3).to(DEVICES[0])
        for other in (torch.ones(3), torch.ones(3).to(DEVICES[1])):
            with pytest.raises(RuntimeError, match="tensors on"):
                far + other
        with pytest.raises(RuntimeError, match="numpy"):
            far.numpy()
        assert (far * 2).cpu().numpy().tolist() == [2, 2, 2]


@pytest.mark.parametrize("mode", MODES)
def test_trained_and_converted_on_another_device(mode: str) -> None:
    model, data = model_of(mode), torch.from_numpy(IMAGES)
    near, wanted = model(data), model.result().digest()
    with Elsewhere():
        model.to(DEVICES[0])
        far = model(data.to(DEVICES[0]))
        assert far.device == DEVICES[0] and torch.equal(far.cpu(), near)
        far.square().mean().backward()
        assert all(p.grad is not None for p in model.parameters())
        assert model.result().digest() == wanted
        if mode != "first layers":
            integer = convert(model)
            known = run_batches(integer, IMAGES)
            assert np.array_equal(run_batches(integer.to(DEVICES[1]), IMAGES), known)


def test_the_float_network_on_another_device() -> None:
    teacher = FloatTeacher(NETWORK)
    near = run_batches(teacher, IMAGES)
    with Elsewhere():
        assert np.array_equal(run_batches(teacher.to(DEVICES[0]), IMAGES), near)


def test_replicas_on_two_devices_share_no_float_layers() -> None:
    """As DataParallel does: replicas share plain attributes and run at the same time."""
    model, data = model_of("first layers"), torch.from_numpy(IMAGES)
    near, found, errors = model(data), {}, []

    def run(device: torch.device) -> None:
        try:
            with Elsewhere(), torch.no_grad():
                replica = model._replicate_for_data_parallel()
                replica.layers, replica.quantizers = (
                    _copied(part, device) for part in (model.layers, model.quantizers)
                )
                for _ in range(10):
                    found[device] = replica(data.to(device)).cpu()
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(device,)) for device in DEVICES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(torch.equal(found[device], near) for device in DEVICES)


def _copied(modules: nn.ModuleDict, device: torch.device) -> nn.ModuleDict:
    return copy.deepcopy(modules).to(device)


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.double, nn.Module.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_other_types_say_so(mode: str, change: Callable[[nn.Module], nn.Module]) -> None:
    model = model_of(mode)
    change(model)
    with pytest.raises(InvalidValueError, match=r"layer c0: its weights.*model.float\(\) first"):
        model(torch.from_numpy(IMAGES))
    with pytest.raises(InvalidValueError, match=r"layer c0: .* call model.float\(\) first"):
        convert(model)
    model.float()
    assert model(torch.from_numpy(IMAGES)).isfinite().all()


def test_other_types_of_teacher_and_program_say_so() -> None:
    teacher, program = FloatTeacher(NETWORK).half(), convert(model_of("min_max")).half()
    with pytest.raises(InvalidValueError, match=r"layer c0: .*float16.*model.float\(\) first"):
        run_batches(teacher, IMAGES)
    with pytest.raises(InvalidValueError, match=r"layer c0: .*float16.*model.double\(\) first"):
        run_batches(program, IMAGES)


def test_the_loop_trains_on_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(
        epochs=1, batch=8, rates=((0, 1e-3),), distillation=0.5, matching=1.0, rate_unit="steps"
    )
    data = TensorDataset(torch.from_numpy(IMAGES), torch.zeros(len(IMAGES), dtype=torch.long))
    near, far = model_of("on_grid"), model_of("on_grid")
    fit(near, data, recipe, tmp_path / "near", FloatTeacher(NETWORK))
    monkeypatch.setattr(training, "_device", lambda _rank: DEVICES[0])
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_options: nullcontext())
    with Elsewhere():
        fit(far, data, recipe, tmp_path / "far", FloatTeacher(NETWORK))
        assert far.result().digest() == near.result().digest()
