"""KernelSpec: one record for name, symbol, JSON and sizes; the choice of tiles; the proofs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.cases import COVERING, row_cases, special_cases, weighted_cases, weightless_cases
from tests.kernels.harness import conv_spec
from tvm_mpq.errors import AccumulatorOverflowError, DoesNotFitError, InvalidValueError
from tvm_mpq.kernels.choose import choose, largest_pixel_tile
from tvm_mpq.kernels.pack import pack_icn, pack_weights, unpack_weights
from tvm_mpq.kernels.spec import PIXEL_TILE, KernelSpec
from tvm_mpq.quant.icn import IcnParams
from tvm_mpq.specs import WIDTHS, TensorSpec
from tvm_mpq.target import Target

pytestmark = pytest.mark.null

TARGET = Target("stm32h7")
tensor = TensorSpec.of_map


def every_spec() -> list[KernelSpec]:
    cases = [case for widths in COVERING for case in weighted_cases(widths)]
    return [case.spec for case in (*cases, *weightless_cases(), *special_cases(), *row_cases())]


def test_json_round_trip() -> None:
    for spec in every_spec():
        assert KernelSpec.from_json(spec.to_json()) == spec


def test_names_and_symbols() -> None:
    wide = tensor(16, 14, 14, 4, 3)
    pointwise = conv_spec("pointwise_conv2d", wide, 8, 8, 4)
    assert pointwise.name == "pw_x4w4y8_p2c4r14k16_umlal14"
    assert pointwise.symbol == "mpq_pw_x4w4y8_p2c4r14k16_umlal14_hcw14x14x16_hcw14x14x8_z3_0"
    pairs = conv_spec("pointwise_conv2d", wide, 8, 8, 8)
    assert pairs.name == "pw_x4w8y8_p4c2r14_pairs"
    depthwise = conv_spec("depthwise_conv2d", wide, 16, 2, 8, (3, 3), (2, 1), (1, 1, 1, 1))
    assert depthwise.name == "dw3x3s2x1_x4w8y2_r1"
    add = KernelSpec("add", (wide, tensor(16, 14, 14, 8)), tensor(16, 14, 14, 2))
    assert add.name == "add_x4x8y2"


def test_equal_symbols_are_equal_kernels() -> None:
    """One C function per symbol: what its name leaves out must not matter."""
    by_symbol: dict[str, KernelSpec] = {}
    for spec in every_spec():
        assert by_symbol.setdefault(spec.symbol, spec) == spec


@given(st.lists(st.integers(1, 4), min_size=5, max_size=5), st.booleans(), st.data())
def test_windows_and_strides_tell_kernels_apart(
    sizes: list[int], dense: bool, data: st.DataObject
) -> None:
    """Two windows or strides may give one output shape; the kernels still differ."""
    height, kernel, other_kernel, stride, other_stride = sizes
    x = tensor(4, height, height, 8)
    specs = []
    for window, step in ((kernel, stride), (other_kernel, other_stride)):
        op = "dense" if dense else "pointwise_conv2d"
        window = window if dense else 1
        extent = 1 if dense else (height - 1) // step + 1
        y = tensor(2, extent, extent, 8)
        specs.append(KernelSpec(op, (x,), y, 8, (window, window), (1, 1) if dense else (step,) * 2))
    first, second = specs
    assert (first.symbol == second.symbol) == (first == second)


def test_unknown_operator_and_width() -> None:
    x = tensor(1, 1, 1, 8)
    with pytest.raises(InvalidValueError, match="'softmax'; allowed are conv2d"):
        KernelSpec("softmax", (x,), x)
    with pytest.raises(InvalidValueError, match="w_bits: 3 bits; allowed are 8, 4 and 2"):
        KernelSpec("conv2d", (x,), x, 3)


def test_packed_sizes_are_the_spec_s() -> None:
    for case in (case for widths in COVERING for case in weighted_cases(widths)):
        assert case.weights.size == case.spec.weight_words, case.spec.symbol
        assert case.icn.size == case.spec.icn_words, case.spec.symbol


@given(st.sampled_from(WIDTHS), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_weights_unpack(bits: int, out: int, inputs: int, depthwise: bool) -> None:
    op = "depthwise_conv2d" if depthwise else "conv2d"
    x = tensor(out if depthwise else inputs, 5, 5, 8)
    spec = conv_spec(op, x, out, 8, bits, (3, 3))
    shape = (out, 1 if depthwise else inputs, 3, 3)
    codes = np.random.default_rng(out).integers(0, 1 << bits, shape).astype(np.uint8)
    assert np.array_equal(unpack_weights(spec, pack_weights(spec, codes), shape), codes)


def test_whole_rows_are_packed_where_scratch_allows() -> None:
    layer = KernelSpec("pointwise_conv2d", (tensor(32, 8, 21, 8),), tensor(8, 8, 21, 4), 8)
    assert largest_pixel_tile(layer, TARGET).pixels == 24  # 21 rounded up to whole tiles


@pytest.mark.parametrize("y_bits", WIDTHS)
def test_tiles_shrink_with_the_scratch_limit(y_bits: int) -> None:
    """Whole output words while they fit, then parts of a word, never half a tile."""
    layer = KernelSpec("pointwise_conv2d", (tensor(64, 8, 64, 8),), tensor(8, 8, 64, y_bits), 8)
    per_word = 32 // y_bits
    seen = []
    for limit in range(16 * 1024, 255, -64):
        spec = largest_pixel_tile(layer, Target("stm32h7", scratch=limit))
        if spec.scratch_bytes > limit:
            break
        assert spec.scratch_bytes <= limit and spec.pixels % PIXEL_TILE == 0
        assert spec.pixels % per_word == 0 or spec.pixels < per_word
        seen.append(spec.pixels)
    assert seen == sorted(seen, reverse=True) and seen[0] == 64 and seen[-1] == PIXEL_TILE


def test_no_tile_fits() -> None:
    layer = KernelSpec("conv2d", (tensor(1200, 9, 9, 8),), tensor(8, 7, 7, 8), 8, (3, 3))
    needed = replace(layer, pixels=PIXEL_TILE).scratch_bytes
    with pytest.raises(
        DoesNotFitError, match=rf"9x9x1200 map needs {needed} .*{needed - 32768} more"
    ):
        choose(layer, TARGET)


def icn_of(channels: int, zw: int, bq: int = 0) -> IcnParams:
    full = np.full
    return IcnParams(
        full(channels, 2**30, np.int32),
        full(channels, -8, np.int8),
        full(channels, bq, np.int32),
        full(channels, zw, np.uint8),
    )


def test_icn_words() -> None:
    """Bq with -Zx * sum(W - Zw), M0, then shift and Zw as halfwords, two channels a word."""
    spec = conv_spec("pointwise_conv2d", tensor(2, 3, 3, 8, 10), 3, 8, 4)
    codes = np.array([[1, 2], [3, 4], [15, 15]], np.uint8).reshape(3, 2, 1, 1)
    words = pack_icn(spec, icn_of(3, 5, 100), codes)
    assert words[:3].tolist() == [100 - 10 * (3 - 10), 100 - 10 * (7 - 10), 100 - 10 * (30 - 10)]
    assert words[3:6].tolist() == [2**30] * 3
    assert [hex(w) for w in words[6:].view(np.uint32)] == ["0x5270527", "0x527"]  # 39, Zw 5


def test_partial_sums_are_proven() -> None:
    """The kernel's unsigned products are larger than Phi; they must fit as well."""
    channels = 2**31 // 255**2 + 1
    codes = np.full((1, channels, 1, 1), 255, np.uint8)
    spec = KernelSpec("dense", (tensor(channels, 1, 1, 8),), tensor(1, 1, 1, 8), 8)
    with pytest.raises(AccumulatorOverflowError, match="kernel fc_x8w8y8.*channel 0.*fewer bits"):
        pack_icn(spec, icn_of(1, 255), codes)
    fits = codes[:, :-2]
    spec = replace(spec, inputs=(tensor(channels - 2, 1, 1, 8),))
    assert pack_icn(spec, icn_of(1, 255), fits).size == spec.icn_words
