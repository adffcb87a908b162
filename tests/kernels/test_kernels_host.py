"""Every kernel, every combination of widths, odd shapes: numpy reference = C on the host."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.kernels.harness import (
    Case,
    add_case,
    build_host,
    concat_case,
    conv_spec,
    global_avg_pool_case,
    max_pool_case,
    run_host,
    weighted_case,
)
from tvm_mpq.kernels.choose import choose
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.specs import WIDTHS, TensorSpec
from tvm_mpq.target import Target

pytestmark = pytest.mark.cc
TARGET = Target("stm32h7")
tensor = TensorSpec.of_map


def all_cases() -> list[Case]:
    """The covering set: 27 width combinations for each weighted kernel, and the rest."""
    cases = []
    for seed, (x, w, y) in enumerate(product(WIDTHS, WIDTHS, WIDTHS)):
        zx, zy = seed % (1 << x), (seed // 2) % (1 << y)
        specs = [
            conv_spec("pointwise_conv2d", tensor(13, 3, 7, x), 5, y, w),
            conv_spec("pointwise_conv2d", tensor(37, 2, 17, x, zx), 6, y, w, strides=(2, 2), zy=zy),
            conv_spec("conv2d", tensor(3, 9, 7, x, zx), 5, y, w, (3, 3), (2, 2), (1, 1, 1, 1), zy),
            conv_spec("conv2d", tensor(5, 6, 5, x, zx), 2, y, w, (2, 3), (1, 1), (0, 1, 1, 1)),
            conv_spec(
                "depthwise_conv2d", tensor(5, 7, 9, x, zx), 5, y, w, (3, 3), (1, 1), (1,) * 4
            ),
            conv_spec(
                "depthwise_conv2d", tensor(3, 8, 18, x), 3, y, w, (3, 3), (2, 2), (0, 0, 1, 1), zy
            ),
            conv_spec("depthwise_conv2d", tensor(9, 3, 3, x, zx), 9, y, w, (3, 3)),
            conv_spec("dense", tensor(29, 1, 1, x, zx), 11, y, w, zy=zy),
            conv_spec("dense", tensor(5, 3, 4, x, zx), 3, y, w, (3, 4)),
        ]
        cases += [weighted_case(spec, seed) for spec in specs]
        logits = KernelSpec(
            "dense", (tensor(19, 1, 1, x, zx),), TensorSpec(7, 1, 1, 32, 0, "logits"), w
        )
        cases.append(weighted_case(logits, seed))
        a, b = tensor(3, 4, 9, x, zx), tensor(3, 4, 9, w, (1 << w) - 1)
        cases.append(add_case(KernelSpec("add", (a, b), tensor(3, 4, 9, y, zy)), seed))
        a, b = tensor(2, 4, 9, x, zx), tensor(3, 4, 9, w)
        cases.append(concat_case(KernelSpec("concat", (a, b), tensor(5, 4, 9, y, zy)), seed))
    for x, y in product(WIDTHS, WIDTHS):
        spec = KernelSpec("global_avg_pool", (tensor(21, 3, 5, x, 1),), tensor(21, 1, 1, y, 1))
        cases.append(global_avg_pool_case(spec, x * y))
    for x in WIDTHS:
        for window, pad in (((2, 2), (0, 0, 0, 0)), ((3, 3), (1, 1, 1, 1))):
            spec = conv_spec("max_pool2d", tensor(3, 8, 11, x), 3, x, 0, window, (2, 2), pad)
            cases.append(max_pool_case(spec, x))
    return cases + special_cases()


def special_cases() -> list[Case]:
    """The image as input, tiles narrower than a row and than an output word, vector shapes."""
    image = TensorSpec(3, 9, 11, 8, 128, "hwc8")
    specs = [
        conv_spec("conv2d", image, 7, y, w, (3, 3), (2, 2), (0, 0, 1, 1))
        for y, w in ((8, 8), (4, 4), (2, 2))
    ]
    wide = tensor(150, 3, 40, 8)
    for y in WIDTHS:
        layer = KernelSpec("conv2d", (wide,), tensor(3, 3, 40, y), 4, (3, 3), padding=(1,) * 4)
        specs.append(choose(layer, TARGET))
        narrow = tensor(420, 3, 13, 8)
        layer = KernelSpec("conv2d", (narrow,), tensor(2, 3, 13, y), 8, (3, 3), padding=(1,) * 4)
        specs.append(choose(layer, TARGET))
    assert any(0 < s.pixels < s.output.codes_per_word < s.output.width for s in specs)
    return [weighted_case(spec, seed) for seed, spec in enumerate(specs)]


def test_every_kernel_equals_the_reference(tmp_path: Path) -> None:
    cases = all_cases()
    library = build_host([case.spec for case in cases], tmp_path)
    for case in cases:
        actual = run_host(library, case)
        assert (actual.reshape(-1) == case.expected.reshape(-1)).all(), case.spec.symbol
