"""IntegerNetwork, RewriteToIcn with a result, and the C library give the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.train_demo import DEMO_INPUT, load_weights
from tvm_mpq.builder import build
from tvm_mpq.deployment import Deployment
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.frontends import from_torch
from tvm_mpq.pipeline import CalibratedModel, calibrate, split_channels
from tvm_mpq.quant.bit_search import paper_bit_plan, uniform_bit_plan, with_narrow_multipliers
from tvm_mpq.quant.integer_network import IntegerNetwork
from tvm_mpq.quant.qat import convert, prepare
from tvm_mpq.quant.reconstruct import reconstruct
from tvm_mpq.quant.result import QuantizationResult, nearest_result
from tvm_mpq.target import Target

pytestmark = pytest.mark.cc


def noise(count: int, seed: int) -> np.ndarray:
    """uint8 [N, 32, 32, 1] strokes."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 8, 8, 1)) * generator.integers(
        0, 2, (count, 8, 8, 1)
    )
    return coarse.repeat(4, 1).repeat(4, 2).astype(np.uint8)


IMAGES = noise(16, 2)


@pytest.fixture(scope="module")
def model() -> CalibratedModel:
    mod = from_torch(load_weights(), torch.zeros(1, 1, 32, 32))
    return calibrate(mod, noise(32, 0), DEMO_INPUT)


@pytest.mark.parametrize("kind", ["nearest", "narrow", "reconstructed", "retrained"])
def test_all_three_agree(model: CalibratedModel, kind: str, tmp_path: Path) -> None:
    plan = paper_bit_plan(model.layers, 90_000, 12_000)
    if kind in ("narrow", "retrained"):
        plan = with_narrow_multipliers(plan, model.layers)
    assert {4, 2} <= set(plan.weights.values()) | set(plan.activations.values())
    result: QuantizationResult
    if kind in ("nearest", "narrow"):
        result = nearest_result(model.network, plan)
    elif kind == "reconstructed":
        result = reconstruct(model.network, plan, noise(48, 1))
    else:
        result = convert(prepare(model, plan)).result
    result = QuantizationResult.load(result.save(tmp_path / "quantization.npz"))
    deployment = build(model, Target("host"), quantization=result)
    kernels = [row["kernel"] for row in deployment.description["layers"] if row["w_bits"]]
    assert all(name.endswith("_m16") == bool(plan.multipliers) for name in kernels)
    logits = agreed(model, result, deployment)
    if kind in ("nearest", "narrow"):
        plain = build(model, Target("host"), plan=plan)
        assert (plain.run(IMAGES) == logits).all()


def agreed(
    model: CalibratedModel, result: QuantizationResult, deployment: Deployment
) -> np.ndarray:
    """Logits of the C library, equal to those of IntegerNetwork."""
    exact = IntegerNetwork(model.network, result)
    with torch.no_grad():
        logits = exact(torch.from_numpy(IMAGES)).numpy()
    assert (deployment.run(IMAGES) == logits).all()
    assert deployment.description["logits_scale"] == exact.logits_scale
    assert deployment.description["rounding"] == result.rounding
    return logits


def test_copies_of_channels_and_means_with_a_range_of_their_own_agree() -> None:
    network = load_weights()
    with torch.no_grad():
        first = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
        first.weight[:3] = 0.0
    mod = from_torch(network, torch.zeros(1, 1, 32, 32))
    model = calibrate(mod, noise(32, 0), DEMO_INPUT)
    plan = uniform_bit_plan(model.layers, 4, 4)
    split = split_channels(model, plan)
    assert any(block.copies for block in split.network.blocks)
    (pool,) = (b for b in split.network.blocks if b.op == "global_avg_pool")
    start = reconstruct(split.network, plan, noise(48, 1))
    for result in (start, convert(prepare(split, plan, start)).result):
        assert result.ranges[pool.name][1] < 0.9 * result.ranges[pool.inputs[0]][1]
        agreed(split, result, build(split, Target("host"), quantization=result))


def test_a_result_of_another_network_is_told(model: CalibratedModel) -> None:
    plan = paper_bit_plan(model.layers, 90_000, 12_000)
    result = nearest_result(model.network, plan)
    del result.layers["dense_16"]
    with pytest.raises(InvalidValueError, match="made for another network"):
        build(model, Target("host"), quantization=result)


def test_policy_sensitivity_builds_and_shows_the_paper_beside_it(model: CalibratedModel) -> None:
    target = Target("stm32h7", flash="105kB", ram="40kB")
    deployment = build(model, target, policy="sensitivity", calibration=noise(32, 0))
    assert deployment.firmware.flash_bytes <= 105_000
    assert deployment.description["plan"]["policy"] == "sensitivity"
    policies = deployment.report().to_json()["policies"]
    assert [row[0] for row in policies] == ["policy", "sensitivity", "paper"]
    assert float(policies[1][4]) <= float(policies[2][4])
    assert "predicted damage" in str(deployment.report())
    with pytest.raises(InvalidValueError, match="no calibration images"):
        build(model, target, policy="sensitivity")
