"""The pipeline model against hand-derived figures and against loops measured earlier.

The cycles next to each loop are derived from the numbered rules of the model by hand; the comment
gives the derivation. ``microloops.json`` holds (name, cycles per iteration, machine code) of loops
whose figures were compared with silicon.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("capstone", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator.decode import decode_block, is_simple_constant
from tvm_mpq.emulator.isa import FLAGS, Kind, Latency, Stage
from tvm_mpq.emulator.pipeline import NARROW_STORE_CACHED, Pipeline, loop_cost

MEASURED = json.loads(Path(__file__).with_name("microloops.json").read_text())


@pytest.mark.null
@pytest.mark.parametrize(("name", "cycles", "code"), MEASURED, ids=[row[0] for row in MEASURED])
def test_agrees_with_the_measured_loop(name, cycles, code):
    block = decode_block(bytes.fromhex(code), 0x08000000)
    assert sum(i.size for i in block) == len(code) // 2
    text = "; ".join(i.text for i in block)
    assert loop_cost(block) == pytest.approx(cycles, rel=0.02), text


# name -> (assembly, cycles per iteration, derivation)
DERIVED = {
    "umlal chain": ("umlal r0,r1,r2,r3;" * 6, 6, "rule 4: one a cycle, accumulators in EX3"),
    "smlad chain": ("smlad r0,r2,r3,r0;" * 6, 6, "rule 4"),
    "mul feeds multiplicand": ("mul r0,r0,r1;" * 4, 8, "rule 4: result after 2"),
    "mul feeds shifted operand": ("mul r0,r1,r2; add r3,r3,r0,lsl #1;", 4, "rule 4: 3 to EX1;"
        " a loop body ends with a taken branch, so the add has its cycle alone"),
    "mac and ldr": ("smlad r0,r2,r3,r0; ldr r4,[r10,#4];" * 4, 4, "rule 5: a pair a cycle"),
    "mac and str": ("smlad r0,r2,r3,r0; str r4,[r10,#4];" * 4, 8, "rule 5: not with a store"),
    "two banks": ("ldr r0,[r10]; ldr r1,[r10,#4];" * 4, 4, "rule 8"),
    "one bank": ("ldr r0,[r10]; ldr r1,[r10,#8];" * 4, 8, "rule 8"),
    "unknown banks": ("ldr r0,[r10]; ldr r1,[r11];" * 4, 6, "rule 8: 4 pairs and 4 x 0.5"),
    "load and store": ("ldr r0,[r10]; str r1,[r11];" * 4, 4, "rule 8: load and store pair"),
    "two stores": ("str r0,[r10]; str r1,[r10,#4];" * 4, 8, "rule 8: never two stores"),
    "two shifted operands": ("add r0,r1,r2,lsl #1; add r3,r4,r5,lsl #1;", 2, "rule 7"),
    "shifted and plain": ("add r0,r1,r2,lsl #1; add r3,r4,r5;", 1, "rule 7: only one shifter"),
    "word to late ALU": ("ldr r0,[r10]; add r1,r1,r0;" * 2, 3, "rule 3: 1, so ldr / add+ldr / add"),
    "byte to late ALU": ("ldrb r0,[r10]; add r1,r1,r0;" * 2, 5, "rule 3: 2, so 2 + 2 + 1"),
    "byte to address": ("ldrb r0,[r0];" * 4, 12, "rule 3: 3 to EX1"),
    "word to address": ("ldr r0,[r0];" * 4, 8, "rule 3: 2 to EX1"),
    "late ALU to address": ("eor r0,r0,r1; ldr r2,[r0];" * 2, 5, "rule 1: 2 to EX1; the next eor"
        " pairs with the ldr: 0, 2, 4 and the last ldr closes cycle 4"),
    "early ALU to address": ("add r0,r1,#4; ldr r2,[r0];", 2, "rule 2: 1"),
    "younger add is late": ("add r0,r1,#4; ldr r2,[r0];" * 2, 4, "rule 2: the second add pairs with"
        " the ldr as the younger, runs late, and its ldr waits 2: cycles 0, 1, 1, 3"),
    "early ALU in one cycle": ("add r0,r1,#4; eor r2,r2,r0;" * 2, 2, "rule 2: pairs at once"),
    "dsp in the older slot": ("sxtb16 r0,r1; smlad r2,r3,r4,r2;" * 2, 2, "rule 6"),
    "dsp in the younger slot": ("smlad r2,r3,r4,r2; sxtb16 r0,r1;" * 2, 3, "rule 6: smlad /"
        " sxtb16+smlad / sxtb16"),
    "two dsp": ("sxtb16 r0,r1; uxtb16 r2,r3;", 2, "rule 6: one a cycle"),
    "saturation": ("usat r0,#8,r0;" * 3, 9, "rules 1 and 6: result 2, read in EX1, so 3"),
    "ldrd": ("ldrd r0,r1,[r10];" * 3, 3, "rule 9: two registers a cycle"),
    "ldm of five": ("ldmia r10,{r0-r4};", 3, "rule 9: ceil(5 / 2)"),
    "push and pop": ("push {r4-r7}; pop {r4-r7};", 4, "rule 9: 2 + 2"),
    "division": ("udiv r0,r1,r2; add r3,r3,#1;", 9, "rule 12: 8 blocking, then the add"),
    "it block": ("it eq; moveq r0,r1;", 1, "rule 12: IT takes a slot"),
    "byte patterns": ("and r0,r1,#0xff00ff; and r2,r3,#0xff00ff;", 1, "rule 7: needs no shifter"),
    "rotated constants": ("and r0,r1,#0xff00; and r2,r3,#0xff00;", 2, "rule 7: both use it"),
    "float multiply-accumulate chain": ("vfma.f32 s0,s1,s2;" * 4, 12, "result 6 later, read in EX2,"
        " chained 2 earlier: 3"),
    "float add chain": ("vadd.f32 s0,s0,s1;" * 4, 12, "result 4 later, read in EX2: 3"),
    "float arithmetic and load": ("vadd.f32 s0,s1,s2; vldr s3,[r10];" * 2, 2, "two ports"),
    "two float additions": ("vadd.f32 s0,s1,s2; vadd.f32 s3,s4,s5;", 2, "one port"),
    "double multiply": ("vmul.f64 d0,d1,d2;" * 2, 8, "blocks for 4"),
    "double multiply-accumulate": ("vfma.f64 d0,d1,d2;" * 2, 12, "blocks for 6"),
    "float division": ("vdiv.f32 s0,s1,s2;", 16, "blocks for 16"),
    "vldm of four": ("vldmia r10,{s0-s3};", 2, "rule 9: ceil(4 / 2)"),
    "vmov to the core": ("vmov r0,s0; add r1,r1,r0;", 3, "3 to EX1, 2 to the late ALU"),
    "bytes in a burst": ("strb r0,[r10];" * 3 + "nop;" * 40, 23, "rule 10: 3 + 20, three fit the"
        " store buffer"),
    "five bytes in a burst": ("strb r0,[r10];" * 5 + "nop;" * 40, 25, "rule 10: when the fifth"
        " comes in cycle 4, the first has left after 3.7"),
    "six bytes in a burst": ("strb r0,[r10];" * 6 + "nop;" * 50, 6 + 25 + 2.4, "rule 10: the sixth,"
        " in cycle 5, finds four in the buffer and waits until the second leaves at 7.4"),
    "a word after four bytes": ("strb r0,[r10];" * 4 + "str r0,[r10];" + "nop;" * 40, 25, "rule 10:"
        " an entry like any other"),
    "words": ("str r0,[r10];" * 8, 8, "rule 10: a word a cycle drains"),
}  # fmt: skip


@pytest.fixture(scope="session")
def assembled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asm")
    source = ".syntax unified\n.thumb\n.cpu cortex-m7\n.fpu fpv5-d16\n"
    for index, (code, _, _) in enumerate(DERIVED.values()):
        source += f'.section .loop{index},"ax"\n' + code.replace(";", "\n") + "\n"
    (folder / "loops.s").write_text(source)
    command = ["arm-none-eabi-as", "loops.s", "-o", "loops.o"]
    subprocess.run(command, cwd=folder, check=True)
    blocks = {}
    for index, name in enumerate(DERIVED):
        section = ["-O", "binary", "-j", f".loop{index}", "loops.o", "loop.bin"]
        subprocess.run(["arm-none-eabi-objcopy", *section], cwd=folder, check=True)
        blocks[name] = decode_block((folder / "loop.bin").read_bytes(), 0x08000000)
    return blocks


@pytest.mark.emu
@pytest.mark.parametrize("name", DERIVED)
def test_hand_derived_cycles(assembled, name):
    _, cycles, why = DERIVED[name]
    assert loop_cost(assembled[name]) == cycles, why


# r0 <- [r10]; r1 <- [r11]; r2 <- r3 + r4: two loads on unrelated bases.
UNRELATED = "daf80000dbf8001003eb0402"
# Milli-cycles of a round, by how many of 1000 executions meet one bank. The add closes its cycle.
BANKS = {0: 2000, 50: 2000, 51: 2051, 500: 2500, 949: 2949, 950: 2000, 1000: 2000}


@pytest.mark.null
@pytest.mark.parametrize("same", BANKS)
def test_loads_meet_the_banks_of_their_addresses(same):
    """Rule 8. Nearly always one bank: the younger starts a new cycle, where the add joins it."""
    block = decode_block(bytes.fromhex(UNRELATED), 0x08000000)
    assert loop_cost(block, banks={1: same}) * 1000 == pytest.approx(BANKS[same])


@pytest.mark.null
def test_banks_are_only_asked_for_unrelated_bases():
    """ldr r0,[r10]; ldr r1,[r10,#4]: the offsets decide, whatever was counted."""
    block = decode_block(bytes.fromhex("daf80000daf80410"), 0x08000000)
    assert loop_cost(block, banks={1: 1000}) == loop_cost(block, banks={1: 0}) == 1


@pytest.mark.null
def test_byte_stores_cost_what_rule_10_says():
    block = decode_block(bytes.fromhex("8af80000") * 16, 0)
    assert block[0].narrow
    assert loop_cost(block) == pytest.approx(16 * 3.7, rel=0.01)
    assert loop_cost(block, NARROW_STORE_CACHED) == pytest.approx(16 * 2.4, rel=0.01)


def _decode(code: str):
    return decode_block(bytes.fromhex(code), 0x08000000)[0]


@pytest.mark.null
@pytest.mark.parametrize(
    ("code", "reads", "writes"),
    [
        ("e2fb0301", {"r0", "r1", "r2", "r3"}, {"r0", "r1"}),  # umlal r0, r1, r2, r3
        ("c1ea0240", {"r1", "r2"}, {"r0"}),  # pkhbt r0, r1, r2, lsl #16
        ("51fa82f0", {"r1", "r2"}, {"r0"}),  # uxtab r0, r1, r2
        ("8d00", {"r1"}, {"r5", FLAGS}),  # lsls r5, r1, #2
        ("c840", {"r0", "r1"}, {"r0", FLAGS}),  # lsrs r0, r1
        ("0230", {"r0"}, {"r0", FLAGS}),  # adds r0, #2
        ("c0f20500", {"r0"}, {"r0"}),  # movt r0, #5
        ("51f8040b", {"r1"}, {"r0", "r1"}),  # ldr r0, [r1], #4
        ("10bd", {"sp"}, {"r4", "sp"}),  # pop {r4, pc}
    ],
)
def test_operands_are_read_right(code, reads, writes):
    instruction = _decode(code)
    assert {operand.register for operand in instruction.sources} == reads, instruction.text
    assert instruction.writes == writes, instruction.text


@pytest.mark.null
def test_stages_and_latencies_of_a_multiply():
    umlal = _decode("e2fb0301")
    assert umlal.kind is Kind.MULTIPLY
    assert [operand.stage for operand in umlal.sources] == [Stage.EX2] * 2 + [Stage.EX3] * 2
    assert {result.latency for result in umlal.results} == {Latency.MULTIPLY}


@pytest.mark.null
def test_simple_constants():
    simple = (0, 0xFF, 0x00120012, 0x12001200, 0x12121212)
    assert all(is_simple_constant(value) for value in simple)
    assert not any(is_simple_constant(value) for value in (0x100, 0xFF00, 0x120013, 0x80000000))


@pytest.mark.null
def test_trace_names_the_rule_that_cost_the_cycle():
    block = decode_block(bytes.fromhex("8af80000") * 2, 0)
    pipeline = Pipeline()
    pipeline.trace = []
    pipeline.run(block, taken=True)
    assert [(issue.cycle, issue.reason) for issue in pipeline.trace] == [
        (0, None),
        (1, "rule 8: second store"),
    ]
