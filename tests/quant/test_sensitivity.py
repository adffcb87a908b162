"""Measured damages, and the optimum under byte limits against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.quant.networks import images, plan_of, small_network
from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.quant.bit_program import (
    Limit,
    flash_limit,
    latency_limit,
    leanest_weights,
    paper_plan_text,
    sensitivity_bit_plan,
    two_tensor_limits,
)
from tvm_mpq.quant.bit_search import RamModel, multiplier_saving, uniform_bit_plan
from tvm_mpq.quant.policies import PaperPolicy, SensitivityPolicy
from tvm_mpq.quant.sensitivity import DamageTable, measure_damage
from tvm_mpq.specs import MULTIPLIER_WIDTHS, WEIGHT_WIDTHS, WIDTHS, LayerSpec

pytestmark = pytest.mark.null
NETWORK = small_network()


def chain(*sizes: int) -> list[LayerSpec]:
    """Pointwise layers whose weights have the given sizes and whose maps half of them."""
    names = ["x", *(f"t{i}" for i in range(len(sizes)))]
    maps = [16, *(max(2, size // 2) for size in sizes)]
    return [
        LayerSpec(
            f"l{i}", "pointwise_conv2d", (names[i],), names[i + 1], (maps[i],), maps[i + 1], size, 4
        )
        for i, size in enumerate(sizes)
    ]


def random_damage(layers: list[LayerSpec], seed: int) -> DamageTable:
    generator = np.random.default_rng(seed)

    def costs() -> dict[int, float]:
        first = float(generator.exponential())
        between = first + float(generator.exponential())
        return {4: first, 3: between, 2: between + float(generator.exponential())}

    tensors = [layer.y for layer in layers[:-1]]
    activations = {t: {b: c for b, c in costs().items() if b != 3} for t in tensors}
    return DamageTable({one.name: costs() for one in layers}, activations, 0.0, 1)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(8, 200), min_size=2, max_size=3),
    st.integers(0, 99),
    st.floats(0.3, 1.0),
    st.floats(0.3, 1.0),
    st.sampled_from([WIDTHS, WEIGHT_WIDTHS]),
)
def test_is_the_optimum(
    sizes: list[int], seed: int, flash: float, ram: float, allowed: tuple[int, ...]
) -> None:
    layers, budget = chain(*sizes), int(flash * sum(sizes)) + 70
    damage = random_damage(layers, seed)
    ram_budget = 20 + int(ram * max(sizes))
    limits = [flash_limit(layers, budget, allowed), *two_tensor_limits(layers, ram_budget)]
    keys = [("activations", y.y) for y in layers[:-1]] + [("weights", y.name) for y in layers]
    best = np.inf
    for widths in itertools.product(*(WIDTHS if k == "activations" else allowed for k, _ in keys)):
        chosen = dict(zip(keys, widths, strict=True))
        if all(limit.used(chosen) <= limit.budget for limit in limits):
            tables = {"weights": damage.weights, "activations": damage.activations}
            cost = sum(tables[k][n].get(b, 0.0) for (k, n), b in chosen.items())
            best = min(best, cost)
    if best == np.inf:
        with pytest.raises(DoesNotFitError):
            sensitivity_bit_plan(layers, damage, limits, budget, ram_budget, allowed)
        return
    plan = sensitivity_bit_plan(layers, damage, limits, budget, ram_budget, allowed)
    assert damage.of_plan(plan) == pytest.approx(best, abs=1e-11)
    assert plan.ro_bytes <= budget and plan.rw_bytes <= ram_budget
    assert plan.policy == "sensitivity" and all(cut.from_bits == 8 for cut in plan.cuts)


@settings(deadline=None, max_examples=120)
@given(st.data(), st.floats(-12, 12))
def test_no_tensor_is_narrow_for_nothing(data: st.DataObject, exponent: float) -> None:
    """Against brute force where damages tie: least damage first, then the most bits."""
    sizes = data.draw(st.lists(st.integers(8, 100), min_size=2, max_size=4))
    layers, scale = chain(*sizes), 10.0**exponent
    steps = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 1e-9]), min_size=3, max_size=3)
    tables = {
        one.name: dict(zip((4, 3, 2), np.cumsum(data.draw(steps)) * scale, strict=True))
        for one in layers
    }
    damage = DamageTable(tables, {}, 0.0, 1)
    budget = int(data.draw(st.floats(0.25, 1.0)) * sum(sizes)) + flash_limit(layers, 0).fixed
    limits = [flash_limit(layers, budget, WEIGHT_WIDTHS)]
    limits.append(latency_limit(data.draw(st.integers(3, 12)), {"l0": {8: 6, 4: 3, 3: 9, 2: 3}}))
    ranked = []
    for widths in itertools.product(WEIGHT_WIDTHS, repeat=len(layers)):
        chosen = {("weights", y.name): bits for y, bits in zip(layers, widths, strict=True)}
        if all(limit.used(chosen) <= limit.budget for limit in limits):
            harm = sum(tables[n].get(b, 0.0) for (_, n), b in chosen.items())
            ranked.append((round(harm / scale, 12), -sum(widths)))
    assume(ranked)
    plan = sensitivity_bit_plan(layers, damage, limits, budget, 1 << 40, WEIGHT_WIDTHS)
    found = round(damage.of_plan(plan) / scale, 12), -sum(plan.weights.values())
    assert found == min(ranked)


@pytest.mark.parametrize("budget", [3, 4, 6, 9, 20])
@pytest.mark.parametrize("allowed", [WIDTHS, WEIGHT_WIDTHS])
def test_the_leanest_weights_within_the_limits(budget: int, allowed: tuple[int, ...]) -> None:
    """Against brute force: fewest bytes, then most bits; nothing where the cycles do not allow."""
    layers = chain(40, 3, 24)  # 3 weights take a byte at 2 bits, and two at 3 and at 4
    limit = latency_limit(budget, {"l0": {8: 6, 4: 5, 3: 4, 2: 9}, "l2": {8: 0, 4: 0, 3: 0, 2: 1}})
    flash, ranked = flash_limit(layers, 0, allowed), []
    for widths in itertools.product(allowed, repeat=len(layers)):
        chosen = {("weights", y.name): bits for y, bits in zip(layers, widths, strict=True)}
        if limit.used(chosen) <= limit.budget:
            ranked.append((flash.used(chosen), -sum(widths)))
    found = leanest_weights(layers, [limit], allowed)
    if not ranked:
        assert found is None
        return
    assert found is not None
    used = flash.used({("weights", name): bits for name, bits in found.items()})
    assert (used, -sum(found.values())) == min(ranked)


def test_both_policies_have_a_leanest_plan() -> None:
    layers = chain(40, 30, 24)
    damage = random_damage(layers, 0)
    paper = PaperPolicy(layers, WEIGHT_WIDTHS, (32,)).leanest(100, 30)
    measured = Policy(layers, damage).leanest(100, 30)
    assert paper is not None and measured is not None
    assert set(paper.weights.values()) == {2} and paper.weights == measured.weights
    assert paper.ro_bytes > measured.ro_bytes  # multipliers of 16 bits
    assert paper.rw_bytes <= 30
    too_small = PaperPolicy(layers).leanest(100, 1)
    assert too_small is not None and set(too_small.activations.values()) == {8, 2}
    impossible = latency_limit(0, {"l0": {8: 6, 4: 5, 3: 4, 2: 9}})
    assert Policy(layers, damage, [impossible]).leanest(100, 30) is None


class Policy(SensitivityPolicy):
    """With a made-up damage table in the place of a measured one."""

    def __init__(
        self,
        layers: list[LayerSpec],
        damage: DamageTable,
        limits: list[Limit] | None = None,
        multipliers: tuple[int, ...] = MULTIPLIER_WIDTHS,
    ) -> None:
        super().__init__(layers, NETWORK, images(2), limits=limits or [], multipliers=multipliers)
        self.damage, self.asked = damage, []

    def _measured(self, activations: bool) -> DamageTable:
        self.asked.append(activations)
        table = self.damage
        return table if activations else replace(table, activations={})


def three_at_a_time(layers: list[LayerSpec]) -> RamModel:
    """Any three neighbours of the chain are in memory together."""
    tensors = {"x": layers[0].x_elements[0]} | {one.y: one.y_elements for one in layers}
    names = list(tensors)

    def ram(activations: Mapping[str, int]) -> tuple[int, Mapping[str, int]]:
        sizes = {name: tensors[name] * activations[name] // 8 for name in names}
        windows = [names[i : i + 3] for i in range(len(names) - 2)]
        fullest = max(windows, key=lambda window: sum(sizes[name] for name in window))
        return sum(sizes[name] for name in fullest), {name: sizes[name] for name in fullest}

    return ram


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_cuts_what_fills_the_streamed_memory_at_least_damage(share: float) -> None:
    layers = chain(64, 128, 96, 64, 32)
    model, damage = three_at_a_time(layers), random_damage(layers, 3)
    eight = uniform_bit_plan(layers, 8, 8).activations
    budget = int(share * model(eight)[0])
    policy = Policy(layers, damage)
    plan = policy.plan(10_000, budget, model)
    assert policy.asked == [True] and plan.memory_model == "streamed"
    assert model(plan.activations)[0] <= budget
    assert set(plan.weights.values()) == {8}
    best = np.inf
    names = [one.y for one in layers[:-1]]
    for widths in itertools.product(WIDTHS, repeat=len(names)):
        chosen = eight | dict(zip(names, widths, strict=True))
        if model(chosen)[0] <= budget:
            table = damage.activations
            cost = sum(table[n].get(chosen[n], 0.0) for n in names)
            best = min(best, cost)
    assert damage.of_plan(plan) == pytest.approx(best, abs=1e-11)


def test_latency_is_a_third_budget() -> None:
    layers = chain(64, 128, 96)
    damage = random_damage(layers, 5)
    cycles = {one.name: {8: 70.0, 4: 70.0, 3: 75.0, 2: 50.0} for one in layers}
    for budget, narrow in ((210, 0), (200, 1), (150, 3)):
        policy = Policy(layers, damage, [latency_limit(budget, cycles)])
        plan = policy.plan(10_000, 10_000, three_at_a_time(layers))
        assert list(plan.weights.values()).count(2) == narrow
    with pytest.raises(DoesNotFitError, match="latency: 150 cycles with .*budget is 149, 1 too"):
        policy = Policy(layers, damage, [latency_limit(149, cycles)])
        policy.plan(10_000, 10_000, three_at_a_time(layers))


@pytest.mark.parametrize("loss", [0.0, 1e-3, 50.0])
def test_narrow_multipliers_where_they_pay(loss: float) -> None:
    """The better of both optima; 32 bits of equal ones, and where nothing has to be cut."""
    layers = chain(64, 128, 96)
    table = replace(random_damage(layers, 5), multipliers=loss)
    full, saved = uniform_bit_plan(layers, 8, 8).ro_bytes, multiplier_saving(layers)
    assert saved == 2 * 3 * 4
    for flash in (full, full - saved, full - 70, full - 150):
        plans = {}
        for bits in ((32,), (16,), (32, 16)):
            policy = Policy(layers, table, multipliers=bits)
            plans[bits] = policy.plan(flash, 10_000, three_at_a_time(layers))
            assert plans[bits].ro_bytes <= flash == plans[bits].flash_budget
        wide, narrow, both = plans.values()
        assert not wide.multipliers and set(narrow.multipliers.values()) == {16}
        assert both == (narrow if table.of_plan(narrow) < table.of_plan(wide) else wide)
        assert bool(both.multipliers) == (loss < 1 and flash < full)


def test_narrow_multipliers_where_nothing_else_fits() -> None:
    layers = chain(64, 32)
    smallest, damage = flash_limit(layers, 0).smallest, random_damage(layers, 0)
    plan = Policy(layers, damage).plan(smallest - 16, 10_000, three_at_a_time(layers))
    assert set(plan.multipliers.values()) == {16} and plan.ro_bytes == smallest - 16
    with pytest.raises(
        DoesNotFitError, match=f"smallest budget that would work is {smallest - 16}"
    ):
        Policy(layers, damage).plan(smallest - 17, 10_000, three_at_a_time(layers))


def test_the_paper_takes_narrow_multipliers_only_if_asked() -> None:
    """Where they spare the weights a cut; the accounting of plans without them stays."""
    layers = chain(64, 128, 96)
    full, saved = uniform_bit_plan(layers, 8, 8).ro_bytes, multiplier_saving(layers)
    for flash, taken in ((full, False), (full - saved, True), (full - saved - 1, False)):
        paper = PaperPolicy(layers).plan(flash, 10_000)
        assert not paper.multipliers
        both = PaperPolicy(layers, multipliers=(32, 16)).plan(flash, 10_000)
        assert bool(both.multipliers) == taken and both.ro_bytes <= flash == both.flash_budget
        assert both == paper or set(both.weights.values()) == {8}
        always = PaperPolicy(layers, multipliers=(16,)).plan(flash, 10_000)
        assert set(always.multipliers.values()) == {16}


def test_nothing_is_measured_where_eight_bits_fit() -> None:
    layers = chain(64, 32)
    policy = Policy(layers, random_damage(layers, 0))
    plan = policy.plan(10_000, 10_000, three_at_a_time(layers))
    assert policy.asked == [] and {*plan.weights.values(), *plan.activations.values()} == {8}
    assert policy.compared(plan, 10_000, 10_000) == []


def test_streamed_memory_that_no_widths_satisfy() -> None:
    layers = chain(64, 32)
    with pytest.raises(DoesNotFitError, match="RAM row by row, filled by .*smallest budget"):
        Policy(layers, random_damage(layers, 0)).plan(10_000, 20, three_at_a_time(layers))


def test_infeasible_tells_the_smallest_budgets() -> None:
    layers = chain(100, 40)
    limits = [flash_limit(layers, 50), *two_tensor_limits(layers, 10)]
    with pytest.raises(DoesNotFitError) as caught:
        sensitivity_bit_plan(layers, random_damage(layers, 0), limits, 50, 10)
    text = str(caught.value)
    smallest = limits[0].smallest
    assert f"flash: {smallest} bytes" in text and f"budget is 50, {smallest - 50} too few" in text
    assert f"smallest budget that would work is {smallest} bytes" in text
    assert "RAM of layer l1" in text
    enough = [flash_limit(layers, smallest)]
    plan = sensitivity_bit_plan(layers, random_damage(layers, 0), enough, smallest, 10**6)
    assert set(plan.weights.values()) == {2} and set(plan.activations.values()) == {8}


def test_the_paper_stands_beside_it() -> None:
    layers = chain(100, 40)
    damage = random_damage(layers, 1)
    limits = [flash_limit(layers, 160), *two_tensor_limits(layers, 60)]
    plan = sensitivity_bit_plan(layers, damage, limits, 160, 60)
    rows = paper_plan_text(layers, damage, plan, 160, 60)
    assert [row[0] for row in rows] == ["policy", "sensitivity", "paper"]
    assert float(rows[1][4]) <= float(rows[2][4])


def test_measured_damage_is_cached_and_grows_with_narrowness(tmp_path: Path) -> None:
    cache = tmp_path / "damage.json"
    table = measure_damage(NETWORK, plan_of(NETWORK), images(32, 1), cache)
    assert set(table.weights) == {"c0", "d1", "p2", "p3", "p5", "f7"}
    assert set(table.activations) == {"c0", "d1", "p2", "p3", "a4", "p5"}
    for costs in (*table.weights.values(), *table.activations.values()):
        assert 0 <= costs[4] <= costs[2]
    assert sum(costs[2] for costs in table.weights.values()) > 10 * table.baseline
    written = cache.read_text()
    again = measure_damage(NETWORK, plan_of(NETWORK), images(32, 1), cache)
    assert again == table and cache.read_text() == written
    assert DamageTable.from_json(table.to_json()) == table
    narrow = measure_damage(NETWORK, plan_of(NETWORK), images(32, 1), cache, multipliers=True)
    assert replace(narrow, multipliers=0.0) == table
    assert 0 <= narrow.multipliers < 0.1 * sum(costs[4] for costs in table.weights.values())
    assert "multipliers:all:16" in cache.read_text()
    assert DamageTable.from_json(narrow.to_json()) == narrow
    cache.write_text("{")
    with pytest.raises(InvalidValueError, match="damaged"):
        measure_damage(NETWORK, plan_of(NETWORK), images(32, 1), cache)
