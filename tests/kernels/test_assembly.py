"""The generated assembly as text, its timing records against the decoder, and the scheduler."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_mpq.emulator.pipeline import loop_cost
from tvm_mpq.kernels.asm import (
    assembly_sources,
    dense,
    depthwise,
    depthwise_halves,
    depthwise_lanes,
    lines,
    ops,
    smlad,
    umlal,
)
from tvm_mpq.kernels.asm.epilogue import store_body
from tvm_mpq.kernels.asm.scheduler import NoScheduleError, Scheduled, schedule_block
from tvm_mpq.kernels.lanes import LANES

GOLDENS = ["mpq_core_smlad_k8", "mpq_core_u14w4_a2", "mpq_expand_w4", "mpq_store_y8"]
GOLDENS += ["mpq_dw3x3s1_y8_4", "mpq_dwlanes3x3s1_y4_8", "mpq_lines_x8_l1_1", "mpq_dense_w4"]
GOLDENS += ["mpq_expand_lanes_w2", "mpq_store_block_y4", "mpq_store_block_y4_m16"]
GOLDENS += ["mpq_dwhalves3x3s2_x4_l0_y4_7"]


@pytest.mark.null
@pytest.mark.parametrize("name", GOLDENS)
def test_golden_text(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"kernels/{name}.S", assembly_sources()[f"{name}.S"])


@pytest.mark.null
def test_the_scheduler_keeps_data_dependences() -> None:
    block = [
        ops.load("%a", "r0"),
        ops.load("%b", "r1"),
        ops.multiply("smuad", "%p", "%a", "%b"),
        ops.add("r0", "r0", 4),
        ops.store("%p", "r2"),
    ]
    found = schedule_block(block, ("r4", "r5"))
    order = [line.split()[0] for line in found.lines]
    assert order.index("smuad") > max(i for i, name in enumerate(order) if name == "ldr")
    assert order.index("str") > order.index("smuad")
    assert order.index("add") > order.index("ldr")


@pytest.mark.null
def test_too_few_registers_are_an_error() -> None:
    block = [ops.load(f"%{i}", "r0", 4 * i) for i in range(3)]
    block.append(ops.multiply_add("smlad", "%s", "%0", "%1", "%2"))
    with pytest.raises(NoScheduleError, match="4 instructions do not fit 2 registers"):
        schedule_block(block, ("r4", "r5"))


@pytest.mark.null
def test_a_value_that_lives_across_the_loop_returns_to_its_register() -> None:
    found = smlad.core_body(4)
    written = [line.split()[1].rstrip(",") for line in found.lines if line.startswith("ldr")]
    assert {"r2", "r3", "r12", "lr"} <= set(written[-6:])


@pytest.mark.null
def test_cycles_of_the_inner_loops() -> None:
    """What the note of kernels promises; a better scheduler lowers these figures."""
    assert smlad.core_body(4).cycles <= 35
    assert umlal.part(2, 0).cycles <= 33 and umlal.part(2, 24).cycles <= 35  # 32 multiplies
    assert all(umlal.expand_body(lanes).cycles <= 22 for lanes in LANES)
    assert depthwise.body(1, 8, 16).cycles <= 136
    assert depthwise_lanes.body(1, 4, 14).cycles <= 100
    assert depthwise_halves.body(4, 0, 4, 7).cycles <= 73
    assert [dense.body(bits).cycles for bits in (8, 4)] <= [48, 45]


@pytest.mark.cc
@pytest.mark.parametrize(
    "block",
    [smlad.core_body(4), smlad.expand_body(4), umlal.part(2, 24), umlal.start(2, 30)]
    + [
        umlal.spill(LANES[2], 2, False),
        umlal.expand_body(LANES[1]),
        store_body(4, 2, False, "side"),
    ]
    + [depthwise.body(2, 4, 8), depthwise_lanes.body(2, 2, 14), dense.body(8)]
    + [lines.body(4, 1, 1, 2, 1), depthwise_halves.body(2, 1, 2, 7)],
    ids=["core_smlad", "expand_w4", "core", "start_wide", "spill_u10w2", "expand_w2"]
    + ["store_sums_y4", "dw_s2_y4", "dwlanes_s2_y2", "dense_w8", "lines_x4", "dwhalves"],
)
def test_records_agree_with_the_decoder(block: Scheduled, tmp_path: Path) -> None:
    """The scheduler's view of an instruction costs what the emulator makes of its machine code."""
    capstone = pytest.importorskip("capstone")
    assert capstone
    from tvm_mpq.emulator.decode import decode_block

    text = ".syntax unified\n.cpu cortex-m7\n.thumb\n" + "\n".join(block.lines) + "\n"
    (tmp_path / "block.s").write_text(text)
    binary = tmp_path / "block.bin"
    subprocess.run(
        ["arm-none-eabi-as", "-mcpu=cortex-m7", "-mthumb", "block.s", "-o", "block.o"],
        cwd=tmp_path,
        check=True,
    )
    subprocess.run(
        ["arm-none-eabi-objcopy", "-O", "binary", "block.o", "block.bin"], cwd=tmp_path, check=True
    )
    decoded = decode_block(binary.read_bytes(), 0)
    assert len(decoded) == len(block.lines)
    records = [op.instruction(names) for op, names in zip(block.ops, block.registers, strict=True)]
    assert loop_cost(decoded) == pytest.approx(loop_cost(records))


@pytest.mark.null
def test_every_function_has_its_own_section() -> None:
    for name, text in assembly_sources().items():
        symbol = name.removesuffix(".S")
        assert f".section .text.{symbol}," in text
        assert re.search(rf"^{symbol}:$", text, flags=re.M)
