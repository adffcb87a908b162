"""The scheduled kernels on the emulated Cortex-M7, bit for bit: the assembly, not its twin."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.kernels.cases import TIGHT, packed_cases, three_bit_cases, window_cases
from tests.kernels.emulated import run_emulated
from tests.kernels.harness import Case, conv_spec, global_avg_pool_case, weighted_case
from tvm_mpq.kernels import planar
from tvm_mpq.kernels.choose import choose
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.specs import WIDTHS, TensorSpec
from tvm_mpq.target import Target

pytestmark = pytest.mark.emu
TARGET = Target("stm32h7")
tensor = TensorSpec.of_map


def check(cases: list[Case], folder: Path) -> None:
    for case, actual in zip(cases, run_emulated(cases, folder), strict=True):
        assert (actual.reshape(-1) == case.expected.reshape(-1)).all(), case.spec.symbol


def test_every_width_and_odd_shapes(tmp_path: Path) -> None:
    cases = []
    for seed, (x, w, y) in enumerate(product(WIDTHS, WIDTHS, WIDTHS)):
        zx, zy = (seed * 7) % (1 << x), (seed * 5) % (1 << y)
        specs = [
            conv_spec("pointwise_conv2d", tensor(13, 3, 7, x, zx), 5, y, w, zy=zy),
            conv_spec("pointwise_conv2d", tensor(40, 5, 14, x), 6, y, w),
            conv_spec("conv2d", tensor(3, 9, 7, x, zx), 5, y, w, (3, 3), (2, 2), (1, 1, 1, 1), zy),
            conv_spec(
                "depthwise_conv2d", tensor(5, 7, 9, x, zx), 5, y, w, (3, 3), (1, 1), (1,) * 4, zy
            ),
            conv_spec(
                "depthwise_conv2d", tensor(3, 8, 18, x, zx), 3, y, w, (3, 3), (2, 2), (0, 0, 1, 1)
            ),
        ]
        cases += [weighted_case(spec, seed) for spec in specs]
    check(cases, tmp_path)


@pytest.mark.parametrize("codes", ["all max", "all zero"])
def test_extreme_codes_over_several_segments_and_chunks(tmp_path: Path, codes: str) -> None:
    cases = []
    for x, w in product(WIDTHS, WIDTHS):
        for channels, width in ((264, 5), (320, 14), (97, 20)):
            spec = conv_spec("pointwise_conv2d", tensor(channels, 2, width, x, 1), 3, x, w)
            cases.append(weighted_case(spec, x + w, codes))
        spec = conv_spec(
            "depthwise_conv2d", tensor(2, 3, 130, x, 1), 2, x, w, (3, 3), (1, 1), (1,) * 4
        )
        cases.append(weighted_case(spec, x + w, codes))
    check(cases, tmp_path)


@pytest.mark.parametrize("codes", ["", "all max", "all zero"], ids=str)
def test_three_bit_weights(tmp_path: Path, codes: str) -> None:
    check(three_bit_cases(codes), tmp_path)


@pytest.mark.parametrize("codes", ["", "all max", "all zero"], ids=str)
def test_depthwise_rows_of_packed_codes(tmp_path: Path, codes: str) -> None:
    cases = packed_cases(codes)
    halves = [planar.call_of(case.spec)[0] == "MPQ_DW_HALVES" for case in cases]
    assert sum(halves) > len(cases) // 2
    check(cases, tmp_path)


def test_windows_by_groups_of_pixels(tmp_path: Path) -> None:
    check(window_cases(), tmp_path)


def test_image_input(tmp_path: Path) -> None:
    image = TensorSpec(3, 9, 11, 8, 128, "hwc8")
    specs = [
        conv_spec("conv2d", image, 7, y, w, (3, 3), (2, 2), (0, 0, 1, 1))
        for y, w in ((8, 8), (4, 4), (2, 2))
    ]
    gray = TensorSpec(1, 12, 10, 8, 3, "hwc8")
    specs.append(conv_spec("conv2d", gray, 4, 8, 8, (5, 5), (1, 1), (2, 2, 2, 2)))
    specs.append(conv_spec("conv2d", image, 4, 8, 8, (2, 2), (1, 1), (0, 0, 0, 0)))
    check([weighted_case(spec, seed) for seed, spec in enumerate(specs)], tmp_path)


def test_strips_that_are_parts_of_a_row(tmp_path: Path) -> None:
    wide = KernelSpec("conv2d", (tensor(150, 3, 40, 8),), tensor(3, 3, 40, 8), 4, (3, 3))
    spec = choose(
        KernelSpec("conv2d", wide.inputs, wide.output, 4, (3, 3), padding=(1,) * 4), TIGHT
    )
    assert spec.variant == "pairs" and spec.pixels < spec.output.width
    check([weighted_case(spec, 1)], tmp_path)


@pytest.mark.parametrize("n0", [-22, -21, -1, 0, 3, 6, 7, 14, 15])
def test_every_range_of_shifts(tmp_path: Path, n0: int) -> None:
    """shift = 31 - n0: the way of the high word ends at 52 and at 32, the low one at 25 and 17."""
    cases = []
    for seed, (x, y) in enumerate(product(WIDTHS, WIDTHS)):
        specs = [
            conv_spec("pointwise_conv2d", tensor(5, 2, 14, x, 1), 3, y, 8, zy=1),
            conv_spec("depthwise_conv2d", tensor(2, 3, 9, x), 2, y, 2, (3, 3), (1, 1), (1,) * 4),
        ]
        cases += [weighted_case(spec, seed, n0=n0) for spec in specs]
    check(cases, tmp_path)


def depthwise_cases() -> list[Case]:
    """Both families, passes of every size, borders on either side, extreme zero points."""
    same, after = (1, 1, 1, 1), (0, 0, 1, 1)
    shapes = [((7, 7), 1, same), ((5, 14), 1, same), ((4, 28), 1, same), ((3, 12), 1, after)]
    shapes += [((14, 14), 2, after), ((7, 14), 2, same), ((5, 28), 2, after), ((5, 27), 2, same)]
    cases = []
    for seed, ((x, w, y), index) in enumerate(
        (bits, index)
        for i, bits in enumerate(product(WIDTHS, WIDTHS, WIDTHS))
        for index in (i % len(shapes), (3 * i + 1) % len(shapes), (5 * i + 2) % len(shapes))
    ):
        size, stride, padding = shapes[index]
        zx, zy = (0, (1 << x) - 1)[seed % 2], (0, (1 << y) - 1)[seed // 2 % 2]
        spec = conv_spec(
            *("depthwise_conv2d", tensor(3, *size, x, zx), 3, y, w, (3, 3), (stride, stride)),
            *(padding, zy),
        )
        cases.append(weighted_case(spec, seed, ["", "all max", "all zero"][seed // 4 % 3]))
    assert {case.spec.variant for case in cases} == {"planar", "lanes"}
    return cases


def test_depthwise_shapes(tmp_path: Path) -> None:
    check(depthwise_cases(), tmp_path)


def test_dead_channels(tmp_path: Path) -> None:
    """Scales so small that every sum gives one code, or nearly every: neither overflows a core."""
    cases = []
    for seed, (x, w) in enumerate(product(WIDTHS, WIDTHS)):
        for n0 in (-32, -26, -24):
            spec = conv_spec(
                "depthwise_conv2d", tensor(4, 3, 7, x, 1), 4, x, w, (3, 3), (1, 1), (1,) * 4, 1
            )
            cases.append(weighted_case(spec, seed, n0=n0))
    check(cases, tmp_path)


@pytest.mark.parametrize("codes", ["", "all max", "all zero"])
def test_dense_and_pools(tmp_path: Path, codes: str) -> None:
    """Odd lengths, more channels than a tile, lines of one word and of several."""
    cases = []
    for seed, (x, w) in enumerate(product(WIDTHS, WIDTHS)):
        for inputs, channels in ((1, 1), (17, 9), (70, 6)):
            spec = conv_spec("dense", tensor(inputs, 1, 1, x, 1), channels, 8, w, zy=2)
            cases.append(weighted_case(spec, seed, codes))
    for seed, (x, size) in enumerate(product(WIDTHS, ((7, 7), (3, 5), (2, 40)))):
        spec = KernelSpec("global_avg_pool", (tensor(21, *size, x, 1),), tensor(21, 1, 1, x, 1))
        cases.append(global_avg_pool_case(spec, seed))
    check(cases, tmp_path)
