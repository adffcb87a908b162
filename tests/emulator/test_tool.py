"""The tool for firmware of others: files, conversation, messages, exit status."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from click.testing import CliRunner

from tvm_mpq.emulator import Board, CpuFaultError
from tvm_mpq.emulator.command import emulate
from tvm_mpq.emulator.formats import segments_of
from tvm_mpq.emulator.talk import unescape
from tvm_mpq.errors import InvalidValueError

HELLO = 'int main(void) { print("hello"); return 0; }'


def _run(*arguments):
    return CliRunner().invoke(emulate, list(map(str, arguments)))


def _json(*arguments):
    answer = _run(*arguments, "--json")
    assert answer.exit_code in (0, 3), answer.stderr
    return json.loads(answer.stdout), answer


def _converted(elf, out, kind):
    subprocess.run(["arm-none-eabi-objcopy", "-O", kind, str(elf), str(out)], check=True)
    return out


def _uf2(raw, out):
    blocks = [raw[at : at + 256] for at in range(0, len(raw), 256)]
    out.write_bytes(
        b"".join(
            struct.pack(
                "<8I", 0x0A324655, 0x9E5D5157, 0, 0x08000000 + 256 * i, 256, i, len(blocks), 0
            )  # fmt: skip
            + block.ljust(476, b"\0")
            + struct.pack("<I", 0x0AB16F30)
            for i, block in enumerate(blocks)
        )
    )
    return out


@pytest.mark.emu
@pytest.mark.parametrize("kind", ["elf", "stripped", "binary", "ihex", "uf2"])
def test_files_are_recognised_by_their_content(build, tmp_path, kind):
    elf, out = build(HELLO, "-DCACHES"), tmp_path / "firmware"
    if kind == "stripped":
        subprocess.run(["arm-none-eabi-strip", "-o", str(out), str(elf)], check=True)
    elif kind == "uf2":
        _uf2(_converted(elf, tmp_path / "raw", "binary").read_bytes(), out)
    else:
        out = elf if kind == "elf" else _converted(elf, out, kind)
    named, _ = _json(elf, "--profile")
    report, _ = _json(out, "--profile")
    assert (report["uart"], report["stopped_by"]) == ("hello", "end of program")
    assert report["cycles"] == named["cycles"]
    hottest = report["profile"]["functions"][0]
    lines, _ = _json(out, "--annotate", f"0x{hottest['address']:08x}")
    assert sum(line["executions"] for line in lines["annotate"]) == hottest["instructions"]


@pytest.mark.null
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":10000000AA\n", "line 1: not a record"),
        (":0400000001020304F2\n", "without an end record"),
        (":0400000001020304FF\n", "checksum"),
        (":zz\n", "line 1"),
        (":\xff\n", "line 1"),
        ("", None),
    ],
)
def test_damaged_intel_hex(text, message):
    if message is None:
        assert segments_of(b"", 0, "f") == [(0, b"")]
        return
    with pytest.raises(InvalidValueError, match=message):
        segments_of(text.encode("latin-1"), 0, "f")


@pytest.mark.null
def test_intel_hex_addresses():
    lines = [":020000040800F2", ":0400000001020304F2", ":0400040005060708DE", ":00000001FF"]
    text = "\r\n".join(lines).encode()
    assert segments_of(text, 0, "f") == [(0x08000000, bytes(range(1, 9)))]
    assert segments_of(b"raw", 0x08000000, "f") == [(0x08000000, b"raw")]


CHAT = """
static void line(void) { int c; while ((c = receive()) != '\\n') send(c + 1); }
int main(void) {
  FLUSH
  for (volatile int i = 0; i < 3000; i++) {}
  line(); print("|name? "); line(); print("|key? "); line(); print("|done"); return 0; }
"""
FLUSHES = {
    "flushes its receiver": "while (REG(USART3 + 0x1C) & 0x20) (void)REG(USART3 + 0x24);",
    "plain": "",
}


@pytest.mark.emu
@pytest.mark.parametrize("flush", FLUSHES)
def test_texts_are_sent_when_the_firmware_reads(build, flush):
    """What it drops on its way up is not lost."""
    elf = build(CHAT.replace("FLUSH", FLUSHES[flush]))
    report, _ = _json(elf, "--send", "AB\\n", "--send", "C\\n", "--send-after", "key? ",
                      "--send", "\\x44\\n")  # fmt: skip
    assert report["uart"] == "BC|name? D|key? E|done"


@pytest.mark.emu
def test_a_text_to_wait_for_holds_back_what_follows(build):
    elf = build(CHAT.replace("FLUSH", ""))
    answer = _run(elf, "--send-after", "nothing", "--send", "A\\n", "--json")
    assert answer.exit_code == 2
    assert "--send-after b'nothing': never printed; the run ended by 'waiting" in answer.stderr
    assert answer.stdout == ""


@pytest.mark.emu
def test_a_text_that_nobody_reads_is_told(build):
    answer = _run(build(HELLO), "--send", "A")
    assert answer.exit_code == 2 and "--send b'A': never read" in answer.stderr


@pytest.mark.emu
def test_texts_reach_a_receive_interrupt(build):
    program = """volatile uint32_t got; volatile char last;
    void USART3_Handler(void) { last = (char)REG(USART3 + 0x24); got++; }
    int main(void) { REG(0xE000E104) = 1u << 7; REG(USART3) = 0x2D; print("go>");
      while (last != '.') {} for (uint32_t i = 0; i < got; i++) send('+'); return 0; }"""
    report, _ = _json(build(program, "-DCACHES"), "--send", "ab", "--send", "c.")
    assert report["uart"] == "go>++++"
    assert report["cycles"] < 100_000


@pytest.mark.emu
def test_one_uart_of_several(build):
    program = """int main(void) { REG(0x40011028) = 'x'; print("three");
      while (!(REG(0x4001101C) & 0x20)) {} REG(0x40011028) = REG(0x40011024); return 0; }"""
    elf = build(program)
    assert _json(elf, "--send", "y")[0]["uart"] == "xthreey"
    assert _json(elf, "--uart", 1, "--send", "y")[0]["uart"] == "xy"
    report, _ = _json(elf, "--uart", 3, "--max-instructions", 90_000)
    assert report["uart"] == "three" and set(report["bauds"]) == {"USART1", "USART3"}
    answer = _run(elf, "--uart", 9)
    assert answer.exit_code == 2 and "UART 9: stm32h743 has 1 to 8" in answer.stderr


@pytest.mark.null
@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("plain", b"plain"),
        ("a\\n\\r\\t\\0\\\\b", b"a\n\r\t\0\\b"),
        ("\\x00\\xfF", b"\x00\xff"),
        ("µ", "µ".encode()),
        ("", b""),
    ],
)
def test_escapes(text, data):
    assert unescape("--send", text) == data


@pytest.mark.null
@pytest.mark.parametrize("text", ["\\", "a\\q", "\\x", "\\x4", "\\xzz", "\\N{DASH}", "\\u12"])
@pytest.mark.parametrize("option", ["--send", "--send-after", "--until", "--from"])
def test_bad_escapes_are_errors(tmp_path, option, text):
    firmware = tmp_path / "f.bin"
    firmware.write_bytes(struct.pack("<II", 0x20010000, 0x08000009) + b"\xfe\xe7")
    answer = _run(firmware, option, text)
    assert answer.exit_code == 2
    assert f"{option} {text!r}: unknown escape" in answer.stderr


def _raw(tmp_path, stack, entry, size=64):
    firmware = tmp_path / "f.bin"
    firmware.write_bytes(struct.pack("<II", stack, entry).ljust(size, b"\0"))
    return firmware


MISFITS = {
    "wrong base": (0x20010000, 0x08020141, "0x08020140 lies outside the image.*--base 0x08020000"),
    "another chip": (0x20050000, 0x08000009, "no RAM of stm32h743; .*--target stm32f746"),
    "no stack at all": (0x12345678, 0x08000009, "no vector table there: pass --base"),
    "SDRAM": (0xD0010000, 0x08000009, "external SDRAM, which the model lacks"),
    "even": (0x20010000, 0x08000008, "is even, so no Thumb code"),
    "erased": (0xFFFFFFFF, 0xFFFFFFFF, "no RAM"),
}


@pytest.mark.emu
@pytest.mark.parametrize("name", MISFITS)
def test_firmware_that_cannot_start_here(tmp_path, name):
    stack, entry, message = MISFITS[name]
    with pytest.raises(InvalidValueError, match=message):
        Board(_raw(tmp_path, stack, entry))


@pytest.mark.emu
@pytest.mark.parametrize(
    ("base", "message"),
    [
        (0x90000000, "belong at 0x90000000, external QSPI flash, which the model lacks"),
        (0x081FFFF0, "lie in no memory of stm32h743; check the address"),
        (0x240F0000, "lie in no memory of stm32h743; name --target stm32h7a3"),
    ],
)
def test_images_beyond_the_memories(tmp_path, base, message):
    with pytest.raises(InvalidValueError, match=message):
        Board(_raw(tmp_path, 0x20010000, base + 9), base=base)


@pytest.mark.emu
@pytest.mark.parametrize(
    ("cpu", "core"), [("cortex-a7", "7-A"), ("cortex-m33", "8-M"), ("cortex-r5", "7-R")]
)
def test_firmware_of_another_core(tmp_path, cpu, core):
    source, elf = tmp_path / "f.c", tmp_path / "f.elf"
    source.write_text("void _start(void) { for (;;) {} }")
    command = [
        "arm-none-eabi-gcc",
        f"-mcpu={cpu}",
        "-nostdlib",
        "-Wl,-Ttext=0x08000000",
        str(source),
    ]
    subprocess.run([*command, "-o", str(elf)], check=True, capture_output=True)
    with pytest.raises(InvalidValueError, match=f"built for another core .*{core}.*cortex-m7"):
        Board(elf)


@pytest.mark.emu
@pytest.mark.parametrize(
    ("address", "what"),
    [(0xD0000000, "external SDRAM"), (0x90000000, "external QSPI"), (0x60000000, "FMC")],
)
def test_an_access_to_external_memory_is_named(build, address, what):
    elf = build(f"int main(void) {{ *(volatile int *){address:#x} = 1; return 0; }}")
    with Board(elf) as board, pytest.raises(CpuFaultError, match=f"{what}.*the model lacks"):
        board.run()


@pytest.mark.emu
@pytest.mark.parametrize("limit", [("--max-instructions", 50_000), ("--timeout", 0.5)])
def test_a_limit_is_status_3_and_says_where_the_program_is(build, limit):
    elf = build("__attribute__((noinline)) void spin(void) { for (;;) __asm volatile(\"\"); }"
                " int main(void) { spin(); return 0; }")  # fmt: skip
    report, answer = _json(elf, *limit)
    assert answer.exit_code == 3
    assert "printed nothing; it is at 0x080" in answer.stderr and "spin+0x" in answer.stderr
    assert "(program.c:1)" in report["location"]


@pytest.mark.emu
def test_people_get_text(build):
    answer = _run(build(HELLO, "-DCACHES"), "--profile")
    assert answer.exit_code == 0
    for part in ("hello", "stopped by: end of program", "ms at 400 MHz", "+-3 %", "main"):
        assert part in answer.stdout
    assert "USART3" in answer.stdout


FLOAT = """volatile float x = 1.5f; int main(void) { for (int i = 0; i < 1000; i++)
  x = x * 1.01f + 0.5f; return 0; }"""


@pytest.mark.emu
@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        (HELLO, (), "+-3 % on int8"),
        (FLOAT, (), "% floating-point code, optimistic by 8 to 27 %"),
        (HELLO, ("--clock", 480), "+-5 % on a layer, extrapolated to 480 MHz"),
        (HELLO.replace("{", "{ REG(0x52002000) = 5;", 1), (), "extrapolated to 5 wait states"),
    ],
)
def test_the_error_of_what_was_run_is_said(build, program, arguments, said):
    elf = build(program, "-DCACHES")
    report, _ = _json(elf, *arguments)
    assert said in report["note"]
    assert said in _run(elf, *arguments).stdout
    assert ("+-3 %" in report["note"]) == ("floating" not in said)


@pytest.mark.emu
@pytest.mark.parametrize("words", [["run"], []])
def test_the_module_is_an_alias(build, words):
    command = [sys.executable, "-m", "tvm_mpq.emulator", *words, str(build(HELLO))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["uart"] == "hello"
