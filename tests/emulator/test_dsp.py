"""Every DSP, multiply and bit-field instruction against its definition in the ARMv7-M manual.

The kernels rely on these instructions; this guards against an emulator that gets one wrong. Each
instruction runs on 300 inputs, edge values among them. Inputs: r0 (old destination, low word of a
64-bit accumulator), r1 (its high word), r2 (n), r3 (m), r4 (a).
"""

from __future__ import annotations

import random
import struct

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator import Board

pytestmark = pytest.mark.emu

CASES = 300
EDGES = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x80008000, 0x7FFF7FFF, 0x80018001]
EDGES += [0x7F7F7F7F, 0x80808080]


def signed(value, bits):
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def low(value):
    return signed(value, 16)


def high(value):
    return signed(value >> 16, 16)


def word(value):
    return signed(value, 32)


def byte(value, index):
    return value >> 8 * index & 0xFF


def rotate(value, distance):
    return (value >> distance | value << (32 - distance)) & 0xFFFFFFFF


def halves(top, bottom):
    return (top & 0xFFFF) << 16 | bottom & 0xFFFF


def signed_sat(value, bits):
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


def unsigned_sat(value, bits):
    return max(0, min((1 << bits) - 1, value))


def bytes_(function):
    return sum((function(index) & 0xFF) << 8 * index for index in range(4))


def divide(n, m):
    quotient = abs(n) // abs(m) if m else 0
    return quotient if (n < 0) == (m < 0) else -quotient


# 32-bit results: instruction -> f(d, n, m, a)
WORDS = {
    "smlad r0,r2,r3,r4": lambda d, n, m, a: low(n) * low(m) + high(n) * high(m) + a,
    "smladx r0,r2,r3,r4": lambda d, n, m, a: low(n) * high(m) + high(n) * low(m) + a,
    "smlsd r0,r2,r3,r4": lambda d, n, m, a: low(n) * low(m) - high(n) * high(m) + a,
    "smuad r0,r2,r3": lambda d, n, m, a: low(n) * low(m) + high(n) * high(m),
    "smlabb r0,r2,r3,r4": lambda d, n, m, a: low(n) * low(m) + a,
    "smlatb r0,r2,r3,r4": lambda d, n, m, a: high(n) * low(m) + a,
    "smlabt r0,r2,r3,r4": lambda d, n, m, a: low(n) * high(m) + a,
    "smlatt r0,r2,r3,r4": lambda d, n, m, a: high(n) * high(m) + a,
    "smlawb r0,r2,r3,r4": lambda d, n, m, a: (word(n) * low(m) >> 16) + a,
    "smulbb r0,r2,r3": lambda d, n, m, a: low(n) * low(m),
    "smultt r0,r2,r3": lambda d, n, m, a: high(n) * high(m),
    "mla r0,r2,r3,r4": lambda d, n, m, a: n * m + a,
    "mls r0,r2,r3,r4": lambda d, n, m, a: a - n * m,
    "mul r0,r2,r3": lambda d, n, m, a: n * m,
    "smmul r0,r2,r3": lambda d, n, m, a: word(n) * word(m) >> 32,
    "smmulr r0,r2,r3": lambda d, n, m, a: word(n) * word(m) + (1 << 31) >> 32,
    "smmla r0,r2,r3,r4": lambda d, n, m, a: (word(a) << 32) + word(n) * word(m) >> 32,
    "smmlar r0,r2,r3,r4": lambda d, n, m, a: (
        (word(a) << 32) + word(n) * word(m) + (1 << 31) >> 32
    ),
    "sxtb16 r0,r3": lambda d, n, m, a: halves(signed(m >> 16, 8), signed(m, 8)),
    "sxtb16 r0,r3,ror #8": lambda d, n, m, a: halves(signed(m >> 24, 8), signed(m >> 8, 8)),
    "uxtb16 r0,r3": lambda d, n, m, a: m & 0xFF00FF,
    "uxtb16 r0,r3,ror #8": lambda d, n, m, a: m >> 8 & 0xFF00FF,
    "uxtb16 r0,r3,ror #24": lambda d, n, m, a: rotate(m, 24) & 0xFF00FF,
    "sxtab16 r0,r2,r3": lambda d, n, m, a: halves(
        high(n) + signed(m >> 16, 8), low(n) + signed(m, 8)
    ),
    "uxtab16 r0,r2,r3": lambda d, n, m, a: halves(high(n) + byte(m, 2), low(n) + byte(m, 0)),
    "sxtab r0,r2,r3,ror #16": lambda d, n, m, a: n + signed(m >> 16, 8),
    "uxtah r0,r2,r3": lambda d, n, m, a: n + (m & 0xFFFF),
    "pkhbt r0,r2,r3,lsl #16": lambda d, n, m, a: n & 0xFFFF | m << 16,
    "pkhbt r0,r2,r3,lsl #3": lambda d, n, m, a: n & 0xFFFF | m << 3 & 0xFFFF0000,
    "pkhtb r0,r2,r3,asr #16": lambda d, n, m, a: n & 0xFFFF0000 | word(m) >> 16 & 0xFFFF,
    "usat r0,#8,r3": lambda d, n, m, a: unsigned_sat(word(m), 8),
    "usat r0,#8,r3,asr #7": lambda d, n, m, a: unsigned_sat(word(m) >> 7, 8),
    "usat r0,#4,r3,asr #20": lambda d, n, m, a: unsigned_sat(word(m) >> 20, 4),
    "usat r0,#2,r3,asr #28": lambda d, n, m, a: unsigned_sat(word(m) >> 28, 2),
    "ssat r0,#8,r3": lambda d, n, m, a: signed_sat(word(m), 8),
    "ssat r0,#8,r3,asr #9": lambda d, n, m, a: signed_sat(word(m) >> 9, 8),
    "ssat16 r0,#8,r3": lambda d, n, m, a: halves(signed_sat(high(m), 8), signed_sat(low(m), 8)),
    "usat16 r0,#8,r3": lambda d, n, m, a: halves(
        unsigned_sat(high(m), 8), unsigned_sat(low(m), 8)
    ),
    "ubfx r0,r3,#6,#2": lambda d, n, m, a: m >> 6 & 3,
    "sbfx r0,r3,#28,#4": lambda d, n, m, a: word(m) >> 28,
    "bfi r0,r3,#4,#4": lambda d, n, m, a: d & ~0xF0 | (m & 15) << 4,
    "bfc r0,#4,#9": lambda d, n, m, a: d & ~0x1FF0,
    "qadd r0,r2,r3": lambda d, n, m, a: signed_sat(word(n) + word(m), 32),
    "qsub r0,r2,r3": lambda d, n, m, a: signed_sat(word(n) - word(m), 32),
    "qdadd r0,r2,r3": lambda d, n, m, a: signed_sat(
        word(n) + signed_sat(2 * word(m), 32), 32
    ),
    "sadd16 r0,r2,r3": lambda d, n, m, a: halves(high(n) + high(m), low(n) + low(m)),
    "ssub16 r0,r2,r3": lambda d, n, m, a: halves(high(n) - high(m), low(n) - low(m)),
    "qadd16 r0,r2,r3": lambda d, n, m, a: halves(
        signed_sat(high(n) + high(m), 16), signed_sat(low(n) + low(m), 16)
    ),
    "uadd8 r0,r2,r3": lambda d, n, m, a: bytes_(lambda i: byte(n, i) + byte(m, i)),
    "ssub8 r0,r2,r3": lambda d, n, m, a: bytes_(lambda i: byte(n, i) - byte(m, i)),
    "uqadd8 r0,r2,r3": lambda d, n, m, a: bytes_(lambda i: min(255, byte(n, i) + byte(m, i))),
    "usad8 r0,r2,r3": lambda d, n, m, a: sum(abs(byte(n, i) - byte(m, i)) for i in range(4)),
    "usada8 r0,r2,r3,r4": lambda d, n, m, a: (
        a + sum(abs(byte(n, i) - byte(m, i)) for i in range(4))
    ),
    "clz r0,r3": lambda d, n, m, a: 32 - m.bit_length(),
    "rbit r0,r3": lambda d, n, m, a: int(f"{m:032b}"[::-1], 2),
    "rev r0,r3": lambda d, n, m, a: int.from_bytes(m.to_bytes(4, "little"), "big"),
    "rev16 r0,r3": lambda d, n, m, a: bytes_(lambda i: byte(m, i ^ 1)),
    "sdiv r0,r2,r3": lambda d, n, m, a: divide(word(n), word(m)),
    "udiv r0,r2,r3": lambda d, n, m, a: n // m if m else 0,
    "and r0,r2,r3,ror #8": lambda d, n, m, a: n & rotate(m, 8),
}  # fmt: skip
# 64-bit results in r1:r0, with the 64-bit accumulator d: instruction -> f(d, n, m)
LONGS = {
    "umull r0,r1,r2,r3": lambda d, n, m: n * m,
    "smull r0,r1,r2,r3": lambda d, n, m: word(n) * word(m),
    "umlal r0,r1,r2,r3": lambda d, n, m: d + n * m,
    "smlal r0,r1,r2,r3": lambda d, n, m: d + word(n) * word(m),
    "umaal r0,r1,r2,r3": lambda d, n, m: n * m + (d & 0xFFFFFFFF) + (d >> 32),
    "smlald r0,r1,r2,r3": lambda d, n, m: d + low(n) * low(m) + high(n) * high(m),
    "smlaldx r0,r1,r2,r3": lambda d, n, m: d + low(n) * high(m) + high(n) * low(m),
    "smlalbb r0,r1,r2,r3": lambda d, n, m: d + low(n) * low(m),
}
INSTRUCTIONS = [*WORDS, *LONGS]


@pytest.fixture(scope="module")
def inputs():
    source = random.Random(1)
    pick = lambda: source.choice(EDGES) if source.random() < 0.4 else source.getrandbits(32)  # noqa: E731
    return [[pick() for _ in range(5)] for _ in range(CASES)]


@pytest.fixture(scope="module")
def outputs(build, inputs):
    """(r0, r1) after each instruction and case."""
    body = "".join(
        f"run(input, output[{index}], {CASES}, op{index});\n" for index in range(len(INSTRUCTIONS))
    )
    operations = "".join(
        f'__attribute__((naked)) void op{index}(void) {{ __asm volatile("{text}\\n bx lr"); }}\n'
        for index, text in enumerate(INSTRUCTIONS)
    )
    program = f"""
    uint32_t input[{CASES}][5];
    __attribute__((section(".axi"))) uint32_t output[{len(INSTRUCTIONS)}][{CASES}][2];
    {operations}
    __attribute__((naked, noinline)) void run(void *in, void *out, int n, void (*op)(void)) {{
      __asm volatile("push {{r4-r8,lr}}\\n mov r5,r0\\n mov r6,r1\\n mov r7,r2\\n mov r8,r3\\n"
        "1: ldmia r5!,{{r0-r4}}\\n blx r8\\n stmia r6!,{{r0,r1}}\\n subs r7,#1\\n bne 1b\\n"
        "pop {{r4-r8,pc}}"); }}
    int main(void) {{ while (!receive()) {{}} {body} return 0; }}"""
    board = Board(build(program))
    assert board.run().stopped_by == "waiting for input"
    board.write_symbol("input", b"".join(struct.pack("<5I", *case) for case in inputs))
    assert board.run(b"x").stopped_by == "end of program"
    return list(struct.iter_unpack("<2I", board.read_symbol("output")))


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_instruction(instruction, inputs, outputs):
    start = INSTRUCTIONS.index(instruction) * CASES
    for (d, e, n, m, a), got in zip(inputs, outputs[start : start + CASES], strict=True):
        if instruction in WORDS:
            expected = (WORDS[instruction](d, n, m, a) & 0xFFFFFFFF, e)
        else:
            total = LONGS[instruction](e << 32 | d, n, m)
            expected = (total & 0xFFFFFFFF, total >> 32 & 0xFFFFFFFF)
        assert got == expected, [hex(value) for value in (d, e, n, m, a)]
