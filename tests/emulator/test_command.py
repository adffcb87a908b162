"""The command line: one JSON object, and errors a user can act on."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from click.testing import CliRunner

from tvm_mpq.emulator.command import emulate

pytestmark = pytest.mark.emu

PROGRAM = """
__attribute__((noinline)) int layer(int n) { volatile int x = 0; while (n--) x += n; return x; }
int main(void) {
  int name = receive(); print("start\\n"); layer(1000); print("mid\\n"); layer(3000);
  print("stop "); send(name); print("\\n"); for (;;) layer(1); }
"""


def _run(*arguments):
    return CliRunner().invoke(emulate, [*map(str, arguments), "--json"])


def test_prints_one_json_object(build):
    answer = _run(build(PROGRAM, "-DCACHES"), "--uart-in", "A", "--until", "stop A\\n", "--profile")
    report = json.loads(answer.output)
    assert report["stopped_by"] == "until"
    assert report["uart"] == "start\nmid\nstop A\n"
    assert set(report["stalls"]) == {"pipeline", "mispredict", "flash", "axi", "unaligned"}
    assert report["cycles"] > report["instructions"] / 2
    assert "+-3 %" in report["note"]
    assert report["profile"]["functions"][0]["name"] == "layer"


def test_annotates_a_function(build):
    elf = build(PROGRAM, "-DCACHES")
    answer = _run(elf, "--uart-in", "A", "--until", "stop", "--annotate", "layer")
    lines = json.loads(answer.output)["annotate"]
    assert max(line["executions"] for line in lines) == 4000
    assert set(lines[0]) == {"address", "text", "executions", "cycles", "reason"}
    assert _run(elf, "--annotate", "nothing").exit_code == 2


def test_cycles_between_two_markers(build):
    elf = build(PROGRAM, "-DCACHES")
    first = _run(elf, "--uart-in", "A", "--from", "start", "--until", "mid")
    second = _run(elf, "--uart-in", "A", "--from", "mid", "--until", "stop")
    cycles = [json.loads(answer.output)["cycles"] for answer in (first, second)]
    assert cycles[1] / cycles[0] == pytest.approx(3, rel=0.1)


def test_raw_image_on_another_chip(build, tmp_path):
    raw = tmp_path / "program.bin"
    elf = build('int main(void) { print("hi"); return 0; }')
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(raw)], check=True)
    answer = _run(raw, "--base", "0x08000000", "--target", "stm32h7a3", "--profile")
    assert json.loads(answer.output)["uart"] == "hi"


def test_functional_run_has_no_cycles(build):
    answer = _run(build("int main(void) { return 0; }"), "--functional")
    report = json.loads(answer.output)
    assert report["cycles"] is None
    assert report["instructions"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--base", "flash"), "--base 'flash': expected an address like 0x08000000"),
        (("--target", "stm32f4"), "the emulator knows stm32h743"),
        (("--from", "xyz", "--uart-in", "A", "--max-instructions", "90000"), "never printed"),
    ],
)
def test_errors_exit_with_2(build, arguments, message):
    answer = _run(build(PROGRAM), *arguments)
    assert answer.exit_code == 2
    assert message in answer.stderr


def test_a_fault_is_reported(build):
    answer = _run(build("int main(void) { *(volatile int *)0x08000000 = 1; return 0; }"))
    assert answer.exit_code == 2
    assert "error: write to flash at address 0x08000000" in answer.stderr
    assert "program.c:1" in answer.stderr


def test_runs_as_a_module(build):
    command = [sys.executable, "-m", "tvm_mpq.emulator", "run"]
    elf = build("int main(void) { return 0; }")
    done = subprocess.run([*command, str(elf)], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["stopped_by"] == "end of program"
