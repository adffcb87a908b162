"""16-bit multipliers: every family with weights equals numpy, on the host and on the emulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.kernels.cases import (
    ALL_WIDTHS,
    COVERING,
    packed_cases,
    row_cases,
    special_cases,
    three_bit_cases,
    weighted_cases,
)
from tests.kernels.emulated import run_emulated
from tests.kernels.harness import (
    Case,
    build_host,
    conv_spec,
    run_host,
    run_in_bands,
    stored,
    weighted_case,
)
from tests.kernels.test_lanes import ARRANGEMENTS, sweep
from tests.kernels.test_scheduled_emulator import depthwise_cases
from tvm_mpq._tvm_compat import IRModule, tvm
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.layout import pack_map, unpack_map
from tvm_mpq.kernels.pack import pack_icn
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.quant.icn import IcnParams
from tvm_mpq.specs import TensorSpec

tensor = TensorSpec.of_map


def narrow(spec: KernelSpec) -> KernelSpec:
    """The same kernel with 16-bit multipliers."""
    return replace(spec, multiplier_bits=16)


def narrow_cases(cases: list[Case], n0: int | None = None) -> list[Case]:
    """The layers of ``cases`` that have weights, with 16-bit multipliers and new operands."""
    specs = [case.spec for case in cases if case.spec.w_bits]
    return [weighted_case(narrow(spec), seed, n0=n0) for seed, spec in enumerate(specs)]


def every_family() -> list[Case]:
    """Plain, pairs, lanes, planar and lanes depthwise, dense to codes and to logits."""
    covering = [case for widths in COVERING[::4] for case in weighted_cases(widths)]
    cases = narrow_cases(
        [*covering, *three_bit_cases()[::5], *special_cases()[:4], *packed_cases()[::3]]
    )
    for arrangement in ARRANGEMENTS:
        cases += [weighted_case(narrow(c.spec), i) for i, c in enumerate(sweep(*arrangement)[:2])]
    variants = {case.spec.variant for case in cases}
    assert variants == {"", "pairs", "planar", "lanes", "u14w4", "u15w2", "u10w2", "u14w8"}
    return cases


@pytest.mark.null
def test_names_end_in_the_form() -> None:
    wide = conv_spec("pointwise_conv2d", tensor(16, 14, 14, 4, 3), 8, 8, 4)
    assert narrow(wide).name == wide.name + "_m16" == "pw_x4w4y8_p2c4r14k16_umlal14_m16"
    assert narrow(wide).symbol != wide.symbol
    assert KernelSpec.from_json(narrow(wide).to_json()) == narrow(wide)


@pytest.mark.null
def test_packed_words() -> None:
    """Bq, then M0's high half above Zw and the shift; two bytes a channel fewer."""
    wide = conv_spec("pointwise_conv2d", tensor(2, 3, 3, 8), 3, 8, 4)
    codes = np.array([[1, 2], [3, 4], [15, 15]], np.uint8).reshape(3, 2, 1, 1)
    m0, n0 = np.array([0x4ABC0000, -0x40010000, 0x7FFF0000]), np.array([-8, 0, -1])
    zw = np.array([5, 15, 0], np.uint8)
    icn = IcnParams(m0.astype(np.int32), n0.astype(np.int8), np.array([100, -7, 0], np.int32), zw)
    words = pack_icn(narrow(wide), icn, codes)
    assert words[:3].tolist() == [100, -7, 0]
    assert [hex(w) for w in words[3:].view(np.uint32)] == ["0x4abc0527", "0xbfff0f1f", "0x7fff0020"]
    assert len(words) == narrow(wide).icn_words == wide.icn_words - 2  # 3 channels and a gap


@pytest.mark.null
def test_more_bits_than_are_kept() -> None:
    spec = narrow(conv_spec("pointwise_conv2d", tensor(2, 3, 3, 8), 1, 8, 4))
    icn = IcnParams(
        *(np.array([v], t) for v, t in ((2**30 + 1, np.int32), (0, np.int8), (0, np.int32))),
        np.zeros(1, np.uint8),
    )
    with pytest.raises(InvalidValueError, match="_m16, output channel 0: M0 is 1073741825; "):
        pack_icn(spec, icn, np.zeros((1, 2, 1, 1), np.uint8))
    with pytest.raises(InvalidValueError, match="multiplier_bits: 8 bits; allowed are 32 and 16"):
        replace(spec, multiplier_bits=8)
    with pytest.raises(InvalidValueError, match="multiplier_bits"):
        KernelSpec("max_pool2d", spec.inputs, spec.output, multiplier_bits=16)


@pytest.mark.cc
@pytest.mark.parametrize(
    "spec",
    [
        conv_spec("pointwise_conv2d", tensor(13, 3, 7, 8, 5), 5, 8, 4),
        conv_spec("dense", tensor(29, 1, 1, 8, 5), 11, 8, 4),
        conv_spec("depthwise_conv2d", tensor(5, 7, 9, 8, 9), 5, 8, 8, (3, 3), (1, 1), (1,) * 4),
    ],
    ids=lambda spec: spec.op,
)
def test_untensorized_equals_the_reference(spec: KernelSpec) -> None:
    case = weighted_case(narrow(spec), 3)
    built = tvm.compile(IRModule({case.spec.symbol: primfunc(case.spec)}), target="llvm")
    shape, dtype = spec.output.buffer
    y = tvm.runtime.tensor(np.zeros(shape, dtype))
    x = pack_map(stored(case.inputs[0], spec.x), spec.x)
    weights = case.weights.reshape(-1) if spec.op == "depthwise_conv2d" else case.weights
    operands = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in (x, weights, case.icn)]
    built[case.spec.symbol](*operands, spec.x.height, shape[0], 0, spec.output.height, y)
    actual = unpack_map(y.numpy(), spec.output)
    assert (actual.reshape(-1) == case.expected.reshape(-1)).all()


@pytest.mark.cc
def test_every_family_on_the_host(tmp_path: Path) -> None:
    cases = every_family()
    library = build_host([case.spec for case in cases], tmp_path)
    for case in cases:
        actual = run_host(library, case)
        assert np.array_equal(actual.reshape(-1), case.expected.reshape(-1)), case.spec.symbol


@pytest.mark.cc
def test_bands_on_the_host(tmp_path: Path) -> None:
    cases = narrow_cases(row_cases())
    library = build_host([case.spec for case in cases], tmp_path)
    for case in cases:
        assert np.array_equal(run_in_bands(library, case, 3), case.expected), case.spec.symbol


def check_emulated(cases: list[Case], folder: Path) -> None:
    for case, actual in zip(cases, run_emulated(cases, folder), strict=True):
        assert (actual.reshape(-1) == case.expected.reshape(-1)).all(), case.spec.symbol


@pytest.mark.emu
def test_every_family_on_the_emulator(tmp_path: Path) -> None:
    check_emulated(every_family(), tmp_path)


@pytest.mark.emu
def test_depthwise_on_the_emulator(tmp_path: Path) -> None:
    check_emulated(narrow_cases(depthwise_cases()[::2]), tmp_path)


@pytest.mark.emu
@pytest.mark.parametrize("n0", [-32, -22, -21, -1, 0, 6, 15])
def test_every_range_of_shifts(tmp_path: Path, n0: int) -> None:
    """The way of the high word, the low one, the exact one, and channels with one code."""
    check_emulated(narrow_cases(weighted_cases(ALL_WIDTHS[n0 % 27])[:7], n0=n0), tmp_path)
