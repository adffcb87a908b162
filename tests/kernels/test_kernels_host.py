"""Every kernel, every combination of widths, odd shapes: numpy reference = C on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kernels.cases import (
    ALL_WIDTHS,
    Widths,
    packed_cases,
    row_cases,
    shift_cases,
    special_cases,
    three_bit_cases,
    weighted_cases,
    weightless_cases,
    window_cases,
)
from tests.kernels.harness import Case, build_host, run_host, run_in_bands

pytestmark = pytest.mark.cc


def check(cases: list[Case], folder: Path) -> None:
    library = build_host([case.spec for case in cases], folder)
    for case in cases:
        actual = run_host(library, case)
        assert np.array_equal(actual.reshape(-1), case.expected.reshape(-1)), case.spec.symbol


@pytest.mark.parametrize("widths", ALL_WIDTHS, ids=lambda w: "x{}w{}y{}".format(*w))
def test_kernels_with_weights(widths: Widths, tmp_path: Path) -> None:
    check(weighted_cases(widths), tmp_path)


@pytest.mark.parametrize("codes", ["", "all max", "all zero"], ids=str)
def test_three_bit_weights(codes: str, tmp_path: Path) -> None:
    check(three_bit_cases(codes), tmp_path)


def test_kernels_without_weights(tmp_path: Path) -> None:
    check(weightless_cases(), tmp_path)


def test_image_input_and_narrow_tiles(tmp_path: Path) -> None:
    check(special_cases(), tmp_path)


@pytest.mark.parametrize("codes", ["", "all max", "all zero"], ids=str)
def test_depthwise_rows_of_packed_codes(codes: str, tmp_path: Path) -> None:
    check(packed_cases(codes), tmp_path)


def test_windows_by_groups_of_pixels(tmp_path: Path) -> None:
    check(window_cases(), tmp_path)


def test_adds_of_every_shift(tmp_path: Path) -> None:
    check(shift_cases(), tmp_path)


def test_bands_from_rings_give_the_whole_tensor(tmp_path: Path) -> None:
    """Bands of 1 and 3 rows, each from a ring of exactly the rows that it needs."""
    cases = row_cases()
    library = build_host([case.spec for case in cases], tmp_path)
    for case in cases:
        for rows in (1, 3):
            actual = run_in_bands(library, case, rows)
            assert np.array_equal(actual, case.expected), (case.spec.symbol, rows)


def test_add_in_place(tmp_path: Path) -> None:
    """The output over the first input: each word is read before it is stored."""
    import ctypes

    from tests.kernels.harness import Band, add_case, call
    from tvm_mpq.kernels.layout import pack_map, unpack_map
    from tvm_mpq.kernels.spec import KernelSpec
    from tvm_mpq.specs import TensorSpec

    a, b, y = (TensorSpec.of_map(3, 4, 19, bits, 1) for bits in (4, 8, 4))
    case = add_case(KernelSpec("add", (a, b), y), 5)
    library: ctypes.CDLL = build_host([case.spec], tmp_path)
    first, second = (pack_map(m, t) for m, t in zip(case.inputs, (a, b), strict=True))
    call(library, case, [first, second], first, Band(0, 4))
    assert np.array_equal(unpack_map(first, y), case.expected)
