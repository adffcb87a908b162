"""The values that travel: sizes of buffers, and impossible values named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.specs import InputSpec, LayerSpec, TensorSpec, parse_resize

pytestmark = pytest.mark.null


@pytest.mark.parametrize(
    ("tensor", "buffer", "nbytes"),
    [
        (TensorSpec.of_map(3, 5, 9, 8), ((5, 3, 3), "uint32"), 180),
        (TensorSpec.of_map(3, 5, 9, 4), ((5, 3, 2), "uint32"), 120),
        (TensorSpec.of_map(3, 5, 9, 2), ((5, 3, 1), "uint32"), 60),
        (TensorSpec.of_map(17, 1, 1, 2), ((1, 1, 2), "uint32"), 8),
        (TensorSpec(3, 5, 9, 8, 128, "hwc8"), ((5, 27), "uint8"), 135),
        (TensorSpec(7, 1, 1, 32, 0, "logits"), ((1, 7), "int32"), 28),
    ],
)
def test_buffers(tensor: TensorSpec, buffer: tuple, nbytes: int) -> None:
    assert tensor.buffer == buffer and tensor.nbytes == nbytes
    assert tensor.nbytes == tensor.height * tensor.row_bytes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TensorSpec(0, 1, 1, 8), r"shape \(0, 1, 1\); expected positive"),
        (lambda: TensorSpec(1, 2, 2, 3), "TensorSpec.bits: 3 bits; allowed are 8, 4 and 2"),
        (lambda: TensorSpec(1, 2, 2, 2, 4), "zero_point: 4; allowed are 0 to 3"),
        (lambda: TensorSpec(1, 2, 2, 8, 0, "nchw"), "'nchw'; allowed are"),
        (lambda: TensorSpec(1, 2, 2, 8, 0, "vec"), "vec needs a 1x1 map, found 2x2"),
        (lambda: InputSpec(scale=0.0), "scale: 0.0; expected a positive"),
        (lambda: InputSpec(scale=float("nan")), "scale: nan"),
        (lambda: InputSpec(zero_point=256), "zero_point: 256; expected 0 to 255"),
        (lambda: InputSpec(resize="crop"), "'crop': allowed are 'whole' and 'crop:FRACTION'"),
        (lambda: InputSpec.from_range("0,2"), "'0,2': allowed are -1,1, 0,1 and 0,255"),
        (lambda: LayerSpec("l", "add", ("a", "b"), "y", (1,), 1), "l: 2 inputs and 1 input sizes"),
        (lambda: LayerSpec("l", "add", ("a",), "y", (0,), 1), r"l: element counts \(0, 1\)"),
    ],
)
def test_impossible_values(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make()


def test_resize() -> None:
    assert parse_resize("whole") == 0.0 and parse_resize("crop:0.875") == 0.875
    for bad in ("crop:0", "crop:1.1", "crop:x", "half", "crop:nan"):
        with pytest.raises(InvalidValueError, match="resize"):
            parse_resize(bad)


def test_input_specs_map_the_ends_of_the_range() -> None:
    for text, ends in (("-1,1", (-1.0, 1.0)), ("0,1", (0.0, 1.0))):
        spec = InputSpec.from_range(text)
        real = [spec.scale * (code - spec.zero_point) + spec.offset for code in (0, 255)]
        assert real == pytest.approx(ends)
        assert InputSpec(**spec.to_json()) == spec
