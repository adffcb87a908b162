"""AnnotateBitwidths: widths on the calls, and the plain values that the bit search sees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay_passes import AnnotateBitwidths, layer_specs
from relay_passes.graph import nodes
from tests.relay_passes.networks import op_counts, plan_of, small_net_with_ranges
from tvm_mpq.errors import InvalidValueError

pytestmark = pytest.mark.null


def test_layer_specs_of_small_net() -> None:
    specs = {spec.name: spec for spec in layer_specs(small_net_with_ranges())}
    stem, depthwise = specs["conv2d_0"], specs["depthwise_conv2d_1"]
    assert stem.x == ("x",) and stem.x_elements == (3 * 13 * 14,) and stem.y_elements == 8 * 49
    assert stem.weight_elements == 8 * 27 and stem.macs == 8 * 49 * 27
    assert depthwise.weight_elements == 72 and depthwise.macs == 72 * 49
    assert specs["conv2d_2"].op == "pointwise_conv2d" and specs["conv2d_2"].macs == 64 * 49
    assert specs["add_3"].x == ("conv2d_2", "conv2d_0") and specs["add_3"].weight_elements == 0
    assert specs["dense_8"].out_channels == 5 and specs["dense_8"].macs == 65


def test_pools_share_the_width_of_their_input() -> None:
    specs = {spec.name: spec for spec in layer_specs(small_net_with_ranges())}
    assert specs["max_pool2d_6"].y == specs["global_avg_pool_7"].y == "concat_5"
    assert specs["dense_8"].x == ("concat_5",) and specs["dense_8"].x_elements == (13,)


def test_widths_are_written_on_the_calls() -> None:
    mod = small_net_with_ranges()
    plan = plan_of(mod)
    plan = replace(
        plan,
        activations=plan.activations | {"conv2d_0": 4, "concat_5": 2},
        weights=plan.weights | {"conv2d_2": 2},
    )
    annotated = AnnotateBitwidths(plan)(mod)
    assert op_counts(annotated) == op_counts(mod)
    widths = {n.name: (n.attrs.get("w_bits"), n.attrs["y_bits"]) for n in nodes(annotated)}
    assert widths == {
        "conv2d_0": (8, 4),
        "depthwise_conv2d_1": (8, 8),
        "conv2d_2": (2, 8),
        "add_3": (None, 8),
        "conv2d_4": (8, 8),
        "concat_5": (None, 2),
        "max_pool2d_6": (None, 2),
        "global_avg_pool_7": (None, 2),
        "dense_8": (8, 8),
    }


@pytest.mark.parametrize(("kind", "name"), [("tensor", "add_3"), ("layer", "conv2d_4")])
def test_a_plan_of_another_network(kind: str, name: str) -> None:
    mod = small_net_with_ranges()
    plan = plan_of(mod)
    known = plan.activations if kind == "tensor" else plan.weights
    del known[name]
    with pytest.raises(InvalidValueError, match=f"no width for {kind} {name}"):
        AnnotateBitwidths(plan)(mod)
