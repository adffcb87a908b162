"""One program a rule of the memory system; cycles derived by hand (docs/cycle_model.md)."""

from __future__ import annotations

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tests.emulator.test_cycles import _program
from tvm_mpq.emulator import Board

pytestmark = pytest.mark.emu

PAIRS = "ldr r0,[r10]; ldr r1,[r11];" * 8
# The loop's own subs and bne take one cycle: they pair.
BANKS = {
    "always different": ("add r11,r10,#4;nop;nop;nop;" + PAIRS, 2 + 8 + 1),
    "always equal": ("add r11,r10,#8;nop;nop;nop;" + PAIRS, 2 + 16 + 1),
    # Half of the rounds: each pair costs half a cycle.
    "every other round": (PAIRS + "eor r11,r11,#4;nop;nop;nop;", 8 + 4 + 2 + 1),
    # Where a condition may skip a load, nobody knows: half a cycle. cmp and it pair, the loads
    # wait a cycle for the flags.
    "in an IT block": ("cmp r2,r2; itt eq; ldreq r0,[r10]; ldreq r1,[r11];", 1 + 1 + 0.5 + 1),
}


def _rounds(build, body, *, pointer="bytes", before="", target="stm32h743", clock=None, warm=4):
    """Cycles of one more round of a loop body in firmware that first runs ``before``."""
    spent = []
    for rounds in (1000, 2000):
        source = _program(body, rounds, pointer, warm).replace(
            "int main(void) {", f"int main(void) {{ {before}"
        )
        with Board(build(source, "-DCACHES"), target, clock_mhz=clock) as board:
            board.run(cycles=True)
            spent.append(int.from_bytes(board.read_symbol("spent"), "little"))
    return (spent[1] - spent[0]) / 1000


@pytest.mark.parametrize("name", BANKS)
def test_rule_8_banks_from_real_addresses(build, name):
    body, cycles = BANKS[name]
    # Shares are kept in thousandths, for eight pairs.
    assert _rounds(build, body) == pytest.approx(cycles, abs=0.01)


def test_words_are_seen_in_the_order_of_the_code(build):
    """Every kind of access transfers the words that its decoding says, so that pairs are found."""
    body = """ldr r0,[r10]; ldrb r1,[r10]; ldrh r2,[r10]; ldrd r3,r4,[r10]; ldmia r10,{r5-r9};
      str r0,[r10]; strb r1,[r10,#1]; strd r3,r4,[r10]; stmia r10,{r5-r9}; push {r0-r3};
      pop {r0-r3}; vldr s0,[r10]; vldr d1,[r10]; vstr s0,[r10]; vstr d1,[r10]; vpush {d8-d11};
      vpop {d8-d11}; vldmia r10,{s0-s3}; ldr r0,[r10,#1]; ldrsb r0,[r10]; pld [r10]; push {r4};
      pop {r4};"""
    body = " ".join(body.split())
    with Board(build(_program(body, 50), "-DCACHES")) as board:
        board.run(cycles=True)
        edges = [board._counter.edge(i) for i in range(board._counter.state.edge_count)]
        busiest = max(edges, key=lambda edge: edge.words * edge.count)
        assert busiest.words > 40 and busiest.timed >= 50
        assert not any(edge.irregular for edge in edges)


H7_LATENCY, H7_AHB = 0x52002000, 0x58024418
F7_LATENCY = 0x40023C00
# Register writes of the program -> data stall of a flash line, r (w + 1) + 4. Lines come far apart,
# so that none waits for the one before.
SETTINGS = {
    "H743 as at 400 MHz": ("stm32h743", {H7_LATENCY: 0x22, H7_AHB: 8}, 10),
    "H743 with 4 wait states": ("stm32h743", {H7_LATENCY: 0x24, H7_AHB: 8}, 14),
    "H743 without prescaler": ("stm32h743", {H7_LATENCY: 0x22, H7_AHB: 0}, 7),
    "H743 with AHB / 4": ("stm32h743", {H7_LATENCY: 2, H7_AHB: 9}, 16),
    "H743 that writes nothing": ("stm32h743", {}, 10),
    "H7A3 with 7 wait states": ("stm32h7a3", {H7_LATENCY: 7, H7_AHB: 0}, 12),
    "H7A3 with 6 wait states": ("stm32h7a3", {H7_LATENCY: 6}, 11),
    "F746 with 7 wait states": ("stm32f746", {F7_LATENCY: 0x307}, 12),
    "F746 with 5 wait states": ("stm32f746", {F7_LATENCY: 5}, 10),
}
SPARSE = "nop;" * 24


@pytest.mark.parametrize("name", SETTINGS)
def test_rule_13_data_stall(build, name):
    target, writes, stall = SETTINGS[name]
    before = "".join(f"REG({address:#x}) = {value:#x}u;" for address, value in writes.items())
    options = {"before": before, "target": target, "warm": 1}
    if target == "stm32f746":
        options["pointer"] = "(uint8_t *)0x08008000"
    else:
        options["pointer"] = "(uint8_t *)table"
    inside = _rounds(build, "ldr r0,[r10];" + SPARSE, **options)
    assert _rounds(build, "ldr r0,[r10],#32;" + SPARSE, **options) - inside == pytest.approx(
        stall, abs=0.05
    )


def test_rule_13_another_clock_means_its_wait_states(build):
    """The program asks for 2; at 480 MHz the flash needs 4."""
    options = {"pointer": "(uint8_t *)table", "warm": 1, "clock": 480}
    options["before"] = f"REG({H7_LATENCY:#x}) = 2; REG({H7_AHB:#x}) = 8;"
    body = "ldr r0,[r10]{};" + SPARSE
    inside = _rounds(build, body.format(""), **options)
    assert _rounds(build, body.format(",#32"), **options) - inside == pytest.approx(14, abs=0.05)


# On the STM32H7A3 with 7 wait states a line stalls for 12 and keeps the flash busy for 16.
WAITING = {
    # A round of 2 cycles: the next line is wanted after 14, and waits for 2.
    "one line a round": ("ldr r0,[r10],#32; nop;", 16),
    # A round of 8: wanted after 20.
    "far apart": ("ldr r0,[r10],#32;" + "nop;" * 13, 8 + 12),
    # A round of 6: the second line is wanted after half of it, 15 after the first: it waits for 1,
    # and so does the next first one.
    "two lines a round": (
        "ldr r0,[r10],#64;" + "nop;" * 4 + "ldr r1,[r10,#-32];" + "nop;" * 4,
        32,
    ),
    # A round of 10: wanted after 17.
    "two lines, further apart": (
        "ldr r0,[r10],#64;" + "nop;" * 8 + "ldr r1,[r10,#-32];" + "nop;" * 8,
        10 + 2 * 12,
    ),
}


@pytest.mark.parametrize("name", WAITING)
def test_rule_13_lines_wait_for_the_flash(build, name):
    body, cycles = WAITING[name]
    options = {"pointer": "(uint8_t *)table", "warm": 1, "target": "stm32h7a3"}
    found = _rounds(build, body, before=f"REG({H7_LATENCY:#x}) = 7;", **options)
    assert found == pytest.approx(cycles, abs=0.05)


@pytest.mark.parametrize(
    ("target", "latency", "stall"), [("stm32h743", 2, 10), ("stm32h7a3", 6, 18)]
)
def test_rule_13_code_wants_the_whole_line(build, target, latency, stall):
    """24 KiB of code do not stay in a cache of 16 KiB."""
    program = f"""__attribute__((noinline)) void run(void) {{
        __asm volatile(".rept 12288\\n nop\\n .endr"); }}
      int main(void) {{ REG({H7_LATENCY:#x}) = {latency}; run(); run(); run(); return 0; }}"""
    with Board(build(program, "-DCACHES"), target) as board:
        board.run(cycles=True)
        edges = [e for e in board._counter.edges() if e.flash_code and not e.flash_data]
    misses = sum(edge.flash_code for edge in edges)
    assert misses > 2 * 12288 * 2 // 32
    assert sum(edge.flash_stall for edge in edges) == misses * stall * 1000


@pytest.mark.parametrize(
    ("target", "pointer", "cycles"),
    [
        ("stm32h743", "bytes", 16 * 3.7),
        ("stm32h743", "(uint8_t *)big", 16 * 2.4),
        ("stm32h7a3", "(uint8_t *)big", 16 * 2.4),
        # 16 stores of a cycle each, and the loop.
        ("stm32f746", "(uint8_t *)0x20000800", 17),
        ("stm32f746", "(uint8_t *)0x20018000", 17),
    ],
)
def test_rule_10_narrow_stores(build, target, pointer, cycles):
    assert _rounds(build, "strb r0,[r10];" * 16, pointer=pointer, target=target) == pytest.approx(
        cycles, rel=0.01
    )
