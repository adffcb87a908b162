"""Algorithms 1 and 2 against the published widths, and their properties on random networks."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.quant.bit_search import (
    Variant,
    layer_rw_bytes,
    minimum_flash_budget,
    minimum_ram_budget,
    paper_bit_plan,
    ro_bytes,
    rw_bytes,
    side_bytes,
    tensor_bytes,
    uniform_bit_plan,
)
from tvm_mpq.specs import WEIGHT_WIDTHS, LayerSpec
from tvm_mpq.target import Target, parse_bytes

pytestmark = pytest.mark.null

AMPLE = 1 << 40
# (output channels at width 1.0, stride) of the 13 depthwise-separable blocks.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *([(512, 1)] * 5),
    *((1024, 2), (1024, 1)),
)


def mobilenet_v1(width: float, resolution: int) -> list[LayerSpec]:
    """MobileNetV1's 28 weight layers: conv1, 13 x (dw, pw), fc; channels ``int(c * width)``."""
    layers: list[LayerSpec] = []

    def add(name: str, op: str, x_elements: int, y_elements: int, weights: int, out: int) -> None:
        x = layers[-1].y if layers else "image"
        y = f"{name}.y"
        layers.append(LayerSpec(name, op, (x,), y, (x_elements,), y_elements, weights, out))

    size, channels = ceil(resolution / 2), int(32 * width)
    pixels = size * size
    add("conv1", "conv2d", resolution**2 * 3, pixels * channels, 27 * channels, channels)
    for index, (full, stride) in enumerate(BLOCKS, start=1):
        before, size, out = pixels * channels, ceil(size / stride), int(full * width)
        pixels, weights = size * size, 9 * channels
        dw, pw = "depthwise_conv2d", "pointwise_conv2d"
        add(f"dw{index}", dw, before, pixels * channels, weights, channels)
        add(f"pw{index}", pw, pixels * channels, pixels * out, channels * out, out)
        channels = out
    add("fc", "dense", channels, 1000, 1000 * channels, 1000)
    return layers


def eights(start: str) -> str:
    return start.ljust(28, "8")


LAST_TWO = "8" * 26 + "44"
KNOWN = [
    (2_048_000, 512_000, 224, 0.75, "8448848", LAST_TWO, 451_584, 1_978_532),
    (2_048_000, 512_000, 192, 0.75, "8848", LAST_TWO, 442_368, 1_978_532),
    (2_048_000, 512_000, 224, 1.0, "4428444", "8888888888888848484848884822", 401_408, 1_984_884),
    (1_024_000, 512_000, 224, 0.5, "8848", LAST_TWO, 401_408, 994_516),
    (1_024_000, 256_000, 192, 0.5, "4448848", LAST_TWO, 221_184, 994_516),
    (1_024_000, 256_000, 224, 0.5, "4428444", LAST_TWO, 250_880, 994_516),
    (2_048_000, 256_000, 224, 0.75, "2224424884", LAST_TWO, 225_792, 1_978_532),
]


@pytest.mark.parametrize("flash,ram,resolution,width,outputs,weights,rw,ro", KNOWN)
def test_known_answers(
    flash: int,
    ram: int,
    resolution: int,
    width: float,
    outputs: str,
    weights: str,
    rw: int,
    ro: int,
) -> None:
    layers = mobilenet_v1(width, resolution)
    plan = paper_bit_plan(layers, flash, ram)
    assert plan.activation_string(layers) == eights(outputs)
    assert plan.weight_string(layers) == weights
    assert (plan.rw_bytes, plan.ro_bytes) == (rw, ro)
    assert plan.activations["image"] == plan.activations["fc.y"] == 8


def test_budgets_in_the_papers_units() -> None:
    layers = mobilenet_v1(0.75, 224)
    plan = paper_bit_plan(layers, parse_bytes("2MB"), parse_bytes("512kB"))
    assert (plan.flash_budget, plan.ram_budget) == (2_048_000, 512_000)
    assert (plan.policy, plan.memory_model, plan.variant) == ("paper", "paper", "pc+icn")


def test_ram_too_small_names_layer_tensors_and_budget() -> None:
    layers = mobilenet_v1(1.0, 224)
    with pytest.raises(DoesNotFitError) as caught:
        paper_bit_plan(layers, AMPLE, 256_000)
    for part in (
        "layer pw1 (pointwise_conv2d)",
        "dw1.y (401408 x 2 bits = 100352 bytes)",
        "pw1.y (802816 x 2 bits = 200704 bytes)",
        "301056 bytes together",
        "budget is 256000 bytes, 45056 bytes too few",
        "finds widths is 301056 bytes",
    ):
        assert part in str(caught.value)
    assert paper_bit_plan(layers, AMPLE, 301_056).rw_bytes == 301_056
    with pytest.raises(DoesNotFitError):
        paper_bit_plan(layers, AMPLE, 301_055)


@pytest.mark.parametrize("resolution", [224, 192, 160, 128])
def test_flash_too_small_for_every_full_width(resolution: int) -> None:
    layers = mobilenet_v1(1.0, resolution)
    with pytest.raises(DoesNotFitError) as caught:
        paper_bit_plan(layers, 1_024_000, AMPLE)
    for part in (
        "1168932 bytes together",
        "budget is 1024000 bytes, 144932 bytes too few",
        "pw13 (pointwise_conv2d), weights (1048576 x 2 bits = 262144 bytes)",
        "finds widths is 1168932 bytes",
    ):
        assert part in str(caught.value)
    assert set(paper_bit_plan(layers, 1_168_932, AMPLE).weights.values()) == {2}
    with pytest.raises(DoesNotFitError):
        paper_bit_plan(layers, 1_168_931, AMPLE)


def test_cuts_tell_what_answered_which_constraint() -> None:
    plan = paper_bit_plan(mobilenet_v1(0.75, 224), 2_048_000, 512_000)
    told = [(c.name, c.from_bits, c.to_bits, c.constraint, c.layer) for c in plan.cuts]
    # 602,112 bytes around dw1 (a tie: the output), 150,528 + 602,112 around pw1 (the wider one);
    # fc has 30 % of the weight bytes, pw13 23 %: more than 5 points apart, so fc is first.
    assert told == [
        ("dw1.y", 8, 4, "rw", "dw1"),
        ("pw1.y", 8, 4, "rw", "pw1"),
        ("dw3.y", 8, 4, "rw", "dw3"),
        ("fc", 8, 4, "ro", "fc"),
        ("pw13", 8, 4, "ro", "pw13"),
    ]


# --- small networks where each rule decides ---


def conv(name: str, x: str, y: str, x_elements: int, y_elements: int) -> LayerSpec:
    return LayerSpec(name, "conv2d", (x,), y, (x_elements,), y_elements, 90, 10)


def chain(*sizes: int) -> list[LayerSpec]:
    """image -> t1 -> t2 ...: convolutions with these tensor sizes."""
    names = ["image", *(f"t{i}" for i in range(1, len(sizes)))]
    pairs = zip(names, names[1:], sizes, sizes[1:], strict=False)
    return [conv(f"c{i}", x, y, a, b) for i, (x, y, a, b) in enumerate(pairs, start=1)]


@pytest.mark.parametrize(
    "sizes,ram,expected",
    [
        ((8, 100, 100, 8), 150, {"t1": 8, "t2": 4}),  # a tie in size cuts the output
        ((8, 104, 100, 8), 160, {"t1": 4, "t2": 8}),  # the larger of equally wide ones
        ((100, 100, 8), 150, {"t1": 4}),  # the image is never cut
        ((8, 100, 100), 150, {"t1": 4}),  # neither are the logits
    ],
)
def test_tensor_that_shrinks(sizes: tuple[int, ...], ram: int, expected: dict[str, int]) -> None:
    plan = paper_bit_plan(chain(*sizes), AMPLE, ram)
    assert {name: plan.activations[name] for name in expected} == expected
    assert plan.activations["image"] == plan.activations[chain(*sizes)[-1].y] == 8


def test_backward_sweep_starts_at_the_end() -> None:
    """c3 must cut t2 (logits are fixed); c2 then fits, and t1 keeps its bits."""
    plan = paper_bit_plan(chain(1, 120, 110, 100), AMPLE, 200)
    assert (plan.activations["t1"], plan.activations["t2"]) == (8, 4)
    assert [cut.layer for cut in plan.cuts] == ["c3"]


@pytest.mark.parametrize("sizes,cut", [((475, 525), "c2"), ((476, 524), "c1")])
def test_earlier_layer_is_cut_within_five_percent(sizes: tuple[int, int], cut: str) -> None:
    """At 47.5 % against 52.5 % the margin is met exactly, which is not enough."""
    layers = [
        LayerSpec("c1", "conv2d", ("image",), "t1", (8,), 8, sizes[0], 1),
        LayerSpec("c2", "dense", ("t1",), "t2", (8,), 8, sizes[1], 1),
    ]
    budget = uniform_bit_plan(layers, 8, 8).ro_bytes - 1
    assert [c.name for c in paper_bit_plan(layers, budget, AMPLE).cuts] == [cut]


def test_three_bits_are_a_step_for_pointwise_and_dense_weights() -> None:
    layers = mobilenet_v1(0.75, 224)
    budget = minimum_flash_budget(layers, uniform_bit_plan(layers, 8, 8).activations)
    found: set[str] = set()
    for flash in (budget, budget + 100_000, 1_000_000, 1_500_000):
        plan = paper_bit_plan(layers, flash, AMPLE, widths=WEIGHT_WIDTHS)
        assert plan.ro_bytes <= flash
        found |= {name for name, bits in plan.weights.items() if bits == 3}
        steps = {(cut.from_bits, cut.to_bits) for cut in plan.cuts if cut.name[:2] == "pw"}
        assert steps <= {(8, 4), (4, 3), (3, 2)}
    assert found and all(name.startswith(("pw", "fc")) for name in found)
    assert 3 not in paper_bit_plan(layers, 1_000_000, AMPLE).weights.values()


def test_image_and_logits_alone_do_not_fit() -> None:
    with pytest.raises(DoesNotFitError, match=r"layer c1 .* 20 bytes together; .* 1 bytes too few"):
        paper_bit_plan(chain(10, 10), AMPLE, 19)


def test_odd_sizes_round_up_to_bytes() -> None:
    assert [tensor_bytes(5, bits) for bits in (8, 4, 2)] == [5, 3, 2]


def residual() -> list[LayerSpec]:
    """image -> a; a -> b -> c; add(a, c) -> d; pool in place; dense."""
    return [
        conv("conv_a", "image", "a", 30, 100),
        conv("conv_b", "a", "b", 100, 100),
        conv("conv_c", "b", "c", 100, 100),
        LayerSpec("add_d", "add", ("a", "c"), "d", (100, 100), 100),
        LayerSpec("pool", "global_avg_pool", ("d",), "d", (100,), 10),
        LayerSpec("fc", "dense", ("d",), "logits", (10,), 5, 50, 5),
    ]


def test_residual_add_counts_both_inputs_and_the_output() -> None:
    layers = residual()
    full = uniform_bit_plan(layers, 8, 8)
    assert full.rw_bytes == layer_rw_bytes(layers[3], full.activations) == 300
    plan = paper_bit_plan(layers, AMPLE, 200)
    assert plan.rw_bytes == 200
    # Forward: the output first, then the sweep stops; backward: the larger input, first of a tie.
    assert plan.activations == {"image": 8, "a": 4, "b": 8, "c": 8, "d": 4, "logits": 8}
    assert [cut.layer for cut in plan.cuts] == ["add_d", "add_d"]
    assert set(plan.weights) == {"conv_a", "conv_b", "conv_c", "fc"}
    assert plan.activation_string(layers) == "4888"


def test_global_average_pool_is_no_layer() -> None:
    layers = residual()
    without = [layer for layer in layers if layer.op != "global_avg_pool"]
    assert paper_bit_plan(layers, AMPLE, 160) == paper_bit_plan(without, AMPLE, 160)


def test_residual_error_names_both_inputs() -> None:
    with pytest.raises(DoesNotFitError, match=r"add_d \(add\).* reads a \(.*, c \(.* writes d \("):
        paper_bit_plan(residual(), AMPLE, 70)
    assert minimum_ram_budget(residual()) == 75


def test_max_pool_and_concat_count() -> None:
    layers = [
        conv("c1", "image", "a", 4, 64),
        LayerSpec("pool", "max_pool", ("a",), "p", (64,), 16),
        LayerSpec("cat", "concat", ("p", "a"), "q", (16, 64), 80),
        conv("c2", "q", "logits", 80, 4),
    ]
    assert uniform_bit_plan(layers, 8, 8).rw_bytes == 160
    assert paper_bit_plan(layers, AMPLE, 100).rw_bytes <= 100


def test_a_tensor_read_twice_counts_once() -> None:
    double = LayerSpec("twice", "add", ("a", "a"), "b", (50, 50), 50)
    assert layer_rw_bytes(double, {"a": 8, "b": 4}) == 75


def test_weightless_network_needs_no_flash() -> None:
    layers = [LayerSpec("pool", "max_pool", ("image",), "y", (64,), 16)]
    plan = paper_bit_plan(layers, 1, 80)
    assert (plan.ro_bytes, plan.weights, plan.activation_string(layers)) == (0, {}, "")


def test_in_place_pool_of_the_image_leaves_the_image_alone() -> None:
    layers = [
        LayerSpec("pool", "max_pool", ("image",), "image", (64,), 16),
        conv("c1", "image", "logits", 16, 4),
    ]
    assert uniform_bit_plan(layers, 2, 2).activations == {"image": 8, "logits": 8}


# --- side bytes and uniform plans ---


@pytest.mark.parametrize(
    "variant,inner,last",
    [
        (Variant.PL_FB, 4 * 64 + 20, 4 * 64 + 20),
        (Variant.PL_ICN, 9 * 64 + 12, 4 * 64 + 20),
        (Variant.PC_ICN, 10 * 64 + 8, 7 * 64 + 4),
        (Variant.PC_THRESHOLDS, 64 * 16 * 2 + 64, 7 * 64 + 4),
    ],
)
def test_side_bytes(variant: Variant, inner: int, last: int) -> None:
    assert side_bytes(variant, 64, False, y_bits=4) == inner
    assert side_bytes(variant, 64, True) == last


def test_thresholds_depend_on_the_output_width() -> None:
    thresholds = Variant.PC_THRESHOLDS
    assert side_bytes(thresholds, 64, False, y_bits=2) == 64 * 4 * 2 + 64
    assert side_bytes(thresholds, 64, False, y_bits=4, threshold_bytes=4) == 64 * 16 * 4 + 64
    with pytest.raises(InvalidValueError, match=r"pc\+thresholds: output of 8 bits.*pc\+icn"):
        side_bytes(thresholds, 64, False)


def test_only_the_logits_layer_has_the_short_constants() -> None:
    """A convolution before a final add is requantized in full."""
    layers = residual()[:4]
    expected = 3 * (90 + side_bytes(Variant.PC_ICN, 10, False))
    assert uniform_bit_plan(layers, 8, 8).ro_bytes == expected


def test_uniform_plan() -> None:
    layers = mobilenet_v1(1.0, 224)
    plan = uniform_bit_plan(layers, 4, 2, variant=Variant.PC_THRESHOLDS)
    assert plan.activation_string(layers) == "4" * 27 + "8"
    assert plan.weight_string(layers) == "2" * 28
    assert (plan.policy, plan.variant, plan.cuts) == ("uniform", "pc+thresholds", ())
    assert plan.flash_budget == plan.ram_budget == Target("host").ram
    assert plan.rw_bytes == (401_408 + 802_816) // 2


def test_uniform_plan_that_does_not_fit() -> None:
    layers = mobilenet_v1(1.0, 224)
    with pytest.raises(DoesNotFitError, match=r"pw1 .* x 4 bits.*602112 bytes together"):
        uniform_bit_plan(layers, 4, 4, ram_budget=512_000)
    with pytest.raises(DoesNotFitError, match=r"budget is 2048000 bytes.* x 4 bits"):
        uniform_bit_plan(layers, 4, 4, flash_budget=2_048_000)
    with pytest.raises(InvalidValueError, match="bits_weight: 3 bits"):
        uniform_bit_plan(layers, 4, 3)


# --- what cannot be a network ---


@pytest.mark.parametrize(
    "layers,message",
    [
        ([], "no layers"),
        (chain(8, 8) + chain(8, 8), "layer c1: the name occurs twice"),
        (chain(8, 8, 8)[::-1], "c1: writes 't1', which an earlier layer writes or reads"),
        ([conv("a", "image", "t", 8, 8), conv("b", "image", "t", 8, 8)], "b: writes 't'"),
        ([conv("a", "image", "image", 8, 8)], "a: writes 'image'"),
        ([LayerSpec("c", "conv2d", ("x",), "y", (8,), 8, 9)], "c .*out_channels 0"),
        (
            [LayerSpec("p", "global_avg_pool", ("x",), "y", (8,), 8), conv("c", "y", "z", 8, 8)],
            "p .*reads 'x' and writes 'y'; expected one name",
        ),
    ],
)
def test_impossible_networks(layers: list[LayerSpec], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        paper_bit_plan(layers, AMPLE, AMPLE)


@pytest.mark.parametrize("flash,ram,field", [(0, 1, "flash_budget: 0"), (1, -5, "ram_budget: -5")])
def test_impossible_budgets(flash: int, ram: int, field: str) -> None:
    with pytest.raises(InvalidValueError, match=field):
        paper_bit_plan(chain(8, 8), flash, ram)


# --- properties ---


@st.composite
def networks(draw: st.DrawFn) -> list[LayerSpec]:
    """Chains with random sizes, some with adds of an earlier tensor and in-place pooling."""
    sizes = {"image": draw(st.integers(1, 300))}
    layers: list[LayerSpec] = []
    previous = "image"
    for index in range(draw(st.integers(1, 10))):
        y, count = f"t{index}", draw(st.integers(1, 300))
        kind = draw(st.sampled_from(["conv2d", "conv2d", "add"]))
        if kind == "add":
            x = (previous, draw(st.sampled_from(sorted(sizes))))
            weights, channels = 0, 0
        else:
            x, weights, channels = (previous,), draw(st.integers(1, 5000)), draw(st.integers(1, 20))
        elements = tuple(sizes[name] for name in x)
        layers.append(LayerSpec(f"l{index}", kind, x, y, elements, count, weights, channels))
        sizes[y], previous = count, y
    return layers


@given(networks(), st.data())
def test_a_plan_keeps_its_budgets_and_its_cuts_add_up(
    layers: list[LayerSpec], data: st.DataObject
) -> None:
    ram = data.draw(st.integers(minimum_ram_budget(layers), 1000))
    free = uniform_bit_plan(layers, 2, 2)
    flash = data.draw(st.integers(max(1, free.ro_bytes), max(1, 5 * free.ro_bytes)))
    plan = paper_bit_plan(layers, flash, ram)
    assert plan.rw_bytes == rw_bytes(layers, plan.activations) <= ram
    assert plan.ro_bytes == ro_bytes(layers, plan.activations, plan.weights) <= flash
    assert {*plan.activations.values(), *plan.weights.values()} <= {8, 4, 2}
    assert plan.activations["image"] == plan.activations[layers[-1].y] == 8
    widths = {"rw": dict.fromkeys(plan.activations, 8), "ro": dict.fromkeys(plan.weights, 8)}
    for cut in plan.cuts:
        assert widths[cut.constraint][cut.name] == cut.from_bits == 2 * cut.to_bits
        before = (rw_bytes(layers, widths["rw"]) > ram, ro_bytes(layers, *widths.values()) > flash)
        assert before[cut.constraint == "ro"], "a cut without need"
        widths[cut.constraint][cut.name] = cut.to_bits
    assert widths == {"rw": plan.activations, "ro": plan.weights}


@given(networks())
def test_smallest_budgets_are_exact(layers: list[LayerSpec]) -> None:
    ram = minimum_ram_budget(layers)
    plan = paper_bit_plan(layers, AMPLE, ram)
    flash = minimum_flash_budget(layers, plan.activations)
    if ram > 1:
        with pytest.raises(DoesNotFitError, match=f"finds widths is {ram} bytes"):
            paper_bit_plan(layers, AMPLE, ram - 1)
    if flash > 1:
        assert paper_bit_plan(layers, flash, ram).ro_bytes == flash
        with pytest.raises(DoesNotFitError, match=f"finds widths is {flash} bytes"):
            paper_bit_plan(layers, flash - 1, ram)


@given(networks(), st.integers(0, 5000), st.integers(0, 5000))
def test_more_flash_never_narrows_a_weight(layers: list[LayerSpec], extra: int, more: int) -> None:
    least = max(1, uniform_bit_plan(layers, 2, 2).ro_bytes)
    small = paper_bit_plan(layers, least + extra, AMPLE)
    large = paper_bit_plan(layers, least + extra + more, AMPLE)
    assert all(large.weights[name] >= bits for name, bits in small.weights.items())


@given(networks(), st.integers(0, 900))
def test_more_ram_than_the_smallest_budget_always_fits(layers: list[LayerSpec], extra: int) -> None:
    budget = minimum_ram_budget(layers) + extra
    assert paper_bit_plan(layers, AMPLE, budget).rw_bytes <= budget
