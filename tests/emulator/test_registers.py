"""Rules of registers and memories that start-up code leans on, and the clocks derived from them."""

from __future__ import annotations

import struct
import subprocess

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator import Board, CpuFaultError, core
from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.chips import CHIPS
from tvm_mpq.emulator.clocks import Clocks
from tvm_mpq.emulator.counter import NativeCounter
from tvm_mpq.emulator.native import load_shim
from tvm_mpq.emulator.python_counter import PythonCounter
from tvm_mpq.emulator.systick import CSR, CVR, RVR, SysTick
from tvm_mpq.emulator.timers import TIMERS, Timer


def _seen(build, statements, count, target="stm32h743"):
    """The words that a program leaves in ``seen``."""
    program = f"volatile uint32_t seen[{count}]; int main(void) {{ {statements} return 0; }}"
    with Board(build(program), target) as board:
        assert board.run(timeout_seconds=20).stopped_by == "end of program"
        return list(struct.unpack(f"<{count}I", board.read_symbol("seen")))


# (register, what is written, what it reads; None: nothing is written)
REGISTERS = {
    "vector table": (0xE000ED08, 0x0800007F, 0x08000000),
    "AIRCR with the key": (0xE000ED0C, 0x05FA0300, 0xFA050300),
    "AIRCR without it": (0xE000ED0C, 0x00000300, 0xFA050000),
    "CCR at reset": (0xE000ED14, None, 0x00040200),
    "CCR": (0xE000ED14, 0xFFFFFFFF, 0x0007031B),
    "interrupt priorities": (0xE000E41C, 0xFFFFFFFF, 0xF0F0F0F0),
    "system priorities": (0xE000ED20, 0xFFFFFFFF, 0xF0F0F0F0),
    "fault status": (0xE000ED28, 0xFFFFFFFF, 0),
    "DWT comparators": (0xE0001000, 0x00000001, 0x40000001),
    "MPU regions": (0xE000ED90, None, 16 << 8),
    "interrupt words": (0xE000E004, None, 4),
    "lazy stacking": (0xE000EF34, None, 0xC0000000),
    "SysTick reload": (0xE000E014, 0xFFFFFFFF, 0x00FFFFFF),
    "flash latency at reset": (0x52002000, None, 0x37),
    "PLL dividers at reset": (0x58024428, None, 0x02020200),
}


@pytest.mark.emu
@pytest.mark.parametrize("name", REGISTERS)
def test_registers_read_as_on_the_chip(build, name):
    address, written, expected = REGISTERS[name]
    write = "" if written is None else f"REG({address:#x}) = {written:#x}u;"
    restore = f"REG({address:#x}) = old;" if "vector" in name else ""
    statements = f"uint32_t old = REG({address:#x}); {write} seen[0] = REG({address:#x}); {restore}"
    assert _seen(build, f"{statements} (void)old;", 1) == [expected]


@pytest.mark.emu
def test_priority_bits_are_counted_as_an_rtos_does(build):
    """FreeRTOS writes 0xFF to a priority byte and asserts what comes back."""
    body = """volatile uint8_t *priority = (volatile uint8_t *)0xE000E400; *priority = 0xFF;
      uint8_t read = *priority; while (read & 0x80) { seen[0]++; read = (uint8_t)(read << 1); }"""
    assert _seen(build, body, 1) == [4]


@pytest.mark.emu
@pytest.mark.parametrize("low", [1, 2, 3])
@pytest.mark.parametrize("target", ["stm32h743", "stm32f746"])
def test_the_initial_stack_pointer_loses_its_low_bits(build, tmp_path, low, target):
    """_estack = 0x2004FFFF of old linker scripts."""
    elf = build("volatile uint32_t seen; int main(void) { "
                '__asm volatile("push {r4,r5}\\n pop {r4,r5}\\n mov %0,sp" : "=r"(seen));'
                " return 0; }")  # fmt: skip
    raw = tmp_path / "program.bin"
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(raw)], check=True)
    raw.write_bytes(struct.pack("<I", 0x2000FFF0 + low) + raw.read_bytes()[4:])
    with Board(elf) as named, Board(raw, target) as board:
        assert board.read_registers()[13] == 0x2000FFF0
        assert board.run(timeout_seconds=5).stopped_by == "end of program"
        (stack,) = struct.unpack("<I", board.read_memory(named.symbols["seen"], 4))
    assert 0 <= 0x2000FFF0 - stack < 64


KINDS = [
    pytest.param(
        NativeCounter, marks=pytest.mark.skipif(load_shim() is None, reason="no C compiler")
    ),
    PythonCounter,
]
WRITES = {
    "msr msp": "orr r1,r3,#3\\n msr msp,r1",
    "mov": "orr r1,r3,#1\\n mov sp,r1",
    "ldr": "orr r1,r3,#2\\n str r1,[r0]\\n ldr sp,[r0]",
    "in an IT block": "orr r1,r3,#3\\n cmp r1,r1\\n itt eq\\n moveq sp,r1\\n moveq r1,#0",
    "literal": "ldr sp,=0x2001FF03\\n push {r3}\\n pop {r3}",
}


@pytest.mark.emu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WRITES)
def test_every_way_to_load_the_stack_pointer(build, monkeypatch, kind, name):
    monkeypatch.setattr(core, "new_counter", kind)
    body = f"""register uint32_t place __asm("r0") = (uint32_t)(seen + 1); uint32_t stack;
      __asm volatile("mov r3,sp\\n {WRITES[name]}\\n push {{r4}}\\n pop {{r4}}\\n mov %0,sp\\n"
                     " mov sp,r3" : "=&r"(stack) : "r"(place) : "r1", "r3", "memory");
      seen[0] = stack & 3;"""
    assert _seen(build, body, 2)[0] == 0


@pytest.mark.emu
def test_the_process_stack_pointer_too(build):
    body = """__asm volatile("ldr r1,=0x20001003\\n msr psp,r1\\n mrs %0,psp" : "=r"(seen[0])
      :: "r1");"""
    assert _seen(build, body, 1) == [0x20001000]


@pytest.mark.emu
@pytest.mark.parametrize("target", ["stm32h743", "stm32f746"])
def test_erased_flash_reads_as_ones_and_does_not_run(build, target):
    last = 0x080FFFFC
    body = f"seen[0] = REG({last:#x}); seen[1] = REG({last - 0x1000:#x});"
    body += "seen[2] = REG(0x002FFFFC);" if target == "stm32f746" else "seen[2] = ~0u;"
    assert _seen(build, body, 3, target=target) == [0xFFFFFFFF] * 3
    off = f"int main(void) {{ ((void (*)(void)){last - 0xFFF:#x})(); return 0; }}"
    with (
        Board(build(off), target) as board,
        pytest.raises(CpuFaultError, match="undefined instruction"),
    ):
        board.run(timeout_seconds=5)


# Clock trees by hand: (chip, register writes, timer base) -> core cycles per timer clock.
H7_AHB2, F7_APB = 0x58024418, 0x40023808
DIVIDERS = {
    "H7, AHB / 2, APB1 / 2: timers at twice APB1": (
        *("stm32h743", {H7_AHB2: 8, 0x5802441C: 4 << 4}, 0x40000000, 2),
    ),
    "H7, AHB / 1, APB1 / 1": ("stm32h7a3", {H7_AHB2: 0, 0x5802441C: 0}, 0x40000000, 1),
    "H7, AHB / 2, APB1 / 4": ("stm32h743", {H7_AHB2: 8, 0x5802441C: 5 << 4}, 0x40000000, 4),
    "H7, the same with TIMPRE": (
        *("stm32h743", {H7_AHB2: 8, 0x5802441C: 5 << 4, 0x58024410: 1 << 15}, 0x40000000, 2),
    ),
    "H7, APB2 / 8 does not slow TIM2": (
        *("stm32h743", {H7_AHB2: 8, 0x5802441C: 6 << 8}, 0x40000000, 2),
    ),
    "H7, APB2 / 8": ("stm32h743", {H7_AHB2: 8, 0x5802441C: 6 << 8}, 0x40010000, 8),
    "F7, APB1 / 4, APB2 / 2: TIM5": ("stm32f746", {F7_APB: 5 << 10 | 4 << 13}, 0x40000C00, 2),
    "F7, APB1 / 4, APB2 / 2: TIM1": ("stm32f746", {F7_APB: 5 << 10 | 4 << 13}, 0x40010000, 1),
    "F7, APB1 / 4 with TIMPRE": (
        *("stm32f746", {F7_APB: 5 << 10, 0x4002388C: 1 << 24}, 0x40000C00, 1),
    ),
    "F7, APB1 / 16 with TIMPRE": (
        *("stm32f746", {F7_APB: 7 << 10, 0x4002388C: 1 << 24}, 0x40000C00, 4),
    ),
    "nothing written, H743: AHB / 2": ("stm32h743", {}, 0x40001000, 2),
    "nothing written, F746": ("stm32f746", {}, 0x40001000, 1),
}


@pytest.mark.null
@pytest.mark.parametrize("name", DIVIDERS)
def test_timers_take_their_clock_from_the_prescalers(name):
    chip, writes, base, cycles = DIVIDERS[name]
    bus, now = Bus(), [0]
    clocks = Clocks(bus, CHIPS[chip], CHIPS[chip].default_clock, lambda *_: None)
    Timer(bus, base, clocks, lambda: now[0])
    for address, value in writes.items():
        bus.write(address, 4, value)
    bus.write(base + 0x28, 4, 9)
    bus.write(base + 0x14, 4, 1)
    bus.write(base, 4, 1)
    now[0] = 10 * cycles * 1000 + 5
    assert bus.read(base + 0x24, 4) == 1000


@pytest.mark.null
@pytest.mark.parametrize("base", TIMERS)
def test_every_timer_counts_to_its_own_width(base):
    bus, now, bits = Bus(), [0], TIMERS[base]
    clocks = Clocks(bus, CHIPS["stm32f746"], 216, lambda *_: None)
    Timer(bus, base, clocks, lambda: now[0])
    assert bus.read(base + 0x2C, 4) == 2**bits - 1
    bus.write(base, 4, 1)
    now[0] = 2**bits - 1
    assert (bus.read(base + 0x24, 4), bus.read(base + 0x10, 4)) == (2**bits - 1, 0)
    now[0] += 3
    assert (bus.read(base + 0x24, 4), bus.read(base + 0x10, 4)) == (2, 1)
    bus.write(base + 0x10, 4, 0)
    assert bus.read(base + 0x10, 4) == 0


@pytest.mark.null
def test_a_stopped_timer_keeps_its_count_and_the_prescaler_waits_for_an_update():
    bus, now = Bus(), [0]
    clocks = Clocks(bus, CHIPS["stm32f746"], 216, lambda *_: None)
    Timer(bus, 0x40000000, clocks, lambda: now[0])
    bus.write(0x40000028, 4, 99)
    bus.write(0x40000000, 4, 1)
    now[0] = 50
    bus.write(0x40000000, 4, 0)
    now[0] = 5000
    assert bus.read(0x40000024, 4) == 50  # still undivided
    bus.write(0x40000014, 4, 1)
    bus.write(0x40000000, 4, 1)
    now[0] += 250
    assert bus.read(0x40000024, 4) == 2


@pytest.mark.null
@pytest.mark.parametrize(("source", "cycles"), [(4, 1), (0, 8)])
def test_systick_counts_on_the_clock_it_selects(source, cycles):
    bus, now = Bus(), [0]
    tick = SysTick(bus, lambda: now[0], lambda: None)
    bus.write(RVR, 4, 999)
    bus.write(CVR, 4, 5)
    bus.write(CSR, 4, 3 | source)
    assert tick.next_wrap() == 1000 * cycles
    now[0] = 400 * cycles
    assert bus.read(CVR, 4) == 600
    now[0] = 1000 * cycles
    assert tick.wrapped() and not tick.wrapped()
    assert bus.read(CSR, 4) == 3 | source | 1 << 16
    assert bus.read(CSR, 4) == 3 | source  # reading clears the flag
    # Switching the interrupt off and on does not restart the count.
    now[0] = 1300 * cycles
    bus.write(CSR, 4, 1 | source)
    bus.write(CSR, 4, 3 | source)
    assert bus.read(CVR, 4) == 700
    # A new period counts from the next reload.
    bus.write(RVR, 4, 99)
    now[0] = 2000 * cycles
    assert tick.wrapped() and bus.read(CVR, 4) == 0
    assert tick.next_wrap() == 2100 * cycles


# (chip, register writes, USART, baud rate)
BAUDS = {
    "H743, HSI": ("stm32h743", {0x58024454: 3, 0x4000480C: 0x22B}, 0x40004800, 115_315),
    "H743, APB1 at 100 MHz": (
        *("stm32h743", {H7_AHB2: 8, 0x5802441C: 4 << 4, 0x4000480C: 868}, 0x40004800, 115_207),
    ),
    "F746, APB2 at 108 MHz, 8 samples": (
        *("stm32f746", {F7_APB: 4 << 13, 0x40011000: 1 << 15, 0x4001100C: 0x751}, 0x40011000),
        115_261,
    ),
    "never set": ("stm32h743", {}, 0x40004800, None),
    "PLL2": ("stm32h743", {0x58024454: 1, 0x4000480C: 868}, 0x40004800, None),
}


@pytest.mark.null
@pytest.mark.parametrize("name", BAUDS)
def test_baud_rates(name):
    chip, writes, base, baud = BAUDS[name]
    bus = Bus()
    clocks = Clocks(bus, CHIPS[chip], CHIPS[chip].default_clock, lambda *_: None)
    for address, value in writes.items():
        bus.write(address, 4, value)
    assert clocks.baud(base) == baud
