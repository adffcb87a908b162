"""tune_layers: what is measured, in which order, what is kept, and what ends it."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.schedule.layers import FakePlace, candidates_of, depthwise, pointwise
from tvm_mpq._tvm_compat import s_tir
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tuned import LayerClass
from tvm_mpq.micro.measurements import DATABASE_FILE
from tvm_mpq.micro.tuning import tune_layers
from tvm_mpq.schedule.search import StripCostModel, guesses
from tvm_mpq.schedule.space import canonical, design_spaces, kernel_of, points, workload

pytestmark = pytest.mark.null

ALL = 1000


def scratch_cost(spec: KernelSpec) -> int:
    """Cycles that favour the least scratch: never what the estimate would choose."""
    return 1000 + spec.scratch_bytes


@pytest.mark.parametrize("layer", [pointwise(), depthwise()])
def test_the_space_has_every_candidate_once_and_a_family_each(layer: KernelSpec) -> None:
    ranked = candidates_of(canonical(layer))
    module = workload(canonical(layer))
    spaces = design_spaces(canonical(layer), ranked)(s_tir.Schedule(module))
    assert len(spaces) == len({spec.variant for spec in ranked}) > 1
    found = [kernel_of(point.mod) for point in points(module, spaces)]
    assert len(found) == len(ranked) and set(found) == set(ranked)


def test_layers_that_differ_in_what_repeats_are_tuned_together() -> None:
    wide = replace(pointwise(zero_point=7).output, channels=1000)
    layer = replace(pointwise(zero_point=7), output=wide, variant="pairs", rows=4, pixels=4)
    other = replace(pointwise(), output=replace(pointwise().output, channels=200))
    assert canonical(layer) == canonical(other) != canonical(pointwise(16))
    assert canonical(pointwise()) == pointwise()  # few channels stay
    many = replace(depthwise(), inputs=(replace(depthwise().x, channels=512),))
    many = replace(many, output=replace(many.output, channels=512))
    assert canonical(many).x.channels == canonical(many).output.channels == 8


def test_a_module_without_a_decision_is_no_point() -> None:
    with pytest.raises(ValueError, match="no point of a tuning space"):
        kernel_of(workload(canonical(pointwise())))


def test_exhaustive_search_finds_the_fastest(tmp_path: Path) -> None:
    layers = [pointwise(), depthwise()]
    place = FakePlace(scratch_cost)
    result = tune_layers(layers, candidates_of, tmp_path, place, trials=ALL)
    for layer in layers:
        ranked = candidates_of(canonical(layer))
        best = min(ranked, key=scratch_cost)
        record = result.table.records[LayerClass.of(layer)]
        assert record.matches(best) and record.cycles == scratch_cost(best)
        assert result.estimated[LayerClass.of(layer)] == scratch_cost(ranked[0])
    assert result.measured == len(place.ran) == len(set(place.ran))


def test_few_trials_see_every_family_first_and_are_reproducible(tmp_path: Path) -> None:
    layer = canonical(pointwise(16, 8))
    ranked = candidates_of(layer)
    families = len({spec.variant for spec in ranked})
    runs = []
    for name in ("a", "b"):
        place = FakePlace(scratch_cost)
        tune_layers([layer], candidates_of, tmp_path / name, place, trials=families + 2)
        runs.append(place.ran)
    assert runs[0] == runs[1] and runs[0][:families] == guesses(ranked)[:families]
    assert len(runs[0]) == families + 2 < len(ranked)


def test_the_cost_model_learns_what_a_strip_costs() -> None:
    model = StripCostModel()
    layer = replace(pointwise(16, 16), variant="pairs", pixels=16)
    for rows in (1, 4):
        model.learn(replace(layer, rows=rows), 100 + 10 * (16 // rows))
    assert model.seconds(replace(layer, rows=2)) == pytest.approx(180)
    assert model.seconds(replace(layer, variant="u14w4")) == 0  # nothing known


def test_the_cost_model_guides_a_large_space(tmp_path: Path) -> None:
    """Many strips are cheap here, few dear: after two of a family the model knows."""
    layer = canonical(pointwise(128, 16, bits=8))

    def cost(spec: KernelSpec) -> int:
        if not spec.variant:
            return 10**6
        strips = -(-16 // spec.rows) * -(-16 // spec.pixels)
        return 10_000 - 10 * strips

    ranked = candidates_of(layer)
    best = min(ranked, key=cost)
    place = FakePlace(cost)
    result = tune_layers([layer], candidates_of, tmp_path, place, trials=5)
    assert ranked.index(best) > 4 and result.table.records[LayerClass.of(layer)].matches(best)


def test_what_the_database_knows_is_not_measured_again(tmp_path: Path) -> None:
    first = FakePlace(scratch_cost)
    tune_layers([pointwise()], candidates_of, tmp_path, first, trials=3)
    again = FakePlace(scratch_cost)
    result = tune_layers([pointwise()], candidates_of, tmp_path, again, trials=ALL)
    ranked = candidates_of(canonical(pointwise()))
    assert (result.known, result.measured) == (3, len(ranked) - 3)
    assert not set(first.ran) & set(again.ran)
    assert result.table.records[LayerClass.of(pointwise())].matches(min(ranked, key=scratch_cost))


def test_another_network_with_equal_layers_profits(tmp_path: Path) -> None:
    tune_layers([pointwise()], candidates_of, tmp_path, FakePlace(scratch_cost), trials=ALL)
    layers = [depthwise(), pointwise(zero_point=5)]
    place = FakePlace(scratch_cost)
    result = tune_layers(layers, candidates_of, tmp_path, place, trials=ALL)
    assert {spec.op for spec in place.ran} == {"depthwise_conv2d"} and len(
        result.table.records
    ) == 2


def test_a_kernel_that_fails_is_never_chosen(tmp_path: Path) -> None:
    ranked = candidates_of(canonical(pointwise()))
    best = min(ranked, key=scratch_cost)
    place = FakePlace(lambda spec: 0 if spec == best else scratch_cost(spec))
    result = tune_layers([pointwise()], candidates_of, tmp_path, place, trials=ALL)
    assert result.failures == {best.symbol: f"{best.name} faulted"}
    assert not result.table.records[LayerClass.of(pointwise())].matches(best)


def test_ctrl_c_keeps_what_is_measured(tmp_path: Path) -> None:
    def interrupted(spec: KernelSpec) -> int:
        if len(place.ran) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return scratch_cost(spec)

    place = FakePlace(interrupted)
    before = signal.getsignal(signal.SIGINT)
    result = tune_layers([pointwise(), depthwise()], candidates_of, tmp_path, place, trials=ALL)
    assert result.stopped and result.measured == 2
    assert signal.getsignal(signal.SIGINT) == before
    rest = FakePlace(scratch_cost)
    result = tune_layers([pointwise(), depthwise()], candidates_of, tmp_path, rest, trials=ALL)
    assert result.known == 2 and not set(place.ran) & set(rest.ran)


DAMAGES = {
    "a blank line": lambda lines: [lines[0], b"\n", *lines[1:]],
    "a line of blanks at the end": lambda lines: [*lines, b"   \n"],
    "a cut last line": lambda lines: [*lines[:-1], lines[-1][:-30]],
    "no end of line": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "another figure": lambda lines: [lines[0].replace(b'"cycles": ', b'"cycles": 9'), *lines[1:]],
    "deep nesting": lambda lines: [b"[" * 100_000 + b"\n", *lines],
    "another release": lambda lines: [b'[0, [[[], []], [1e-05], {"kind": "c"}, []]]\n', *lines],
    "zeros": lambda lines: [*lines, bytes(4096)],
    "nothing": lambda lines: [],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_lines_are_dropped_and_the_rest_is_known(tmp_path: Path, damage: str) -> None:
    tune_layers([pointwise()], candidates_of, tmp_path, FakePlace(scratch_cost), trials=3)
    (path,) = tmp_path.glob(f"fake-*/{DATABASE_FILE}")
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(DAMAGES[damage](whole)))
    kept = [line for line in whole if line in path.read_bytes()]
    place = FakePlace(scratch_cost)
    result = tune_layers([pointwise()], candidates_of, tmp_path, place, trials=3)
    assert (result.known, result.measured) == (len(kept), 3 - len(kept))
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(whole)


def test_trials_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="trials: 0; expected at least 1"):
        tune_layers([], candidates_of, tmp_path, FakePlace(scratch_cost), trials=0)
