"""The table of tuned kernels: who answers for which layer, and what is passed over."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.schedule.layers import TARGET, candidates_of, depthwise, pointwise
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.choose import choose
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tuned import SHIPPED, LayerClass, TunedRecord, TunedTable, shipped_table
from tvm_mpq.specs import TensorSpec
from tvm_mpq.target import Target

pytestmark = pytest.mark.null

EMPTY = TunedTable()
WIDE = Target("stm32h7", scratch="64KiB")


def table_of(*specs: KernelSpec) -> TunedTable:
    return TunedTable(TunedRecord.of(spec, 1000) for spec in specs)


def test_a_record_beats_the_estimate() -> None:
    layer = pointwise()
    first, *others = candidates_of(layer)
    assert choose(layer, TARGET, EMPTY) == first
    for other in others:
        assert choose(layer, TARGET, table_of(other)) == other


def test_zero_points_and_output_channels_share_a_record() -> None:
    slow = candidates_of(pointwise())[-1]
    other = pointwise(zero_point=3)
    other = replace(other, output=replace(other.output, channels=20))
    assert choose(other, TARGET, table_of(slow)).variant == slow.variant


def test_the_nearest_class_tells_the_family_and_the_estimate_the_tile() -> None:
    pairs = next(s for s in candidates_of(pointwise(32, 8)) if s.variant == "pairs")
    near, far = pointwise(48, 12), pointwise(128, 8)
    chosen = choose(near, TARGET, table_of(pairs))
    assert choose(near, TARGET, EMPTY).variant == "u14w4" and chosen.variant == "pairs"
    assert chosen == next(s for s in candidates_of(near) if s.variant == "pairs")
    assert choose(far, TARGET, table_of(pairs)) == choose(far, TARGET, EMPTY)


@pytest.mark.parametrize(
    "other",
    [
        pointwise(bits=8),
        replace(pointwise(), strides=(2, 2), output=TensorSpec.of_map(4, 2, 2, 4)),
        depthwise(bits=4),
    ],
)
def test_other_widths_strides_and_operators_do_not(other: KernelSpec) -> None:
    table = table_of(candidates_of(pointwise())[-1])
    assert choose(other, TARGET, table) == choose(other, TARGET, EMPTY)


def test_the_nearest_of_several_wins_and_output_bits_settle_a_draw() -> None:
    def of(channels: int, y_bits: int = 4) -> LayerClass:
        spec = pointwise(channels, 8)
        return LayerClass.of(replace(spec, output=replace(spec.output, bits=y_bits)))

    wanted = of(64)
    assert wanted.distance(wanted) == 0 < wanted.distance(of(64, 8)) < wanted.distance(of(48))
    assert wanted.distance(of(32)) == 1 and wanted.distance(of(31)) == float("inf")


def test_a_tile_that_scratch_cannot_hold_keeps_its_family() -> None:
    layer = pointwise(64, 16, bits=8)
    big = max(
        (s for s in choices(layer, WIDE) if s.variant == "pairs"), key=lambda s: s.scratch_bytes
    )
    assert big.scratch_bytes > TARGET.scratch
    chosen = choose(layer, TARGET, table_of(big))
    assert chosen.variant == "pairs" and chosen.scratch_bytes <= TARGET.scratch


def choices(layer: KernelSpec, target: Target) -> list[KernelSpec]:
    from tvm_mpq.kernels.choose import candidates

    return candidates(layer, target)


def test_an_unknown_family_is_passed_over_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    layer = pointwise()
    record = replace(TunedRecord.of(candidates_of(layer)[0], 9), variant="gone", kernel="pw_gone")
    with caplog.at_level(logging.WARNING):
        assert choose(layer, TARGET, TunedTable([record])) == candidates_of(layer)[0]
    assert "pw_gone ignored" in caplog.text and "no kernel of that family" in caplog.text


def test_save_and_load(tmp_path: Path) -> None:
    table = table_of(candidates_of(pointwise())[1], candidates_of(depthwise())[1])
    table.save(tmp_path / "tuned.json")
    assert TunedTable.load(tmp_path / "tuned.json").records == table.records
    assert len((tmp_path / "tuned.json").read_text().splitlines()) == 4  # one line a record


def test_over_keeps_its_own_records() -> None:
    mine, yours = candidates_of(pointwise())[:2]
    both = table_of(mine).over(table_of(yours, candidates_of(depthwise())[0]))
    assert len(both.records) == 2 and choose(pointwise(), TARGET, both) == mine


def test_records_of_another_cycle_model_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    specs = [candidates_of(layer)[-1] for layer in (pointwise(), pointwise(bits=8))]
    old, board = TunedRecord.of(specs[0], 9, "0"), TunedRecord.of(specs[1], 9, "board")
    TunedTable([old, board]).save(tmp_path / "tuned.json")
    with caplog.at_level(logging.WARNING):
        loaded = TunedTable.load(tmp_path / "tuned.json")
    assert list(loaded.records.values()) == [board]
    assert "1 of 2 records ignored" in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ('{"version": 9, "records": []}', "version 9, expected 1"),
        ('{"version": 1, "records": [{"op": "conv2d"}]}', "'x'"),
        ("[]", "list"),
    ],
)
def test_a_damaged_table_is_rejected(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "tuned.json"
    path.write_text(text)
    with pytest.raises(InvalidValueError, match=f"tuned.json: no table.*{reason}.*tune again"):
        TunedTable.load(path)


@pytest.mark.parametrize(("field", "value"), [("rows", "2"), ("shape", "14"), ("cycles", 1.5)])
def test_a_field_of_the_wrong_type_is_named(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "tuned.json"
    table_of(candidates_of(pointwise())[0]).save(path)
    content = json.loads(path.read_text())
    content["records"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidValueError, match=f"{field}: {value!r}"):
        TunedTable.load(path)


def test_the_shipped_table_is_whole() -> None:
    """Every record in the file is of this cycle model, and of a class of its own."""
    rows = json.loads(SHIPPED.read_text())["records"]
    assert len(shipped_table().records) == len(rows)
