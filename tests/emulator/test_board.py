"""The functional board: programs run, talk, stop and fault as on the chip."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator import Board, CpuFaultError
from tvm_mpq.errors import InvalidValueError

pytestmark = pytest.mark.emu

HELLO = 'int main(void) { print("hello\\n"); return 0; }'
ECHO = """
int main(void) {
  print("ready>");
  for (;;) {
    int byte = receive();
    if (byte == '.') return 0;
    send(byte + 1);
  }
}
"""


def test_prints_and_ends(build):
    result = Board(build(HELLO)).run()
    assert (result.stopped_by, result.uart) == ("end of program", b"hello\n")
    assert (result.instructions, result.cycles, result.stalls) == (None, None, None)


def test_a_finished_program_does_not_run_again(build):
    board = Board(build(HELLO))
    board.run()
    with pytest.raises(InvalidValueError, match="has ended; create a new Board"):
        board.run()


def test_until_stops_after_the_bytes_and_run_continues(build):
    board = Board(build(HELLO))
    first = board.run(until=b"ll")
    assert (first.stopped_by, first.uart) == ("until", b"hell")
    second = board.run()
    assert (second.stopped_by, second.uart) == ("end of program", b"o\n")


def test_host_and_firmware_talk_in_turns(build):
    board = Board(build(ECHO))
    assert board.run().stopped_by == "waiting for input"
    result = board.run(b"abc")
    assert (result.stopped_by, result.uart) == ("waiting for input", b"bcd")
    board.uart_send(b"z.")
    result = board.run()
    assert (result.stopped_by, result.uart) == ("end of program", b"{")


@pytest.mark.parametrize("cycles", [False, True])
def test_breakpoints_stop_at_each_entry(build, cycles):
    program = """volatile int sum;
    __attribute__((noinline)) void layer(int n) { for (int i = 0; i < n; i++) sum += i; }
    int main(void) { layer(3); print("a"); layer(5); print("b"); return 0; }"""
    whole = Board(build(program)).run(count_instructions=True)
    board = Board(build(program))
    board.break_at(["layer"])
    parts = [board.run(cycles=cycles, count_instructions=True) for _ in range(3)]
    assert [part.stopped_by for part in parts] == ["breakpoint", "breakpoint", "end of program"]
    assert [part.uart for part in parts] == [b"", b"a", b"b"]
    assert sum(part.instructions for part in parts) == whole.instructions
    late = Board(build(program))
    late.run(until=b"a")
    late.break_at(["layer"])
    assert late.run().stopped_by == "breakpoint"
    with pytest.raises(InvalidValueError, match="'none': not in"):
        late.break_at(["none"])


def test_a_callback_answers_while_the_program_runs(build):
    board, heard = Board(build(ECHO)), bytearray()

    def answer(byte: int) -> None:
        heard.append(byte)
        if byte == ord(">"):
            board.uart_send(b"A")
        elif byte < ord("F") and heard.startswith(b"ready>"):
            board.uart_send(bytes([byte]))
        elif byte == ord("F"):
            board.uart_send(b".")

    board.on_uart_byte = answer
    result = board.run()
    assert (result.stopped_by, result.uart) == ("end of program", b"ready>BCDEF")
    assert heard == result.uart


def test_stopping_anywhere_loses_and_repeats_nothing(build):
    whole = Board(build(ECHO)).run(b"0123456789.", count_instructions=True)
    board, output = Board(build(ECHO)), b""
    board.uart_send(b"0123456789.")
    for _ in range(10_000):
        part = board.run(max_instructions=7)
        output += part.uart
        if part.stopped_by == "end of program":
            break
        assert part.stopped_by == "instruction limit"
    assert output == whole.uart
    assert board.instructions == whole.instructions


def test_counts_every_instruction(build):
    program = "int main(void) { __asm volatile(%s); return 0; }"
    counts = [
        Board(build(program % f'".rept {n}\\nnop\\nadd.w r0,r0,#1\\n.endr"')).run(
            count_instructions=True
        )
        for n in (0, 100, 700)
    ]
    base = counts[0].instructions
    assert [count.instructions - base for count in counts] == [0, 200, 1400]


def test_counts_loops_exactly(build):
    program = """int main(void) {
      __asm volatile("movw r0,#1000\\n1: subs r0,#1\\nbne 1b" ::: "r0", "cc"); return 0; }"""
    empty = "int main(void) { return 0; }"
    counted = Board(build(program)).run(count_instructions=True).instructions
    assert counted - Board(build(empty)).run(count_instructions=True).instructions == 2001


@pytest.mark.parametrize("body", ["", "nop", "nop\\n nop"])
def test_limits(build, body):
    spin = f'int main(void) {{ for (;;) __asm volatile("{body}"); }}'
    limited = Board(build(spin)).run(max_instructions=10_000, count_instructions=True)
    assert limited.stopped_by == "instruction limit"
    assert 10_000 <= limited.instructions < 10_010
    timed = Board(build(spin)).run(timeout_seconds=0.2)
    assert timed.stopped_by == "time limit"
    assert 0.2 <= timed.seconds < 2


def test_a_run_continues_after_its_time_is_up(build):
    program = """volatile uint32_t sum; int main(void) {
      for (uint32_t i = 0; i < 30000000; i++) sum += i; print("end"); return 0; }"""
    board, parts = Board(build(program)), 0
    while board.run(timeout_seconds=0.02).stopped_by == "time limit":
        parts += 1
    assert parts > 1
    total = 30_000_000 * 29_999_999 // 2 % 2**32
    assert board.read_symbol("sum") == total.to_bytes(4, "little")


def test_symbols_are_inputs_and_outputs(build):
    program = """
    volatile uint8_t input[4]; volatile uint32_t output = 7;
    int main(void) { output += input[0] + 256u * input[3]; return 0; }"""
    board = Board(build(program))
    board.run(until=b"never", max_instructions=300)
    board = Board(build(program + "\nint marker;"))
    assert board.symbols["output"] >= 0x20000000
    with pytest.raises(InvalidValueError, match="5 bytes given, the object has 4"):
        board.write_symbol("input", bytes(5))
    with pytest.raises(InvalidValueError, match="'inputs': not in"):
        board.read_symbol("inputs")
    board.run()
    assert board.read_symbol("output") == (7).to_bytes(4, "little")
    assert board.read_symbol("output", 2) == b"\x07\x00"


def test_symbols_written_before_a_run_reach_the_program(build):
    program = """
    __attribute__((section(".axi"))) uint8_t input[4]; volatile uint32_t output;
    int main(void) { output = input[0] + 256u * input[3]; return 0; }"""
    board = Board(build(program))
    board.write_symbol("input", bytes([1, 2, 3, 4]))
    board.run()
    assert board.read_symbol("output") == (0x401).to_bytes(4, "little")


def test_raw_image_runs_like_the_elf(build, tmp_path):
    raw = tmp_path / "hello.bin"
    elf = build(HELLO)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(raw)], check=True)
    assert Board(raw, base=0x08000000).run().uart == b"hello\n"


def test_floating_point_is_on(build):
    program = """
    volatile double x = 1.5; volatile int32_t y;
    int main(void) { y = (int32_t)(x * x * 100.0); return 0; }"""
    board = Board(build(program))
    board.run()
    assert board.read_symbol("y") == (225).to_bytes(4, "little")


def test_clock_and_identity_registers_answer(build):
    program = """
    volatile uint32_t seen[4];
    int main(void) {
      REG(0x58024400) |= 1u << 24; while (!(REG(0x58024400) & (1u << 25))) {}
      REG(0x58024410) = 3; while ((REG(0x58024410) >> 3 & 7) != 3) {}
      while (!(REG(0x58024818) & (1u << 13))) {}
      REG(0x58024400) &= ~(1u << 24); while (REG(0x58024400) & (1u << 25)) {}
      REG(0x58020C18) = 1u << 5; seen[0] = REG(0x58020C14);
      REG(0x58020C18) = 1u << 21; seen[1] = REG(0x58020C14);
      seen[2] = REG(0xE000ED00); seen[3] = REG(0xE000EDF0) & 1;
      return 0; }"""
    board = Board(build(program))
    assert board.run(timeout_seconds=5).stopped_by == "end of program"
    words = [board.read_symbol("seen")[i : i + 4] for i in range(0, 16, 4)]
    assert [int.from_bytes(word, "little") for word in words] == [32, 0, 0x411FC271, 1]


FAULTS = {
    "write to flash": ("*(volatile int *)0x08000100 = 1;", 0x08000100),
    "unmapped read": ("(void)*(volatile int *)0x90000000;", 0x90000000),
    "unmapped write": ("*(volatile int *)0x20020000 = 1;", 0x20020000),
    "unmapped fetch": ("((void (*)(void))0x70000001)();", 0x70000000),
    "undefined instruction": ("__builtin_trap();", None),
    "call of a null pointer": ("((void (*)(void))1)();", None),
    "jump to an even address": ("((void (*)(void))0x08000100)();", 0x08000100),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_name_kind_address_and_line(build, kind):
    statement, address = FAULTS[kind]
    board = Board(build(f"int main(void) {{\n  {statement}\n  return 0;\n}}\n"))
    with pytest.raises(CpuFaultError) as caught:
        board.run()
    fault = caught.value
    assert (fault.kind, fault.address) == (kind, address)
    assert str(fault).startswith(kind)
    assert f"0x{fault.pc:08x}" in str(fault)
    if "fetch" not in kind and "null" not in kind and "even" not in kind:
        assert fault.location.startswith("main+0x")
        assert "(program.c:2)" in fault.location


UNALIGNED = {
    "ldrd": "adds %0,#2\nldrd r0,r1,[%0,#4]",
    "strd": "adds %0,#2\nstrd r0,r1,[%0],#8",
    "ldm": "adds %0,#1\nldmia %0,{r0,r1}",
    "stm": "adds %0,#3\nstmdb %0,{r0,r1}",
    "vldr": "adds %0,#2\nvldr s0,[%0,#4]",
}


@pytest.mark.parametrize("name", UNALIGNED)
def test_unaligned_multiple_accesses_fault(build, name):
    code = UNALIGNED[name].replace("\n", "\\n")
    program = f"""uint32_t words[8];
    int main(void) {{ uint32_t *p = words + 4;
      __asm volatile("{code}" : "+l"(p) :: "r0", "r1", "s0", "cc", "memory"); return 0; }}"""
    with pytest.raises(CpuFaultError, match="unaligned access at address 0x2000.*divisible by 4"):
        Board(build(program)).run()
    aligned = program.replace("#1", "#4").replace("#2", "#4").replace("#3", "#4")
    assert Board(build(aligned)).run().stopped_by == "end of program"


def test_unaligned_words_are_allowed(build):
    program = """uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8}; volatile uint32_t word;
    int main(void) { __asm volatile("ldr %0,[%1,#1]" : "=r"(word) : "r"(bytes)); return 0; }"""
    board = Board(build(program))
    board.run()
    assert board.read_symbol("word") == bytes([2, 3, 4, 5])


@pytest.mark.parametrize("local", [16, 600])
def test_recursion_meets_the_stack_limit(build, local):
    program = f"""
    __attribute__((noinline)) int dive(int n) {{
      volatile int room[{local}]; room[0] = n; return n ? dive(n - 1) + room[0] : 0; }}
    int main(void) {{ return dive(%d); }}"""
    assert Board(build(program % 0)).run().stopped_by == "end of program"
    with pytest.raises(CpuFaultError) as caught:
        Board(build(program % 1000)).run()
    assert caught.value.kind == "stack overflow"
    assert caught.value.location.startswith("dive+")
    assert caught.value.address < 0x2001F000


def test_bad_arguments(build, tmp_path):
    with pytest.raises(InvalidValueError, match="no such file"):
        Board(tmp_path / "none.elf")
    with pytest.raises(InvalidValueError, match="'stm32f4': the emulator knows stm32h743"):
        Board(build(HELLO), "stm32f4")
    with pytest.raises(InvalidValueError, match="clock 500 MHz.*known at 400, 480"):
        Board(build(HELLO), clock_mhz=500)
    host = Path("/bin/ls")
    with pytest.raises(InvalidValueError, match="machine .*expected EM_ARM"):
        Board(host)
