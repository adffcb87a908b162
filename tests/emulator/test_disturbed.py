"""A run that is disturbed ends with an error or goes on as if nothing had been; it never lies."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator import Board, core
from tvm_mpq.emulator.counter import NativeCounter
from tvm_mpq.emulator.native import load_shim
from tvm_mpq.emulator.python_counter import PythonCounter
from tvm_mpq.errors import BoardFaultError, InvalidValueError

pytestmark = pytest.mark.emu

# Many different blocks, so that most of the time goes into pricing, and registers besides.
PRICED = """
volatile uint32_t sum;
int main(void) {
  uint32_t seed = 1;
  for (int i = 0; i < 40; i++) {
    REPEATED
    sum += CYCCNT & 1; send('.'); }
  return 0; }
""".replace(
    "REPEATED",
    "\n".join(
        f"seed = seed * 1664525u + {n}u; if (seed >> 31) sum += {n}; else sum ^= seed;"
        for n in range(1, 60)
    ),
)
MOMENTS = 50
KINDS = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            NativeCounter, marks=pytest.mark.skipif(load_shim() is None, reason="no C compiler")
        ),
        PythonCounter,
    ],
)


class Alarm(BaseException):
    pass


def _raise(*_: object) -> None:
    raise Alarm


@pytest.fixture
def alarm():
    before = signal.getsignal(signal.SIGALRM)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _timeless(result):
    return dataclasses.replace(result, seconds=0)


@KINDS
def test_a_signal_that_raises_leaves_no_wrong_figure(build, monkeypatch, alarm, kind):
    """At 50 moments: the run ends with the handler's exception, and may then be continued."""
    monkeypatch.setattr(core, "new_counter", kind)
    elf = build(PRICED, "-DCACHES")
    started = time.perf_counter()
    with Board(elf) as board:
        whole = _timeless(board.run(cycles=True))
    lasts = time.perf_counter() - started
    assert whole.cycles > 40 * 60
    interrupted = 0
    for moment in range(MOMENTS):
        with Board(elf) as board:
            signal.signal(signal.SIGALRM, _raise)
            alarm(lasts * (moment + 0.5) / MOMENTS)
            try:
                result = board.run(cycles=True)
            except Alarm:
                interrupted += 1
                assert signal.getsignal(signal.SIGALRM) is _raise
                alarm(0)
                if board.usage.instructions < whole.instructions:
                    board.run(cycles=True)
                assert board.usage.cycles == whole.cycles
                assert board.usage.instructions == whole.instructions
                assert bytes(board.console.sent) == whole.uart
            else:
                alarm(0)
                assert _timeless(result) == whole
    assert interrupted >= 5


def test_signals_that_do_not_raise_change_nothing(build, alarm):
    elf, came = build(PRICED, "-DCACHES"), []
    with Board(elf) as board:
        whole = _timeless(board.run(cycles=True))
    signal.signal(signal.SIGALRM, lambda *_: came.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    with Board(elf) as board:
        assert _timeless(board.run(cycles=True)) == whole
    assert len(came) > 5


@pytest.mark.parametrize("program", ["for (;;) {}", "for (;;) (void)CYCCNT;"])
def test_interrupting_the_command_prints_no_figure(build, program):
    elf = build(f"int main(void) {{ send('a'); {program} }}", "-DCACHES")
    command = [sys.executable, "-m", "tvm_mpq.emulator", "run", str(elf)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        time.sleep(2.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode not in (0, None)
    assert out == "" and "Traceback" not in err


def _fail(*_: object) -> int:
    raise ZeroDivisionError("broken")


@KINDS
def test_a_failure_while_pricing_ends_the_run(build, monkeypatch, kind):
    monkeypatch.setattr(core, "new_counter", kind)
    with Board(build(PRICED)) as board:
        monkeypatch.setattr(board._pricer, "_price", _fail)
        with pytest.raises(ZeroDivisionError, match="broken"):
            board.run(cycles=True)
        with pytest.raises(InvalidValueError, match="an error ended the last run"):
            board.run(cycles=True)


@KINDS
def test_a_price_that_python_never_gave_ends_the_run(build, monkeypatch, kind):
    """ctypes answers 0 when an exception strikes before the callback's first statement."""
    monkeypatch.setattr(core, "new_counter", kind)
    with Board(build(PRICED)) as board:
        board._counter.set_price(lambda index: 0)
        with pytest.raises(BoardFaultError, match="no figure is possible"):
            board.run(cycles=True)


def test_a_failing_callback_of_the_user_ends_the_run(build):
    for attach in (
        lambda board: setattr(board, "on_uart_byte", _fail),
        lambda board: board.watch(["main"], _fail),
        lambda board: board.bus.on_read(0xE0001004, _fail),
    ):
        with Board(build(PRICED)) as board:
            attach(board)
            with pytest.raises(ZeroDivisionError, match="broken"):
                board.run(cycles=True)
            with pytest.raises(InvalidValueError, match="create a new Board"):
                board.run()


@KINDS
def test_limits_hold_while_blocks_are_priced(build, monkeypatch, kind):
    """A flash full of code that runs once: every block is new."""
    monkeypatch.setattr(core, "new_counter", kind)
    once = 'int main(void) { __asm volatile(".rept 200000\\n adds r0,#1\\n nop.w\\n .endr"'
    elf = build(once + '::: "r0", "cc"); return 0; }', "-DCACHES")
    with Board(elf) as board:
        result = board.run(cycles=True, timeout_seconds=0.5)
        assert result.stopped_by == "time limit" and result.seconds < 1.5
        result = board.run(cycles=True, max_instructions=2000)
        assert result.stopped_by == "instruction limit"
        assert 2000 <= result.instructions < 2600 and result.seconds < 1.5


def _address_space() -> int:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmSize"))


def test_a_closed_board_gives_its_memory_back(build):
    elf = build(PRICED)
    Board(elf).close()
    before = _address_space()
    for _ in range(20):
        with Board(elf) as board:
            result = board.run(cycles=True)
    assert _address_space() - before < 100_000
    # Counts stay, running and memory do not.
    assert board.usage.cycles == result.cycles
    assert board.annotate("main")
    for use in (board.run, lambda: board.read_memory(0x08000000, 4), board.read_registers):
        with pytest.raises(InvalidValueError, match="closed|ended"):
            use()
    board.close()
