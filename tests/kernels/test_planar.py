"""What the planar depthwise kernels apply to, and the bound of their lanes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.kernels.harness import conv_spec
from tvm_mpq.kernels import planar
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.specs import WIDTHS, TensorSpec

pytestmark = pytest.mark.null

tensor = TensorSpec.of_map
SAME = (1, 1, 1, 1)


def depthwise(width: int, x: int, w: int, stride: int = 1, y: int = 8) -> KernelSpec:
    return conv_spec(
        "depthwise_conv2d", tensor(2, 4, width, x), 2, y, w, (3, 3), (stride, stride), SAME
    )


@pytest.mark.parametrize(("x", "w"), list(product(WIDTHS, WIDTHS)))
def test_lanes_are_chosen_where_none_can_overflow(x: int, w: int) -> None:
    """The worst channel: all taps and all pixels at their largest, or all below the zero point."""
    top_x, top_w = (1 << x) - 1, (1 << w) - 1
    for taps in (np.full(9, top_w), np.full(9, -top_w)):
        bias = 9 * top_x * max(0, -int(taps.min()))
        lane = bias + top_x * int(taps.sum())
        assert max(bias, lane) == planar.lane_bound(depthwise(14, x, w))
    fits = planar.lane_bound(depthwise(14, x, w)) < 2**16
    assert depthwise(14, x, w).variant == ("lanes" if fits else "planar")
    assert fits == ((x, w) != (8, 8))


def test_rows_that_are_too_long_take_the_plain_kernel() -> None:
    assert depthwise(248, 8, 8).variant == "planar"
    assert depthwise(256, 8, 8).variant == ""


@pytest.mark.parametrize(
    ("width", "y", "unit"),
    [(14, 8, 14), (7, 4, 7), (14, 2, 14), (112, 8, 16), (28, 8, 4), (56, 4, 8), (20, 2, 16)],
)
def test_outputs_of_a_pass(width: int, y: int, unit: int) -> None:
    """A row of 7 or 14; else what divides the row's words, so that nothing else is written."""
    spec = depthwise(width, 4, 4, y=y)
    macro, arguments = planar.call_of(spec)
    assert macro.startswith("MPQ_DW_LANES") and arguments[4] == unit
    assert arguments[7] == -(-width // unit)
