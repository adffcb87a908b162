"""Reconstruction: exact integers, better than rounding to nearest, deterministic, resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.quant.networks import calibrated, images, plan_of, small_network
from tvm_mpq.errors import CalibrationError, InvalidValueError
from tvm_mpq.quant.float_network import FloatTeacher
from tvm_mpq.quant.integer_network import IntegerNetwork, run_batches
from tvm_mpq.quant.network import FloatNetwork
from tvm_mpq.quant.qat import prepare
from tvm_mpq.quant.reconstruct import ReconstructionOptions, reconstruct
from tvm_mpq.quant.result import QuantizationResult, nearest_result
from tvm_mpq.quant.weight_rounding import (
    DAMPING,
    Covariance,
    Grid,
    best_grid,
    descend,
    gptq,
    output_error,
    ridge,
    rounded,
    target_weights,
)

pytestmark = pytest.mark.null
NETWORK = small_network()
IMAGES = images(64, 1)


def distance(result: QuantizationResult) -> float:
    held_out = images(64, 2)
    wanted = run_batches(FloatTeacher(NETWORK), held_out)
    found = run_batches(IntegerNetwork(NETWORK, result), held_out)
    return float(np.sqrt(((wanted - found) ** 2).mean()) / wanted.std())


@pytest.mark.parametrize(("activations", "weights"), [(8, 8), (8, 4), (4, 4)])
def test_beats_rounding_to_nearest(activations: int, weights: int) -> None:
    plan = plan_of(NETWORK, activations, weights)
    nearest = distance(nearest_result(NETWORK, plan))
    found = distance(reconstruct(NETWORK, plan, IMAGES))
    assert found < nearest
    assert found < {8: 0.05, 4: 0.35}[min(activations, weights)]


def test_is_deterministic_and_continues_from_its_checkpoint(tmp_path: Path) -> None:
    plan = plan_of(NETWORK, 4, 4)
    whole = reconstruct(NETWORK, plan, IMAGES, checkpoint=tmp_path / "c")
    for path in sorted((tmp_path / "c").glob("*.npz"))[:3]:
        path.unlink()
    again = reconstruct(NETWORK, plan, IMAGES, checkpoint=tmp_path / "c")
    assert whole.ranges == again.ranges
    for name, layer in whole.layers.items():
        assert (layer.codes == again.layers[name].codes).all()
        assert (layer.h == again.layers[name].h).all()
    with pytest.raises(InvalidValueError, match="another network, plan, images or options"):
        reconstruct(NETWORK, plan, IMAGES[:9], checkpoint=tmp_path / "c")


def test_weights_for_quantized_inputs_are_closer() -> None:
    plan = plan_of(NETWORK, 2, 4)
    float_inputs = ReconstructionOptions(asymmetric=False)
    found = distance(reconstruct(NETWORK, plan, IMAGES))
    assert found < 0.75 * distance(reconstruct(NETWORK, plan, IMAGES, float_inputs))


def test_the_classifier_is_rounded_towards_its_float_weights() -> None:
    """A position an image is too little to tell which weights are best on quantized inputs."""
    plan = plan_of(NETWORK, 4, 4)
    start = reconstruct(NETWORK, plan, IMAGES, until="p5")
    found = [
        reconstruct(NETWORK, plan, IMAGES, ReconstructionOptions(asymmetric=value), start=start)
        for value in (True, False)
    ]
    assert (found[0].layers["f7"].codes == found[1].layers["f7"].codes).all()


def test_inputs_without_error_ask_for_the_float_weights() -> None:
    """Fewer positions than inputs: both covariances are shrunk, and by the same share."""
    block = NETWORK.last
    assert block is not None and block.weights is not None
    inputs = block.weights.shape[1]
    covariance = Covariance(block)
    x = torch.rand(inputs // 2, inputs, 1, 1, generator=torch.Generator().manual_seed(0))
    covariance.update(x, x)
    weights = torch.from_numpy(block.weights).double().reshape(1, -1, inputs)
    target = target_weights(weights, covariance.cross, covariance.square)
    assert torch.allclose(target, weights, atol=1e-9)


def test_nearest_rounding_and_floor_run() -> None:
    plan = plan_of(NETWORK, 4, 4)
    base = distance(nearest_result(NETWORK, plan))
    for options in (
        ReconstructionOptions(
            rounding_of_weights="nearest", equalize=0.0, equalize_narrow=0.0, channel_clips=False
        ),
        ReconstructionOptions(rounding="floor"),
    ):
        assert distance(reconstruct(NETWORK, plan, IMAGES, options)) < base


def raised_network() -> FloatNetwork:
    """The small network with outputs of d1 and p5 far above 0; clips as before."""
    blocks = [
        replace(block, g=0.3 * block.g, h=block.h + 3.0) if block.name in ("d1", "p5") else block
        for block in NETWORK.blocks
    ]
    return calibrated(replace(NETWORK, blocks=tuple(blocks)), images(16, 0))


def test_code_0_stands_for_the_low_end_of_each_channel() -> None:
    network, plan = raised_network(), plan_of(NETWORK, 4, 8)
    held_out = images(64, 2)
    wanted = run_batches(FloatTeacher(network), held_out)
    errors = []
    for on in (False, True):
        options = ReconstructionOptions(channel_offsets=on)
        result = reconstruct(network, plan, IMAGES, options)
        offsets = {name: one.offset for name, one in result.channels.items() if one.offset.any()}
        # c0 has a reader with a border, p2 one that adds.
        assert set(offsets) == ({"d1", "p5"} if on else set())
        assert all((offset >= 0).all() for offset in offsets.values())
        found = run_batches(IntegerNetwork(network, result), held_out)
        errors.append(np.square(found - wanted).mean())
    assert errors[1] < 0.5 * errors[0]


def test_channels_keep_their_clip() -> None:
    """What lies beyond the float network's clip is clamped, whatever the channel's units."""
    network, plan = raised_network(), plan_of(NETWORK, 4, 4)
    result = reconstruct(network, plan, IMAGES)
    for name in ("d1", "p5"):
        one, (_, high) = result.channels[name], result.ranges[name]
        assert (one.offset + one.unit * high <= 6.0 + 1e-5).all()


@pytest.mark.parametrize("until", ["c0", "p2", "g6"])
def test_goes_on_from_the_first_layers(until: str) -> None:
    network, plan = raised_network(), plan_of(NETWORK, 4, 4)
    whole = reconstruct(network, plan, IMAGES)
    first = reconstruct(network, plan, IMAGES, until=until)
    assert len(first.layers) < len(whole.layers)
    again = reconstruct(network, plan, IMAGES, start=first)
    assert again.digest() == whole.digest() != first.digest()
    with pytest.raises(InvalidValueError, match="has codes None"):
        first.check_fits(network)


def test_a_start_must_fit() -> None:
    plan = plan_of(NETWORK, 4, 4)
    with pytest.raises(InvalidValueError, match="until 'c9'; expected one of"):
        reconstruct(NETWORK, plan, IMAGES, until="c9")
    first = reconstruct(NETWORK, plan, IMAGES, until="p2")
    with pytest.raises(InvalidValueError, match="the start rounds 'nearest'"):
        reconstruct(NETWORK, plan, IMAGES, ReconstructionOptions(rounding="floor"), start=first)
    wrong = first.layers["c0"].codes[:, :2]
    foreign = replace(first, layers=first.layers | {"c0": replace(first.layers["c0"], codes=wrong)})
    for begin in (prepare, lambda *args: reconstruct(args[0], plan, IMAGES, start=args[2])):
        with pytest.raises(InvalidValueError, match="layer c0 has codes"):
            begin(NETWORK, plan, foreign)
    del first.layers["d1"]
    with pytest.raises(InvalidValueError, match="are not the first 2"):
        reconstruct(NETWORK, plan, IMAGES, start=first)


def test_wrong_images_and_options_are_told() -> None:
    plan = plan_of(NETWORK)
    with pytest.raises(CalibrationError, match=r"expected uint8 \[N, 10, 10, 3\]"):
        reconstruct(NETWORK, plan, IMAGES[:, :9])
    with pytest.raises(InvalidValueError, match="'sometimes'; allowed are gptq and nearest"):
        ReconstructionOptions(rounding_of_weights="sometimes")


def layer_of(inputs: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [3, 7, K] and the covariance [3, K, K] of their inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, inputs, inputs, generator=generator, dtype=torch.float64)
    square = mixing @ mixing.transpose(1, 2) / inputs
    weights = torch.randn(3, 7, inputs, generator=generator, dtype=torch.float64)
    return weights, square + ridge(square, DAMPING)


@pytest.mark.parametrize("bits", [4, 2])
def test_gptq_has_less_output_error_than_nearest(bits: int) -> None:
    weights, square = layer_of(20, bits)
    grid = best_grid(weights, square, bits)
    codes = gptq(weights, square, grid)
    assert ((codes == codes.round()) & (codes >= 0) & (codes < 1 << bits)).all()
    nearest = output_error(grid.real(grid.round(weights)) - weights, square).sum()
    codes = descend(weights, codes, grid, square)
    found = output_error(grid.real(codes) - weights, square).sum()
    assert found < 0.9 * nearest
    once_more = descend(weights, codes, grid, square)
    assert output_error(grid.real(once_more) - weights, square).sum() <= found


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_search_finds_better_ranges_and_codes(bits: int) -> None:
    weights, square = layer_of(40, bits)
    errors = []
    for search in (False, True, True):
        codes, grid = rounded(weights, square, bits, search=search)
        assert ((codes == codes.round()) & (codes >= 0) & (codes < 1 << bits)).all()
        errors.append(output_error(grid.real(codes) - weights, square))
    assert errors[1].sum() < 0.95 * errors[0].sum()
    assert (errors[1] == errors[2]).all()


def test_a_grid_knows_its_range() -> None:
    low, high = torch.tensor([[-1.0, 0.0]]), torch.tensor([[2.0, 3.0]])
    grid = Grid.of_range(low, high, 2)
    assert torch.equal(grid.range[0], low) and torch.equal(grid.range[1], high)
    other = Grid.of_range(low, 2 * high, 2)
    mixed = grid.where(torch.tensor([[True, False]]), other)
    assert mixed.scale.tolist() == [[other.scale[0, 0].item(), 1.0]]


def test_result_survives_its_file(tmp_path: Path) -> None:
    result = reconstruct(NETWORK, plan_of(NETWORK, 4, 2), IMAGES)
    read = QuantizationResult.load(result.save(tmp_path / "r.npz"))
    assert (read.plan, read.ranges, read.rounding) == (result.plan, result.ranges, "nearest")
    assert read.digest() == result.digest() and read.channels.keys() == result.channels.keys()
    for name, one in result.channels.items():
        again = read.channels[name]
        assert np.array_equal([one.unit, one.offset], [again.unit, again.offset])
    held_out = images(8, 3)
    exact = [run_batches(IntegerNetwork(NETWORK, one), held_out) for one in (result, read)]
    assert (exact[0] == exact[1]).all()
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(InvalidValueError, match="not a quantization result"):
        QuantizationResult.load(tmp_path / "bad.npz")
    other = small_network(50)
    read.check_fits(other)
    del read.layers["p3"]
    with pytest.raises(InvalidValueError, match="layer p3 has codes None"):
        read.check_fits(other)


def copies(kind: str) -> np.ndarray:
    """Images that say little or nothing of most layers."""
    one = images(1, 3)
    if kind == "one":
        return one
    if kind == "copies":
        return one.repeat(9, 0)
    if kind == "black":
        return np.zeros_like(one).repeat(9, 0)
    if kind == "two":
        return images(2, 3)
    nearly = one.repeat(400, 0)
    nearly[7, 4, 4, 1] ^= 1  # one value of one image, by one code
    return nearly


@pytest.mark.filterwarnings("ignore:reconstruction")
@pytest.mark.parametrize("kind", ["one", "copies", "black", "two", "nearly"])
@pytest.mark.parametrize(("activations", "weights"), [(8, 8), (8, 4), (4, 2)])
def test_images_that_are_all_alike(kind: str, activations: int, weights: int) -> None:
    plan = plan_of(NETWORK, activations, weights)
    result = reconstruct(NETWORK, plan, copies(kind), ReconstructionOptions(search=weights == 4))
    assert np.isfinite(run_batches(IntegerNetwork(NETWORK, result), IMAGES)).all()


@pytest.mark.parametrize("kind", ["one", "copies", "black"])
def test_without_information_weights_are_the_nearest_and_it_is_said(kind: str) -> None:
    plan = plan_of(NETWORK, 8, 4)
    with pytest.warns(UserWarning, match=r"the inputs of .*f7 are the same in all \d images"):
        result = reconstruct(NETWORK, plan, copies(kind))
    assert result.method["nearest"] == ["f7"]  # the others see several positions of an image
    layer, block = result.layers["f7"], NETWORK.by_name["f7"]
    units = result.channels["p5"].unit[:, None, None]
    real = block.weights * units  # type: ignore[operator]
    column = (slice(None), None, None, None)
    nearest = np.clip(np.rint(real / layer.sw[column]) + layer.zw[column], 0, 15)
    assert np.abs(nearest - layer.codes).max() == 0


def test_with_information_nothing_is_said(recwarn: pytest.WarningsRecorder) -> None:
    result = reconstruct(NETWORK, plan_of(NETWORK, 8, 4), IMAGES)
    assert not recwarn.list and "nearest" not in result.method


@pytest.mark.parametrize("exponent", [-60, -20, 20, 60])
def test_codes_do_not_depend_on_the_size_of_the_inputs(exponent: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 12, 40, generator=generator, dtype=torch.float64)
    square, weights = x @ x.transpose(1, 2), torch.randn(2, 6, 12, generator=generator).double()
    codes, grid = rounded(weights, square, 4, search=True)
    again, other = rounded(weights, square * 2.0 ** (2 * exponent), 4, search=True)
    assert torch.equal(codes, again) and torch.equal(grid.scale, other.scale)
