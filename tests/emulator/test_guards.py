"""Which instructions are watched for stack growth and alignment, by their encodings."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("elftools")

from tvm_mpq.emulator.guards import expand_constant, find_guards
from tvm_mpq.emulator.image import Image

pytestmark = pytest.mark.null

BASE = 0x08000000
# halfwords -> (is_stack, register, offset, subtracted register)
WATCHED = {
    "push {r4,lr}": ((0xB510,), (True, 13, -8, -1)),
    "push.w {r4-r11,lr}": ((0xE92D, 0x4FF0), (True, 13, -36, -1)),
    "sub sp,#24": ((0xB086,), (True, 13, -24, -1)),
    "sub.w sp,sp,#4096": ((0xF5AD, 0x5D80), (True, 13, -4096, -1)),
    "subw sp,sp,#4000": ((0xF6AD, 0x7DA0), (True, 13, -4000, -1)),
    "sub.w sp,sp,r3": ((0xEBAD, 0x0D03), (True, 13, 0, 3)),
    "str r0,[sp,#-12]!": ((0xF84D, 0x0D0C), (True, 13, -12, -1)),
    "strd r0,r1,[sp,#-16]!": ((0xE96D, 0x0104), (True, 13, -16, -1)),
    "vpush {d8-d9}": ((0xED2D, 0x8B04), (True, 13, -16, -1)),
    "ldmia r2!,{r0,r1}": ((0xCA03,), (False, 2, 0, -1)),
    "stmdb r4!,{r0-r2}": ((0xE924, 0x0007), (False, 4, -12, -1)),
    "ldmdb r4,{r0,r1}": ((0xE914, 0x0003), (False, 4, -8, -1)),
    "ldrd r0,r1,[r5,#-8]": ((0xE955, 0x0102), (False, 5, -8, -1)),
    "strd r0,r1,[r6,#16]!": ((0xE9E6, 0x0104), (False, 6, 16, -1)),
    "ldrd r0,r1,[r6],#8": ((0xE8F6, 0x0102), (False, 6, 0, -1)),
    "vldr s0,[r7,#20]": ((0xED97, 0x0A05), (False, 7, 20, -1)),
    "vldr d0,[r7,#-20]": ((0xED17, 0x0B05), (False, 7, -20, -1)),
    "vstmia r8!,{d0-d1}": ((0xECA8, 0x0B04), (False, 8, 0, -1)),
    "vldmdb r9!,{s0-s1}": ((0xED39, 0x0A02), (False, 9, -8, -1)),
}
IGNORED = {
    "pop {r4,pc}": (0xBD10,),
    "ldrd r0,r1,[pc,#16]": (0xE9DF, 0x0104),
    "vldr s0,[pc,#8]": (0xED9F, 0x0A02),
    "tbb [pc,r1]": (0xE8DF, 0xF001),
    "ldrex r0,[r1]": (0xE851, 0x0F00),
    "vmov d0,r0,r1": (0xEC41, 0x0B10),
    "vmov r0,r1,d0": (0xEC51, 0x0B10),
    "ldr r0,[r1,#1]": (0xF8D1, 0x0001),
    "add sp,#16": (0xB004,),
    "ldr r0,[sp],#4": (0xF85D, 0x0B04),
    "sub.w r0,sp,#8": (0xF1AD, 0x0008),
}


def _guards(*halfwords, stack=True):
    code = b"".join(half.to_bytes(2, "little") for half in halfwords)
    image = Image(Path("none"), [(BASE, code)], BASE, code=[(BASE, BASE + len(code))])
    return find_guards(image, stack=stack)


@pytest.mark.parametrize("text", WATCHED)
def test_watched(text):
    halfwords, expected = WATCHED[text]
    (guard,) = _guards(*halfwords)
    assert guard.address == BASE
    assert (guard.is_stack, guard.register, guard.offset, guard.subtracted) == expected


@pytest.mark.parametrize("text", IGNORED)
def test_ignored(text):
    assert _guards(*IGNORED[text]) == []


def test_wide_instructions_are_not_read_as_two_narrow_ones():
    # movw r0, #... whose second half looks like PUSH, then a real PUSH.
    guards = _guards(0xF240, 0xB510, 0xB510)
    assert [guard.address for guard in guards] == [BASE + 4]


def test_without_a_stack_limit_only_alignment_is_watched():
    guards = _guards(0xB510, 0xCA03, stack=False)
    assert [guard.is_stack for guard in guards] == [False]


def test_constants():
    cases = {0x0AB: 0xAB, 0x1AB: 0x00AB00AB, 0x2AB: 0xAB00AB00, 0x3AB: 0xABABABAB}
    cases |= {0x400 | 0x7F: 0xFF000000, 0xF80: 0x100, 0xD80: 0x1000}
    assert {code: expand_constant(code) for code in cases} == cases
