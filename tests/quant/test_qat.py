"""convert(model) is the integer program; the training forward is within one code of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from tests.quant.networks import images, plan_of, small_network
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.float_network import FloatTeacher
from tvm_mpq.quant.integer_network import run_batches
from tvm_mpq.quant.qat import QatNetwork, convert, prepare
from tvm_mpq.quant.quantizers import ChannelQuantizer
from tvm_mpq.quant.reconstruct import ReconstructionOptions, reconstruct
from tvm_mpq.quant.training import Recipe, fit

pytestmark = pytest.mark.null
NETWORK = small_network()
IMAGES = images(48, 1)


def code_differences(model: QatNetwork, data: np.ndarray) -> dict[str, tuple[int, float]]:
    """For each layer, fed with the integer program's inputs: (largest difference, share)."""
    integer = convert(model)
    network, found = model.network, {}
    codes = {network.input: torch.from_numpy(data).permute(0, 3, 1, 2)}
    with torch.no_grad():
        for block, step in zip(network.blocks[:-1], integer.steps, strict=False):
            codes[block.name] = step([codes[name] for name in block.inputs])
            real = []
            for name in block.inputs:
                zero_point = integer.quantizations[name].zero_point
                step = model.step_of(name)[:, None, None]
                real.append((codes[name].float() - zero_point) * step + model.offset_of(name))
            fake = model.run_block(block, real) - model.offset_of(block.name)
            y = integer.quantizations[block.name]
            fake = torch.round(fake / model.step_of(block.name)[:, None, None]) + y.zero_point
            apart = (fake - codes[block.name]).abs()
            found[block.name] = (int(apart.max()), float((apart > 0).float().mean()))
    return found


@pytest.mark.parametrize(("activations", "weights"), [(8, 8), (4, 4), (8, 2)])
@pytest.mark.parametrize("mode", ["min_max", "learned_range", "start"])
def test_training_forward_is_the_integer_program(activations: int, weights: int, mode: str) -> None:
    plan = plan_of(NETWORK, activations, weights)
    if mode == "start":
        model = prepare(NETWORK, plan, reconstruct(NETWORK, plan, IMAGES))
    else:
        model = prepare(NETWORK, plan, mode=mode)
    for name, (largest, share) in code_differences(model, images(32, 4)).items():
        assert largest <= 1 and share < 1e-3, (name, largest, share)
    logits = run_batches(convert(model), images(32, 4))
    with torch.no_grad():
        fake = model(torch.from_numpy(images(32, 4))).numpy()
    assert np.abs(fake - logits).max() < 0.05 * fake.std() + 0.02


def test_retrained_results_are_a_start_again() -> None:
    """Learned steps and offsets go into the layers and come out of them."""
    plan = plan_of(NETWORK, 4, 4)
    model = prepare(NETWORK, plan, reconstruct(NETWORK, plan, IMAGES))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for quantizer in model.quantizers.values():
            if isinstance(quantizer, ChannelQuantizer):
                noise = torch.rand(quantizer.size.shape, generator=generator)
                quantizer.size.mul_(0.8 + 0.4 * noise)
                quantizer.offset.add_(0.1 * torch.rand(quantizer.offset.shape, generator=generator))
    for name, (largest, share) in code_differences(model, images(32, 4)).items():
        assert largest <= 1 and share < 1e-3, (name, largest, share)
    again = prepare(NETWORK, plan, model.result())
    first, second = (run_batches(convert(one), images(32, 4)) for one in (model, again))
    assert np.allclose(first, second, atol=0.02 * first.std())
    with torch.no_grad():
        real = [one(torch.from_numpy(IMAGES)).numpy() for one in (model, again)]
    assert np.allclose(*real, atol=0.02 * first.std())


@pytest.mark.parametrize("until", ["c0", "p2", "g6"])
def test_layers_that_the_start_lacks_stay_float(until: str) -> None:
    plan, seen = plan_of(NETWORK, 4, 4), {}
    model = prepare(NETWORK, plan, reconstruct(NETWORK, plan, IMAGES, until=until))
    teacher, data = FloatTeacher(NETWORK), torch.from_numpy(IMAGES)
    with torch.no_grad():
        found = model(data, lambda block, y: seen.update({block.name: y}))
        values = {name: model.in_float_units(name, y) for name, y in seen.items()}
        names = [block.name for block in NETWORK.blocks]
        for block in NETWORK.blocks[names.index(until) + 1 :]:
            values[block.name] = teacher.run_block(block, [values[name] for name in block.inputs])
    torch.testing.assert_close(found, values[NETWORK.last.name].flatten(1))
    weighted = [block.name for block in NETWORK.weighted if block.name in names]
    inside = [name for name in weighted if names.index(name) <= names.index(until)]
    assert list(model.result().layers) == inside


def dataset() -> TensorDataset:
    data = torch.from_numpy(IMAGES)
    with torch.no_grad():
        return TensorDataset(data, FloatTeacher(NETWORK)(data).argmax(1))


@pytest.mark.parametrize(
    ("trained", "matching", "rate"),
    [("all", 0.0, 3e-3), ("narrow", 0.0, 3e-3), ("features", 1.0, 0.005)],
)
def test_training_lowers_the_loss(
    tmp_path: Path, trained: str, matching: float, rate: float
) -> None:
    plan = plan_of(NETWORK, 8, 2)
    # Rounded with nothing corrected: training takes nine tenths of the loss away.
    options = ReconstructionOptions(
        rounding_of_weights="nearest", bias=False, asymmetric=False, refit=False, search=False
    )
    start = None if matching else reconstruct(NETWORK, plan, IMAGES, options)
    model = prepare(NETWORK, plan, start)
    losses: list[float] = []
    recipe = Recipe(
        epochs=6,
        batch=16,
        rates=((0, rate),),
        distillation=1.0,
        matching=matching,
        trained=trained,
        rate_unit="steps" if matching else "absolute",
    )
    fit(model, dataset(), recipe, tmp_path, FloatTeacher(NETWORK), 0, lambda _, x: losses.append(x))
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:3])
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 18


def test_known_logits_take_the_place_of_a_teacher(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch=16, rates=((0, 1e-3),), distillation=1.0)
    plan, teacher = plan_of(NETWORK, 4, 4), FloatTeacher(NETWORK)
    one, other = prepare(NETWORK, plan), prepare(NETWORK, plan)
    fit(one, dataset(), recipe, tmp_path / "one", teacher)
    images_only = dataset().tensors[0]
    with torch.no_grad():
        logits = teacher(images_only)
    fit(other, TensorDataset(images_only, logits), recipe, tmp_path / "other")
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], atol=1e-4, rtol=0)
        assert value.isfinite().all()


def test_resuming_changes_nothing(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch=16, rates=((0, 1e-3), (1, 1e-4)), save_every=2)

    class Stopped(Exception):
        pass

    def stop(step: int, _loss: float) -> None:
        if step == 5:
            raise Stopped

    whole, parts = (prepare(NETWORK, plan_of(NETWORK, 4, 4)) for _ in range(2))
    fit(whole, dataset(), recipe, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(parts, dataset(), recipe, tmp_path / "parts", on_step=stop)
    parts = prepare(NETWORK, plan_of(NETWORK, 4, 4))
    fit(parts, dataset(), recipe, tmp_path / "parts")
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(InvalidValueError, match="give another folder"):
        fit(parts, dataset(), Recipe(epochs=2, batch=24), tmp_path / "parts")


Parameters = dict[str, torch.Tensor]


def test_a_higher_temperature_counts_all_logits(tmp_path: Path) -> None:
    """The first loss: T^2 KL(softmax(t / T), softmax(s / T)), near half the variance of s - t."""
    data, teacher = dataset(), FloatTeacher(NETWORK)
    model, losses = prepare(NETWORK, plan_of(NETWORK, 8, 2)), []
    with torch.no_grad():
        apart = model(data.tensors[0]) - teacher(data.tensors[0])
    recipe = Recipe(epochs=1, batch=48, rates=((0, 0.0),), distillation=1.0, temperature=30.0)
    fit(model, data, recipe, tmp_path, teacher, 0, lambda _, loss: losses.append(loss))
    assert losses == [pytest.approx(float(apart.var(1, correction=0).mean()) / 2, rel=0.02)]


def narrow_model() -> tuple[QatNetwork, Parameters]:
    """A reconstruction with 4-bit weights, ready to train, and its parameters as they are."""
    plan = plan_of(NETWORK, 8, 4)
    model = prepare(NETWORK, plan, reconstruct(NETWORK, plan, IMAGES))
    return model, {name: one.detach().clone() for name, one in model.named_parameters()}


def big_step(model: QatNetwork, folder: Path, trained: str, **losses: float) -> None:
    """One step of Adam by a quarter of each layer's own."""
    recipe = Recipe(
        epochs=1, batch=48, rates=((0, 0.25),), trained=trained, rate_unit="steps", **losses
    )
    fit(model, dataset(), recipe, folder, FloatTeacher(NETWORK))


def test_rates_in_steps_count_in_each_layers_own(tmp_path: Path) -> None:
    """After one step of Adam every weight has moved by the rate times its layer's step, or not."""
    model, before = narrow_model()
    big_step(model, tmp_path, "narrow", distillation=1.0)
    for block in NETWORK.weighted:
        layer = model.layer(block)
        moved = (layer.weight.detach() - before[f"layers.{block.name}.weight"]).abs()
        step = float(layer.quantizer.grid(layer.weight)[0].median())
        assert float(moved.max()) == pytest.approx(0.25 * step, rel=1e-2), block.name
    clips = [name for name in before if name.endswith("alpha")]
    assert clips and all(
        torch.equal(before[name], model.get_parameter(name).detach()) for name in clips
    )


def test_what_a_reader_sees_is_in_float_units() -> None:
    plan = plan_of(NETWORK, 8, 8)
    model = prepare(NETWORK, plan, reconstruct(NETWORK, plan, IMAGES))
    channels = model.result().channels_of(NETWORK).values()
    assert any(not np.allclose(one.unit, 1) for one in channels)
    found, wanted = {}, {}
    with torch.no_grad():
        model(torch.from_numpy(IMAGES), lambda b, y: found.update({b.name: y}))
        FloatTeacher(NETWORK)(torch.from_numpy(IMAGES), lambda b, y: wanted.update({b.name: y}))
    assert found.keys() == wanted.keys()
    for name, y in wanted.items():
        seen = model.in_float_units(name, found[name])
        assert float((seen - y).square().mean() / y.var()) < 0.01, name


def test_features_are_trained_without_the_classifier(tmp_path: Path) -> None:
    """Matched are maps as they are read: p5 only by the pool, whose mean counts instead."""
    model, before = narrow_model()
    seen: list[str] = []
    forward = model.in_float_units
    model.in_float_units = lambda name, y: seen.append(name) or forward(name, y)  # type: ignore[method-assign]
    big_step(model, tmp_path, "features", matching=1.0)
    assert seen == ["c0", "p2", "p3", "g6"]
    moved = {
        name.split(".")[1] for name, one in model.named_parameters() if not one.equal(before[name])
    }
    assert moved == {"c0", "d1", "p2", "p3", "p5"}


def test_a_resumed_run_sees_the_views_of_its_epochs(tmp_path: Path) -> None:
    class Views(TensorDataset):
        epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    data = Views(*dataset().tensors)
    for epochs in (2, 3):
        model = prepare(NETWORK, plan_of(NETWORK, 4, 4))
        fit(model, data, Recipe(epochs=epochs, batch=24), tmp_path)
    assert data.epochs == [0, 1, 2]


def test_recipes_are_checked(tmp_path: Path) -> None:
    model = prepare(NETWORK, plan_of(NETWORK))
    with pytest.raises(InvalidValueError, match="rate_unit 'half'; allowed are absolute and steps"):
        Recipe(rate_unit="half")
    with pytest.raises(InvalidValueError, match="temperature 0.0"):
        Recipe(temperature=0.0)
    with pytest.raises(InvalidValueError, match="matching -1"):
        Recipe(matching=-1.0)
    with pytest.raises(InvalidValueError, match="matching needs the float network"):
        fit(model, dataset(), Recipe(matching=1.0, batch=4), tmp_path)
    with pytest.raises(InvalidValueError, match="needs a teacher"):
        fit(model, dataset(), Recipe(distillation=1.0, batch=4), tmp_path)
    with pytest.raises(InvalidValueError, match="48 images, batch 128"):
        fit(model, dataset(), Recipe(), tmp_path)


_TWO = """
import sys, torch
from pathlib import Path
from torch import distributed
from tests.quant.test_qat import NETWORK, dataset
from tests.quant.networks import plan_of
from tvm_mpq.quant.qat import prepare
from tvm_mpq.quant.training import Recipe, fit
torch.set_num_threads(1)
distributed.init_process_group("gloo")
model = prepare(NETWORK, plan_of(NETWORK, 4, 4))
fit(model, dataset(), Recipe(epochs=2, batch=16, rates=((0, 1e-3),)), Path(sys.argv[1]))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(_TWO)
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    model = prepare(NETWORK, plan_of(NETWORK, 4, 4))
    fit(model, dataset(), Recipe(epochs=2, batch=16, rates=((0, 1e-3),)), tmp_path / "one")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["student"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state[name], value, atol=2e-3, rtol=0)
    weights = state["layers.p5.weight"], model.state_dict()["layers.p5.weight"]
    assert float((weights[0] - weights[1]).abs().mean()) < 1e-4
