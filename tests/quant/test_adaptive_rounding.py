"""Adaptive rounding: better than GPTQ alone, deterministic, resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.quant.networks import images, plan_of, small_network
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.adaptive_rounding import (
    AdaptiveOptions,
    _Adapter,
    adapt_rounding,
    blocks_of,
)
from tvm_mpq.quant.float_network import FloatTeacher
from tvm_mpq.quant.integer_network import IntegerNetwork, run_batches
from tvm_mpq.quant.qat import prepare
from tvm_mpq.quant.reconstruct import ReconstructionOptions, reconstruct
from tvm_mpq.quant.result import QuantizationResult

pytestmark = pytest.mark.null
NETWORK = small_network()
IMAGES = images(96, 1)
OPTIONS = AdaptiveOptions(steps=300, batch=16)
# The defaults leave nothing to gain on this network.
START = ReconstructionOptions(asymmetric=False, search=False)


def distance(result: QuantizationResult) -> float:
    held_out = images(64, 2)
    wanted = run_batches(FloatTeacher(NETWORK), held_out)
    found = run_batches(IntegerNetwork(NETWORK, result), held_out)
    return float(np.sqrt(((wanted - found) ** 2).mean()) / wanted.std())


def test_blocks_end_where_channels_mix() -> None:
    names = [[block.name for block in group] for group in blocks_of(NETWORK)]
    assert names == [["c0"], ["d1", "p2"], ["p3"], ["a4"], ["p5"], ["g6"], ["f7"]]


@pytest.mark.parametrize("weights", [3, 2])
def test_beats_its_start(weights: int) -> None:
    start = reconstruct(NETWORK, plan_of(NETWORK, 8, weights), IMAGES, START)
    found = adapt_rounding(NETWORK, start, IMAGES, OPTIONS)
    assert distance(found) < distance(start)
    assert found.ranges == start.ranges and found.method["adaptive_rounding"]["steps"] == 300


def test_wide_weights_are_left_alone() -> None:
    start = reconstruct(NETWORK, plan_of(NETWORK, 4, 8), IMAGES, START)
    found = adapt_rounding(NETWORK, start, IMAGES, OPTIONS)
    assert found.layers == start.layers


def test_the_result_has_all_that_was_trained() -> None:
    """The offsets of 8-bit layers within a block too; a block taken back is as it was."""
    plan = plan_of(NETWORK, 8, 2)
    plan = replace(plan, weights=plan.weights | {"d1": 8})
    start = reconstruct(NETWORK, plan, IMAGES, START)
    adapter = _Adapter(NETWORK, start, IMAGES, OPTIONS, None)
    one = adapter.run()
    with torch.no_grad():
        expected = adapter._student(torch.from_numpy(IMAGES))
        found = prepare(NETWORK, plan, one)(torch.from_numpy(IMAGES))
    assert not np.array_equal(one.layers["d1"].h, start.layers["d1"].h)
    assert torch.equal(found, expected)


def test_is_deterministic_and_continues_from_its_checkpoint(tmp_path: Path) -> None:
    start = reconstruct(NETWORK, plan_of(NETWORK, 8, 2), IMAGES, START)
    whole = adapt_rounding(NETWORK, start, IMAGES, OPTIONS, tmp_path / "c")
    for path in sorted((tmp_path / "c").glob("*.npz"))[:3]:
        path.unlink()
    again = adapt_rounding(NETWORK, start, IMAGES, OPTIONS, tmp_path / "c")
    for name, layer in whole.layers.items():
        assert (layer.codes == again.layers[name].codes).all()
        assert (layer.h == again.layers[name].h).all()
    with pytest.raises(InvalidValueError, match="another network, plan, images or options"):
        adapt_rounding(NETWORK, start, IMAGES[:64], OPTIONS, tmp_path / "c")


def test_too_few_images_are_told() -> None:
    start = reconstruct(NETWORK, plan_of(NETWORK, 8, 4), IMAGES, START)
    with pytest.raises(InvalidValueError, match="9 images; expected at least 32"):
        adapt_rounding(NETWORK, start, IMAGES[:9], OPTIONS)
