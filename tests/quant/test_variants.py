"""Requantization variants: thresholds equal ICN bit for bit; per-layer ranges cost accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quant.networks import images, plan_of, small_network
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.bit_search import Variant
from tvm_mpq.quant.float_network import FloatTeacher
from tvm_mpq.quant.icn import IcnParams, requantize
from tvm_mpq.quant.integer_network import IntegerNetwork, run_batches
from tvm_mpq.quant.variants import apply_thresholds, thresholds, variant_result

pytestmark = pytest.mark.null
MANTISSA = st.integers(2**30, 2**31 - 1)


@settings(deadline=None, max_examples=60)
@given(
    MANTISSA,
    st.booleans(),
    st.integers(-20, 4),
    st.integers(-(2**20), 2**20),
    st.integers(0, 3),
    st.sampled_from([4, 2]),
    st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=40),
)
def test_thresholds_equal_icn(
    m0: int, falls: bool, n0: int, bq: int, zy: int, bits: int, values: list[int]
) -> None:
    icn = IcnParams(
        np.array([-m0 if falls else m0], np.int32),
        np.array([n0], np.int8),
        np.array([bq], np.int32),
        np.zeros(1, np.uint8),
    )
    found, falling = thresholds(icn, zy, bits)
    # Values right at and beside the thresholds are the hard ones.
    near = np.clip((found[0].astype(np.int64) * (-1 if falls else 1)), -(2**24), 2**24)
    phi = np.concatenate([values, near - 1, near, near + 1])[None]
    assert (apply_thresholds(phi, found, falling) == requantize(phi, icn, zy, bits)).all()


def test_thresholds_serve_narrow_outputs_only() -> None:
    icn = IcnParams(*(np.ones(1, t) for t in (np.int32, np.int8, np.int32, np.uint8)))
    with pytest.raises(InvalidValueError, match="8 bits; allowed are 4 and 2"):
        thresholds(icn, 0, 8)


def test_per_channel_beats_per_layer_beats_folding_at_four_bits() -> None:
    network, data = small_network(3), images(64, 5)
    wanted = run_batches(FloatTeacher(network), data)
    errors = {}
    for variant in (Variant.PL_FB, Variant.PL_ICN, Variant.PC_ICN, Variant.PC_THRESHOLDS):
        result = variant_result(network, plan_of(network, 8, 4), variant)
        found = run_batches(IntegerNetwork(network, result), data)
        errors[variant] = float(((found - wanted) ** 2).mean())
        layer = result.layers["p5"]
        assert (len(set(layer.sw)) == 1) == (variant in (Variant.PL_FB, Variant.PL_ICN))
        assert (layer.g == 1).all() == (variant is Variant.PL_FB)
    assert errors[Variant.PC_ICN] == errors[Variant.PC_THRESHOLDS]
    assert errors[Variant.PC_ICN] < errors[Variant.PL_ICN]
