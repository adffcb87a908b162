"""NaN, infinity and impossible variances at every entry: an error that names the layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from relay_passes import Canonicalize
from tests.quant.networks import images, plan_of, small_network
from tests.relay_passes.networks import SHAPE, fused, imported, random_images, small_net
from tvm_mpq._tvm_compat import ir, relax
from tvm_mpq.builder import build
from tvm_mpq.errors import CalibrationError, InvalidValueError, MpqError
from tvm_mpq.frontends import from_torch, load_exported_program
from tvm_mpq.pipeline import calibrate
from tvm_mpq.quant.network import Block
from tvm_mpq.quant.qat import convert, prepare
from tvm_mpq.quant.reconstruct import ReconstructionOptions, reconstruct
from tvm_mpq.quant.result import Channels, QuantizationResult, nearest_result
from tvm_mpq.quant.sensitivity import DamageTable
from tvm_mpq.quant.training import Recipe, fit
from tvm_mpq.quant.views import RandomViews
from tvm_mpq.specs import InputSpec
from tvm_mpq.target import parse_bytes

pytestmark = pytest.mark.null
NETWORK = small_network()
IMAGES = images(16, 1)
PLAN = plan_of(NETWORK, 8, 8)
POISON = [float("nan"), float("inf"), -float("inf")]
EXAMPLE = torch.zeros(1, SHAPE[2], *SHAPE[:2])
TENSORS = [name for name, t in small_net().state_dict().items() if t.is_floating_point()]


def poisoned_net(name: str, value: float) -> nn.Module:
    """SmallNet with one value of one tensor replaced."""
    model = copy.deepcopy(small_net())
    with torch.no_grad():
        model.state_dict()[name].view(-1)[1] = value
    return model


@pytest.mark.parametrize("value", POISON)
@pytest.mark.parametrize("name", TENSORS)
def test_weights_and_batch_norms_of_a_module(name: str, value: float) -> None:
    with pytest.raises(InvalidValueError, match=rf"torch model: {name}: 1 of \d+ numbers are NaN"):
        from_torch(poisoned_net(name, value), EXAMPLE)


def test_weights_of_a_file(tmp_path: Path) -> None:
    model = poisoned_net("branch.weight", float("nan"))
    torch.export.save(torch.export.export(model, (EXAMPLE,)), tmp_path / "a.pt2")
    with pytest.raises(InvalidValueError, match="branch.weight: 1 of 40 numbers"):
        load_exported_program(tmp_path / "a.pt2")


@pytest.mark.parametrize("name", [name for name in TENSORS if name.endswith("running_var")])
def test_a_negative_variance(name: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"{name}: the variance of channel 1 is -1e-30"):
        from_torch(poisoned_net(name, -1e-30), EXAMPLE)


def batch_norm(epsilon: float, variance: float) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, epsilon), nn.Flatten()).eval()
    model[1].running_var[1] = variance  # type: ignore[index,operator]
    return nn.Sequential(*model, nn.Linear(2 * SHAPE[0] * SHAPE[1], 2)).eval()


def test_a_variance_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a number where epsilon keeps it from 0, and an error where not."""
    assert fused(batch_norm(1e-5, 0.0)) is not None
    with pytest.raises(InvalidValueError, match=r"^1: its outputs are NaN.*variances and epsilon"):
        fused(batch_norm(0.0, 0.0))
    monkeypatch.setattr("tvm_mpq.frontends.proof.check_import", lambda *_: None)
    with pytest.raises(InvalidValueError, match=r"batch_norm after conv2d_0: .* channel 1 is 0"):
        fused(batch_norm(0.0, 0.0))


@pytest.mark.parametrize("value", POISON)
@pytest.mark.parametrize("position", range(3))
def test_constants_of_a_relax_module(value: float, position: int) -> None:
    """Of a weight, of a bias, and inside a tuple."""
    arrays = [np.ones((4, 3, 1, 1), np.float32), np.ones((1, 4, 1, 1), np.float32)]
    arrays.append(np.ones((1, 4, 8, 8), np.float32))
    arrays[position].flat[2] = value
    weight, bias, other = (relax.const(array) for array in arrays)
    x, builder = relax.Var("x", relax.TensorType((1, 3, 8, 8), "float32")), relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, weight))
            y = builder.emit(relax.op.add(y, bias))
            y = builder.emit_output(relax.op.concat(relax.Tuple([y, other]), 1))
        builder.emit_func_output(y)
    mod: ir.IRModule = builder.get()
    with pytest.raises(InvalidValueError, match=r" = relax\.\w.*: 1 of \d+ numbers are NaN or inf"):
        Canonicalize()(mod)


def test_outputs_that_overflow_name_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(small_net())
    with torch.no_grad():
        model.project.weight.mul_(1e38)  # type: ignore[union-attr,operator]
    with pytest.raises(InvalidValueError, match="^project: its outputs are NaN or infinite"):
        imported(model)
    monkeypatch.setattr("tvm_mpq.frontends.proof.check_import", lambda *_: None)
    with pytest.raises(CalibrationError, match="the output of conv2d_2 is NaN or infinite"):
        calibrate(imported(model), random_images(8), InputSpec())


@pytest.mark.parametrize("value", POISON)
def test_the_input(value: float) -> None:
    for field in ("scale", "offset"):
        with pytest.raises(InvalidValueError, match=f"InputSpec.{field}: {value}"):
            InputSpec(**{field: value})


@pytest.mark.parametrize(
    "data",
    [
        np.full((4, *SHAPE), np.nan, np.float32),
        np.full((4, *SHAPE), np.inf),
        [np.zeros(SHAPE, np.uint8), np.zeros((2, 2, 3), np.uint8)],
        [[float("nan")]],
        float("nan"),
        "images",
    ],
)
def test_calibration_images(data: object) -> None:
    with pytest.raises(CalibrationError, match=r"expected uint8 \[N, 13, 14, 3\]"):
        build(imported(small_net()), "host", calibration=data)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", POISON)
@pytest.mark.parametrize("field", ["weights", "g", "h", "clip_max", "ranges", "x_means"])
def test_blocks_of_a_float_network(field: str, value: float) -> None:
    block = NETWORK.by_name["c0"]
    changed = np.array(getattr(block, field), copy=True)
    changed.flat[0] = value
    with pytest.raises(InvalidValueError, match=f"layer c0: {field}: 1 of"):
        replace(block, **{field: float(changed) if field == "clip_max" else changed})


def poisoned(result: QuantizationResult, field: str, value: float) -> QuantizationResult:
    """``result`` with one value of layer p2 replaced."""
    if field == "ranges":
        return replace(result, ranges=result.ranges | {"p2": (0.0, value)})
    if field in ("unit", "offset"):
        channels = Channels.plain(12)
        getattr(channels, field)[3] = value
        return replace(result, channels={"p2": channels})
    array = getattr(result.layers["p2"], field).copy()
    array[3] = value
    layer = replace(result.layers["p2"], **{field: array})
    return replace(result, layers=result.layers | {"p2": layer})


@pytest.mark.parametrize("value", POISON)
@pytest.mark.parametrize("field", ["sw", "g", "h", "ranges", "unit", "offset"])
def test_quantization_results_and_with_them_every_start(
    field: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = nearest_result(NETWORK, PLAN)
    with pytest.raises(InvalidValueError, match=r"quantization result: .*p2"):
        poisoned(result, field, value)
    with monkeypatch.context() as patch:  # a file that something else wrote
        patch.setattr(QuantizationResult, "__post_init__", lambda self: None)
        path = poisoned(result, field, value).save(tmp_path / "a.npz")
    # Ranges are JSON, which has no such numbers.
    with pytest.raises(InvalidValueError, match="p2|a.npz: .*is no JSON number"):
        QuantizationResult.load(path)


@pytest.mark.parametrize("mode", ["min_max", "learned_range", "on_grid"])
@pytest.mark.parametrize("value", POISON)
def test_convert_of_any_tensor_of_a_retrained_network(mode: str, value: float) -> None:
    start = nearest_result(NETWORK, plan_of(NETWORK, 4, 4)) if mode == "on_grid" else None
    model = prepare(NETWORK, plan_of(NETWORK, 4, 4), start, mode if start is None else "min_max")
    good = copy.deepcopy(model.state_dict())
    assert len(good) > 20
    for path in good:
        with torch.no_grad():
            model.state_dict()[path].view(-1)[0] = value
        _, layer, kind = path.split(".", 2)
        with pytest.raises(InvalidValueError, match=f"retrained layer {layer}: {kind}: 1 of"):
            convert(model)
        model.load_state_dict(good)
    assert convert(model) is not None


def dataset(label: float = 0.0) -> TensorDataset:
    return TensorDataset(torch.from_numpy(IMAGES), torch.full((len(IMAGES), 5), label))


def test_a_training_that_diverges_leaves_no_checkpoint(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch=8, rates=((0, 1e-3),), distillation=1.0)
    model = prepare(NETWORK, PLAN)
    with pytest.raises(InvalidValueError, match="the loss is nan at step 1 of epoch 0; take a low"):
        fit(model, dataset(float("nan")), recipe, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_checkpoint_of_a_training(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch=8, rates=((0, 1e-3),), distillation=1.0)
    fit(prepare(NETWORK, PLAN), dataset(), recipe, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["student"]["layers.p2.h"][3] = float("nan")
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(InvalidValueError, match="retrained layer p2: h: 1 of 12"):
        fit(prepare(NETWORK, PLAN), dataset(), recipe, tmp_path)


@pytest.mark.parametrize("value", POISON)
def test_a_checkpoint_of_a_reconstruction(tmp_path: Path, value: float) -> None:
    options = ReconstructionOptions(search=False)
    arguments = (NETWORK, PLAN, IMAGES, options, tmp_path)
    reconstruct(*arguments)
    shape = NETWORK.by_name["p2"].weights.shape  # type: ignore[union-attr]
    path = next(p for p in tmp_path.glob("*.npz") if np.load(p)["codes"].shape == shape)
    whole = dict(np.load(path))
    for key in ("sw", "g", "h", "unit", "offset", "limits"):
        array = whole[key].copy()
        array[1] = value
        np.savez(path, **(whole | {key: array}))
        with pytest.raises(InvalidValueError, match=f"layer p2: {key}: 1 of .*remove the file"):
            reconstruct(*arguments)
    path.unlink()
    assert reconstruct(*arguments).layers["p2"].sw.size == 12


@pytest.mark.parametrize("value", POISON)
def test_damages(value: float) -> None:
    good = DamageTable({"c0": {4: 0.1}}, {"c0": {4: 0.2}}, 0.0, 8)
    for change in ({"baseline": value}, {"multipliers": value}, {"weights": {"c0": {4: value}}}):
        data = asdict(good) | change | {"version": 2}
        with pytest.raises(InvalidValueError, match=next(iter(change))):
            DamageTable.from_json(data)


def rates(value: float) -> object:
    return Recipe(rates=((0, value),))


@pytest.mark.parametrize("value", POISON)
@pytest.mark.parametrize(
    "make",
    [
        rates,
        lambda v: Recipe(temperature=v),
        lambda v: Recipe(matching=v),
        lambda v: Recipe(distillation=v),
        lambda v: Recipe(clip_decay=v),
        lambda v: Recipe(range_decay=v),
        lambda v: ReconstructionOptions(equalize=v),
        lambda v: ReconstructionOptions(equalize_narrow=v),
        lambda v: RandomViews([], (8, 8), zoom=v),
        lambda v: RandomViews([], (8, 8), blended=v),
        lambda v: RandomViews([], (8, 8), colour=v),
        lambda v: Block("b", "add", ("x", "y"), "b", (1, 1, 1), clip_max=v),
        parse_bytes,
        lambda v: replace(PLAN, weights=PLAN.weights | {"c0": v}),
        lambda v: replace(PLAN, ro_bytes=v),
        lambda v: build(
            imported(small_net()),
            "host",
            calibration=random_images(4),
            input_spec=InputSpec(),
            policy="sensitivity",
            latency=v,  # type: ignore[arg-type]
        ),
    ],
)
def test_numbers_of_options_and_plans(make: Callable[[float], object], value: float) -> None:
    with pytest.raises(MpqError, match=f"{value}|NaN or infinite"):
        make(value)
