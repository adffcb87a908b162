"""No kernel gets more than 2 % slower than the checked-in baseline, and none loses a bit.

After a change that is meant:
``python -m benchmarks.kernels --json > benchmarks/kernels_baseline.json``
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kernel_networks, kernels
from tvm_mpq.micro.single_layer import measure, random_layer

BASELINE = Path(kernels.__file__).with_name("kernels_baseline.json")
ENTRIES = list(kernels.entries())
# Small layers, one of each family: enough for a quick run.
QUICK = [e for e in ENTRIES if "14x14 192" in e.layer or "s1 14x14" in e.layer]
TOLERANCE = 1.02


def baseline() -> dict[tuple[str, str], int]:
    rows = json.loads(BASELINE.read_text())
    return {(row["layer"], row["kernel"]): row["cycles"] for row in rows}


def check(entry: kernels.Entry, folder: Path) -> None:
    found = measure(random_layer(entry.spec), folder)
    assert found.bit_exact, f"{entry.layer}: {entry.spec.name}"
    compare(entry.layer, entry.spec.name, found.cycles)


def compare(layer: str, kernel: str, cycles: int) -> None:
    known = baseline()[layer, kernel]
    assert cycles <= TOLERANCE * known, (
        f"{layer}: {kernel} takes {cycles} modelled cycles, the baseline has {known};"
        " write a new baseline if this is meant"
    )


@pytest.mark.null
@pytest.mark.parametrize("row", json.loads(BASELINE.read_text()), ids=lambda r: r["layer"])
def test_more_than_two_percent_is_noticed(row: dict[str, Any]) -> None:
    compare(row["layer"], row["kernel"], int(1.019 * row["cycles"]))
    with pytest.raises(AssertionError, match="write a new baseline"):
        compare(row["layer"], row["kernel"], int(1.021 * row["cycles"]) + 1)


@pytest.mark.emu
@pytest.mark.parametrize("entry", QUICK, ids=lambda e: e.spec.name)
def test_quick_layers_keep_their_speed(entry: kernels.Entry, tmp_path: Path) -> None:
    check(entry, tmp_path)


@pytest.mark.emu
@pytest.mark.slow
@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e not in QUICK], ids=lambda e: f"{e.layer} {e.spec.name}"
)
def test_every_layer_keeps_its_speed(entry: kernels.Entry, tmp_path: Path) -> None:
    check(entry, tmp_path)


NETWORKS = [(n, mode) for n in kernel_networks.NETWORKS for mode in kernel_networks.MODES]


@pytest.mark.emu
@pytest.mark.slow
@pytest.mark.parametrize(("network", "mode"), NETWORKS, ids=lambda v: getattr(v, "name", v))
def test_every_network_keeps_its_speed(network: kernel_networks.Network, mode: str) -> None:
    row = kernel_networks.measure(network, mode)
    assert row["bit_exact"]
    compare(row["layer"], row["kernel"], row["cycles"])


@pytest.mark.null
def test_the_baseline_is_bit_exact_and_complete() -> None:
    rows = json.loads(BASELINE.read_text())
    assert all(row["bit_exact"] for row in rows)
    layers = {(e.layer, e.spec.name) for e in ENTRIES}
    networks = {(kernel_networks.label(n, mode), "network") for n, mode in NETWORKS}
    assert layers | networks == set(baseline())
