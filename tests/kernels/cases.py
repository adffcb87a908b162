"""The covering set of layers: 27 combinations of widths for each weighted kernel, odd shapes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from tests.kernels.harness import (
    TARGET,
    Case,
    add_case,
    concat_case,
    conv_spec,
    global_avg_pool_case,
    max_pool_case,
    weighted_case,
)
from tvm_mpq.kernels.choose import choose
from tvm_mpq.kernels.reference import AddParams
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.specs import WIDTHS, TensorSpec
from tvm_mpq.target import Target

Widths = tuple[int, int, int]
ALL_WIDTHS: list[Widths] = list(product(WIDTHS, WIDTHS, WIDTHS))
# Each width of x, w and y with each other one, in nine of the 27 combinations.
COVERING: list[Widths] = [
    (x, w, WIDTHS[(i + j) % 3]) for i, x in enumerate(WIDTHS) for j, w in enumerate(WIDTHS)
]
tensor = TensorSpec.of_map
TIGHT = Target("stm32h7", scratch="16KiB")  # so that layers of a test's size need narrow tiles


def weighted_cases(widths: Widths) -> list[Case]:
    """Every kernel with weights for one combination of widths."""
    x, w, y = widths
    seed = ALL_WIDTHS.index(widths)
    zx, zy = seed % (1 << x), (seed // 2) % (1 << y)
    one, same = (1, 1), (1, 1, 1, 1)
    logits = KernelSpec(
        "dense", (tensor(19, 1, 1, x, zx),), TensorSpec(7, 1, 1, 32, 0, "logits"), w
    )
    specs = [
        conv_spec("pointwise_conv2d", tensor(13, 3, 7, x), 5, y, w),
        conv_spec("pointwise_conv2d", tensor(37, 2, 17, x, zx), 6, y, w, strides=(2, 2), zy=zy),
        conv_spec("conv2d", tensor(3, 9, 7, x, zx), 5, y, w, (3, 3), (2, 2), same, zy),
        conv_spec("conv2d", tensor(5, 6, 5, x, zx), 2, y, w, (2, 3), one, (0, 1, 1, 1)),
        conv_spec("depthwise_conv2d", tensor(5, 7, 9, x, zx), 5, y, w, (3, 3), one, same),
        conv_spec("depthwise_conv2d", tensor(3, 8, 18, x), 3, y, w, (3, 3), (2, 2), (0, 0, 1, 1)),
        conv_spec("depthwise_conv2d", tensor(9, 3, 3, x, zx), 9, y, w, (3, 3)),
        conv_spec("dense", tensor(29, 1, 1, x, zx), 11, y, w, zy=zy),
        conv_spec("dense", tensor(5, 3, 4, x, zx), 3, y, w, (3, 4)),
        conv_spec("dense", tensor(6, 2, 2, x, zx), 5, y, w, (3, 3), (2, 2), same, zy),
        logits,
    ]
    return [weighted_case(spec, seed) for spec in specs]


def three_bit_cases(codes: str = "") -> list[Case]:
    """Pointwise and dense layers with 3-bit weights: odd channels, several chunks, maps, logits."""
    cases = []
    for seed, (x, y) in enumerate(product(WIDTHS, WIDTHS)):
        zx, zy = seed % (1 << x), seed % (1 << y)
        specs = [
            conv_spec("pointwise_conv2d", tensor(channels, 3, width, x, zx), 5, y, 3, zy=zy)
            for channels, width in ((13, 7), (40, 14), (273, 5))
        ]
        specs += [
            conv_spec("dense", tensor(29, 1, 1, x, zx), 11, y, 3, zy=zy),
            conv_spec("dense", tensor(5, 3, 4, x, zx), 3, y, 3, (3, 4)),
            conv_spec("dense", tensor(6, 2, 2, x, zx), 5, y, 3, (3, 3), (2, 2), (1,) * 4, zy),
        ]
        cases += [weighted_case(spec, seed, codes) for spec in specs]
    logits = TensorSpec(7, 1, 1, 32, 0, "logits")
    layer = KernelSpec("dense", (tensor(300, 1, 1, 8, 5),), logits, 3)
    return [*cases, weighted_case(choose(layer, TARGET), 0, codes)]


def weightless_cases() -> list[Case]:
    """Add and concat of all widths, on maps and vectors; pools."""
    cases = []
    for seed, (x, w, y) in enumerate(ALL_WIDTHS):
        zx, zy = seed % (1 << x), (seed // 2) % (1 << y)
        sizes = [(4, 9), (1, 1)] if (x, w, y) in COVERING else [(4, 9)]
        for height, width in sizes:
            a, b = tensor(3, height, width, x, zx), tensor(3, height, width, w, (1 << w) - 1)
            spec = KernelSpec("add", (a, b), tensor(3, height, width, y, zy))
            cases.append(add_case(spec, seed))
            a, b = tensor(5, height, width, x, zx), tensor(7, height, width, w)
            spec = KernelSpec("concat", (a, b), tensor(12, height, width, y, zy))
            cases.append(concat_case(spec, seed))
    for x, y in product(WIDTHS, WIDTHS):
        for size in ((3, 5), (1, 1)):
            spec = KernelSpec("global_avg_pool", (tensor(21, *size, x, 1),), tensor(21, 1, 1, y, 1))
            cases.append(global_avg_pool_case(spec, x * y))
    for x in WIDTHS:
        for size, window, pad in (((8, 11), 2, 0), ((8, 11), 3, 1), ((2, 2), 2, 0)):
            spec = conv_spec(
                "max_pool2d", tensor(3, *size, x), 3, x, 0, (window, window), (2, 2), (pad,) * 4
            )
            cases.append(max_pool_case(spec, x))
    return cases


def shift_cases() -> list[Case]:
    """Adds with the extremes of M and of the shift, few of which fit the words of the fast way."""
    top, cases = 2**31 - 1, []
    a, b, y = tensor(2, 3, 9, 8, 200), tensor(2, 3, 9, 8, 3), tensor(2, 3, 9, 8, 255)
    extremes = ((top, -top), (top - 2**15, top - 2**15), (-top - 1, 2**30), (2**15, -(2**15)))
    for shift, m, nearest in product((0, 1, 15, 16, 17, 31, 38, 39, 63), extremes, (0, 1)):
        zy = (shift * 37) % 256
        spec = KernelSpec("add", (a, b), replace(y, zero_point=zy))
        cases.append(add_case(spec, shift, AddParams(m, shift, nearest)))
    return cases


def special_cases() -> list[Case]:
    """The image as input, tiles narrower than a row and than an output word."""
    image = TensorSpec(3, 9, 11, 8, 128, "hwc8")
    specs = [
        conv_spec("conv2d", image, 7, y, w, (3, 3), (2, 2), (0, 0, 1, 1))
        for y, w in ((8, 8), (4, 4), (2, 2))
    ]
    wide, narrow = tensor(150, 3, 40, 8), tensor(420, 3, 13, 8)
    for y in WIDTHS:
        layer = KernelSpec("conv2d", (wide,), tensor(3, 3, 40, y), 4, (3, 3), padding=(1,) * 4)
        specs.append(choose(layer, TIGHT))
        layer = KernelSpec("conv2d", (narrow,), tensor(2, 3, 13, y), 8, (3, 3), padding=(1,) * 4)
        specs.append(choose(layer, TIGHT))
    assert any(0 < s.pixels < s.output.codes_per_word < s.output.width for s in specs)
    return [weighted_case(spec, seed) for seed, spec in enumerate(specs)]


def window_cases() -> list[Case]:
    """Windows of three at stride 1, rows of whole groups of pixels; lines that end in a word."""
    same, more = (1, 1, 1, 1), (1, 1, 1, 3)
    specs = []
    for x, (width, padding) in product(WIDTHS, ((16, same), (28, same), (18, more), (14, same))):
        map_ = tensor(4, 5, width, x, 1)
        specs.append(conv_spec("conv2d", map_, 3, 8, 4, (3, 3), (1, 1), padding))
    map_ = tensor(5, 4, 16, 8, 9)  # an odd number of channels
    specs.append(conv_spec("conv2d", map_, 3, 8, 8, (3, 3), (1, 1), same))
    for bits in WIDTHS:
        layer = KernelSpec(
            "conv2d", (tensor(150, 3, 40, bits, 1),), tensor(2, 3, 40, 8), 4, (3, 3), padding=same
        )
        specs.append(choose(layer, TIGHT))
    return [weighted_case(spec, seed) for seed, spec in enumerate(specs)]


def packed_cases(codes: str = "") -> list[Case]:
    """Depthwise rows that are read without unpacking them: 7 and 14 outputs at stride 2."""
    paddings = ((0, 0, 1, 1), (1, 1, 0, 0), (1, 1, 1, 1), (0, 0, 0, 0))
    cases = []
    for seed, (x, w, y) in enumerate(product((4, 2), WIDTHS, WIDTHS)):
        zx, zy = (seed * 7 + 1) % (1 << x), (seed * 5) % (1 << y)
        for i, width in enumerate((14, 28, 15, 13)):
            top, left, bottom, right = paddings[(seed + i) % 4]
            if width == 15 or (width + left + right - 3) // 2 + 1 not in (7, 14):
                left, right = (0, 0) if width == 15 else (1, 1 if width % 2 else 0)
            padding = (top, left, bottom, right)
            map_ = tensor(3, 6 + seed % 2, width, x, zx)
            spec = conv_spec("depthwise_conv2d", map_, 3, y, w, (3, 3), (2, 2), padding, zy)
            cases.append(weighted_case(spec, seed, codes))
    return cases


def row_cases() -> list[Case]:
    """Kernels that make bands of rows, with and without padding and strides."""
    same = (1, 1, 1, 1)
    image = TensorSpec(3, 9, 11, 8, 128, "hwc8")
    specs = [
        conv_spec("conv2d", image, 4, 4, 8, (3, 3), (2, 2), (0, 0, 1, 1)),
        conv_spec("conv2d", tensor(3, 9, 7, 4, 5), 3, 8, 4, (3, 3), (1, 1), same, 1),
        conv_spec("conv2d", tensor(3, 10, 7, 8), 3, 2, 2, (5, 3), (2, 1), (2, 1, 2, 1)),
        conv_spec("pointwise_conv2d", tensor(9, 7, 5, 2, 1), 4, 4, 8),
        conv_spec("pointwise_conv2d", tensor(9, 7, 5, 8), 4, 8, 4, strides=(2, 2)),
        conv_spec("depthwise_conv2d", tensor(4, 8, 9, 4, 3), 4, 4, 4, (3, 3), (1, 1), same),
        conv_spec("depthwise_conv2d", tensor(4, 8, 9, 8, 9), 4, 2, 2, (3, 3), (2, 2), (0, 0, 1, 1)),
        conv_spec("depthwise_conv2d", tensor(4, 9, 14, 4, 9), 4, 2, 4, (3, 3), (2, 2), same),
        conv_spec(
            "depthwise_conv2d", tensor(4, 8, 28, 2, 1), 4, 4, 2, (3, 3), (2, 2), (0, 0, 1, 1)
        ),
    ]
    cases = [weighted_case(spec, seed) for seed, spec in enumerate(specs)]
    a, b = tensor(3, 7, 9, 8, 7), tensor(3, 7, 9, 4, 2)
    cases.append(add_case(KernelSpec("add", (a, b), tensor(3, 7, 9, 4, 1)), 1))
    a, b = tensor(2, 7, 9, 2, 1), tensor(3, 7, 9, 8)
    cases.append(concat_case(KernelSpec("concat", (a, b), tensor(5, 7, 9, 4, 1)), 2))
    for window, pad in ((2, 0), (3, 1)):
        spec = conv_spec(
            "max_pool2d", tensor(3, 9, 11, 4), 3, 4, 0, (window,) * 2, (2, 2), (pad,) * 4
        )
        cases.append(max_pool_case(spec, 3))
    return cases
