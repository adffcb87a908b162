"""Report: the table for people and the object for programs hold the same figures."""

from __future__ import annotations

import json

import pytest

from tvm_mpq.description import Description
from tvm_mpq.quant.bit_plan import BitPlan
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


def test_the_table_shows_every_layer_whole(report: Report) -> None:
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
