"""BitPlan: strings, table, JSON there and back, and what a damaged file is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.bit_plan import UNLIMITED, BitPlan, Cut
from tvm_mpq.specs import LayerSpec

pytestmark = pytest.mark.null

LAYERS = (
    LayerSpec("conv", "conv2d", ("image",), "a", (48,), 64, 27, 4),
    LayerSpec("pool", "max_pool", ("a",), "p", (64,), 16),
    LayerSpec("fc", "dense", ("p",), "logits", (16,), 10, 160, 10),
)


def make_plan(**changes: Any) -> BitPlan:
    values: dict[str, Any] = {
        "activations": {"image": 8, "a": 2, "p": 4, "logits": 8},
        "weights": {"conv": 8, "fc": 4},
        "cuts": (
            Cut("a", 8, 4, "rw", "conv"),
            Cut("a", 4, 2, "rw", "pool"),
            Cut("p", 8, 4, "rw", "pool"),
            Cut("fc", 8, 4, "ro", "fc"),
        ),
        "ro_bytes": 229,
        "rw_bytes": 64,
        "flash_budget": 250,
        "ram_budget": UNLIMITED,
        "policy": "paper",
        "memory_model": "paper",
    }
    return BitPlan(**(values | changes))


def test_strings_have_one_digit_a_weight_layer() -> None:
    plan = make_plan()
    assert plan.activation_string(LAYERS) == "28"
    assert plan.weight_string(LAYERS) == "84"


def test_strings_of_another_network() -> None:
    other = [LayerSpec("conv9", "conv2d", ("image",), "a9", (48,), 64, 27, 4)]
    with pytest.raises(InvalidValueError, match="no activation 'a9'; it has image, a, p, logits"):
        make_plan().activation_string(other)
    with pytest.raises(InvalidValueError, match="no weights of layer 'conv9'; it has conv, fc"):
        make_plan().weight_string(other)


def test_rows_tell_why() -> None:
    assert make_plan().rows() == [
        ("kind", "name", "bits", "why"),
        ("activation", "image", "8", ""),
        ("activation", "a", "2", "rw: 8 -> 4 at conv; rw: 4 -> 2 at pool"),
        ("activation", "p", "4", "rw: 8 -> 4 at pool"),
        ("activation", "logits", "8", ""),
        ("weights", "conv", "8", ""),
        ("weights", "fc", "4", "ro: 8 -> 4 at fc"),
        ("total", "ro_bytes", "229", "budget 250"),
        ("total", "rw_bytes", "64", "no budget"),
    ]


def test_a_layer_and_a_tensor_of_one_name_keep_their_own_cuts() -> None:
    plan = make_plan(
        activations={"same": 4}, weights={"same": 8}, cuts=(Cut("same", 8, 4, "rw", "same"),)
    )
    assert plan.rows()[1:3] == [
        ("activation", "same", "4", "rw: 8 -> 4 at same"),
        ("weights", "same", "8", ""),
    ]


def test_json_round_trip() -> None:
    plan = make_plan()
    assert BitPlan.from_json(plan.to_json()) == plan
    assert BitPlan.from_json(json.dumps(plan.to_json())) == plan
    assert json.loads(json.dumps(plan.to_json())) == plan.to_json()


def test_multipliers_of_16_bits() -> None:
    """Absent names have 32 bits; a plan without any is written as it always was."""
    plan = make_plan(multipliers={"conv": 32, "fc": 16})
    assert [plan.multiplier_bits(name) for name in ("conv", "fc")] == [32, 16]
    assert BitPlan.from_json(json.dumps(plan.to_json())) == plan
    assert ("multipliers", "fc", "16", "") in plan.rows()
    assert "multipliers" not in make_plan().to_json()
    with pytest.raises(InvalidValueError, match="no weights of layer 'pool'; it has conv, fc"):
        make_plan(multipliers={"pool": 16})


names = st.text(min_size=1, max_size=8)
widths = st.dictionaries(names, st.sampled_from([8, 4, 2]), max_size=6)
steps = st.sampled_from([(8, 4), (4, 2), (8, 2)])
cuts = st.builds(
    lambda name, bits, constraint, layer: Cut(name, *bits, constraint, layer),
    *(names, steps, st.sampled_from(["ro", "rw"]), names),
)


@given(widths, widths, st.lists(cuts, max_size=5), st.integers(0, UNLIMITED))
def test_json_round_trip_of_any_plan(
    activations: dict[str, int], weights: dict[str, int], made: list[Cut], size: int
) -> None:
    plan = make_plan(activations=activations, weights=weights, cuts=tuple(made), ro_bytes=size)
    again = BitPlan.from_json(json.dumps(plan.to_json()).encode())
    assert again == plan
    assert list(again.activations) == list(activations)


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "not valid JSON"),
        ('{"version": 1', "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
        ("[]", "list; expected a JSON object"),
        ("{}", "version None; this release reads version 1; run the bit search again"),
        ('{"version": 2}', "version 2"),
        ('{"version": true}', "version True"),
        ('{"version": 1}', "missing activations, weights, cuts"),
    ],
)
def test_damaged_text(text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        BitPlan.from_json(text)


GOOD_CUT = {"name": "a", "from_bits": 8, "to_bits": 4, "constraint": "rw", "layer": "l"}


@pytest.mark.parametrize(
    "change,message",
    [
        ({"activations": {"a": 3}}, r"activations\['a'\]: 3 bits; allowed are 8, 4 and 2"),
        ({"multipliers": {"fc": 8}}, r"multipliers\['fc'\]: 8 bits; allowed are 32 and 16"),
        ({"multipliers": None}, "multipliers None; expected names and bits"),
        ({"weights": {"w": 5}}, r"weights\['w'\]: 5 bits; allowed are 8, 4, 3 and 2"),
        ({"activations": {"a": "8"}}, r"activations\['a'\]: '8'; expected 8, 4 or 2"),
        ({"activations": {"a": 8.0}}, r"activations\['a'\]: 8.0; expected 8, 4 or 2"),
        ({"activations": {"": 8}}, "activations: ''; expected a name"),
        ({"activations": [8, 4]}, r"activations \[8, 4\]; expected names and bits"),
        ({"weights": {"fc": None}}, r"weights\['fc'\]: None"),
        ({"ro_bytes": -1}, "ro_bytes: -1; expected a whole number of bytes"),
        ({"rw_bytes": True}, "rw_bytes: True"),
        ({"ram_budget": "512kB"}, "ram_budget: '512kB'"),
        ({"policy": ""}, "policy: ''"),
        ({"variant": 3}, "variant: 3"),
        ({"surprise": 1}, "unknown surprise"),
        ({"cuts": "none"}, "cuts 'none'; expected a list"),
        ({"cuts": [7]}, r"cuts\[0\] is 7; expected an object"),
        ({"cuts": [GOOD_CUT, {"name": "a"}]}, r"cuts\[1\]: missing from_bits, to_bits"),
        ({"cuts": [GOOD_CUT | {"to_bits": 8}]}, "cut of 'a': from 8 to 8 bits"),
        ({"cuts": [GOOD_CUT | {"to_bits": 5}]}, "cut of 'a': to_bits: 5 bits"),
        ({"cuts": [GOOD_CUT | {"constraint": "rx"}]}, "constraint 'rx'; allowed are 'ro' and 'rw'"),
        ({"cuts": [GOOD_CUT | {"layer": None}]}, "cut of 'a': layer: None"),
    ],
)
def test_damaged_fields(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        BitPlan.from_json(json.dumps(make_plan().to_json() | change))


def test_cuts_must_be_a_tuple_of_cuts() -> None:
    with pytest.raises(InvalidValueError, match="expected a tuple of Cut"):
        make_plan(cuts=[])
