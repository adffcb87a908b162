"""Report: the table for people and the object for programs hold the same figures."""

from __future__ import annotations

import json

import pytest

from tvm_mpq.description import Description
from tvm_mpq.micro.profiling import LayerCost, NetworkProfile
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.report.profile import profile_text
from tvm_mpq.report.tables import Report
from tvm_mpq.specs import InputSpec

pytestmark = pytest.mark.null


def layer(name: str, kernel: str, w_bits: int, macs: int) -> dict:
    return {
        "name": name, "kernel": kernel, "inputs": [[3, 4, 5]], "output": [8, 2, 2],
        "symbol": f"kernel_{name}", "constant": "",
        "x_bits": [8], "w_bits": w_bits, "y_bits": 4, "macs": macs, "weight_bytes": 1234,
        "side_bytes": 80, "output_bytes": 64, "scratch_bytes": 8,
        "stage": 0, "order": "row by row", "ring_rows": 2,
    }  # fmt: skip


KERNEL = "conv3x3s2_x8w4y4_p4c2_smlad"


@pytest.fixture()
def report() -> Report:
    layers = [layer("conv2d_0", KERNEL, 4, 1_000_000), layer("gap_1", "gap_x4y4", 0, 0)]
    plan = BitPlan({"x": 8}, {"conv2d_0": 4}, (), 2628, 124, 9999, 9999, "paper", "paper")
    content = {
        "description_version": 1,
        "input_spec": InputSpec().to_json(),
        "input_shape": [4, 5, 3],
        "input_row": {"bytes": 15, "rows": 4},
        "classes": 8,
        "logits_scale": 0.5,
        "rounding": "nearest",
        "layers": layers,
        "plan": plan.to_json(),
        "bits": {"activations": "4", "weights": "4"},
        "arena": [["region"], ["AXI_SRAM"]],
        "stages": [
            ["stage"],
            *(["0", name, "", "", "640"] for name in ("conv2d_0", "gap_1")),
            ["arena"],
        ],
        "input_buffer": "arena",
    }
    return Report(Description.from_json(content, "test"), None)


def test_the_table_shows_every_layer_whole(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = str(report)
    assert KERNEL in text and "…" not in text
    assert "row by row" in text
    assert "8/4/4" in text and "8/-/4" in text and "3x4x5" in text
    assert "1,000,000" in text and "2,468" in text  # total weight bytes
    assert all(line == line.rstrip() for line in text.splitlines())


def test_json_has_the_same_figures(report: Report) -> None:
    content = json.loads(json.dumps(report.to_json()))
    assert content["macs"] == 1_000_000
    assert (content["ro_bytes"], content["rw_bytes"]) == (2628, 124)
    assert "elf" not in content  # nothing was linked


@pytest.mark.parametrize("columns", [None, 40, 60, 80, 100, 120, 160, 200])
def test_tables_fit_the_terminal(
    report: Report, monkeypatch: pytest.MonkeyPatch, columns: int | None
) -> None:
    """Columns go before anything wraps: a layer has one line, whole, and what is gone is told."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", str(columns))
    text = str(report)
    told = [line for line in text.splitlines() if line.startswith("(no room for: ")]
    table = [line for line in text.splitlines() if line not in told]
    assert max(map(len, table)) <= (columns or 80)
    assert "…" not in text
    rows = [line for line in table if line.strip().startswith("conv2d_0 ")]
    assert len(rows) == 1 and "8/4/4" in rows[0] and "1,234" in rows[0]
    for heading, shown in (("kernel", KERNEL), ("MACs", "1,000,000"), ("input", "3x4x5")):
        assert (shown in rows[0]) is not (bool(told) and f"{heading}" in told[0].split("; ")[0])


def test_the_profile_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stalls = {"pipeline": 123_456, "mispredict": 1_000, "flash": 20_000, "axi": 0, "unaligned": 7}
    costs = [
        LayerCost(f"conv2d_{i}", KERNEL, 10_000_000, 9_000_000, 8_000_000, stalls, 100_000)
        for i in range(3)
    ]
    profile = NetworkProfile("emulator", 400, "modelled", tuple(costs), 27_000_000)
    for columns in (60, 80, 120, 250):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = profile_text(profile).splitlines()
        rows = [line for line in lines if line.strip().startswith("conv2d_")]
        assert len(rows) == 3 and all("9,000,000" in row and "0.90" in row for row in rows)
        shown = [n for n in lines if not n.startswith(("(no room", "27,000,000"))]
        assert max(map(len, shown)) <= columns
        assert (KERNEL in rows[0]) is (columns >= 80)
        assert ("123,456" in rows[0]) is (columns == 250)
