"""A second opinion: the same sources on qemu's Cortex-M7, which knows real exceptions."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest
from fake_library import INPUTS, FakeLibrary

from tvm_mpq.errors import BoardFaultError, ToolError
from tvm_mpq.micro import Firmware, Project, run_on_emulator, run_on_qemu

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None,
    reason="no second opinion: qemu-system-arm is missing (apt-get install qemu-system-arm)",
)


@needs_qemu
@pytest.mark.emu
def test_qemu_and_the_emulator_agree(project: Project, firmware: Firmware) -> None:
    inputs = np.random.default_rng(3).integers(0, 256, (20, INPUTS)).astype(np.uint8)
    second, cycles = run_on_qemu(project, inputs)
    first, _ = run_on_emulator(firmware, inputs)
    np.testing.assert_array_equal(second, first)
    np.testing.assert_array_equal(second, FakeLibrary().reference(inputs))
    assert not cycles.any()


# Each reaches the template's own fault handler, which reports over the serial line.
_UNALIGNED = '__asm volatile("ldrd r0, r1, [%0]" :: "r"(tvmgen_default_arena + 1) : "r0", "r1");'
_UNMAPPED = "*(volatile int*)0x70000000 = 1;"
_OVERFLOW = '__asm volatile("sub sp, sp, #16384\\n push {r0-r7}" ::: "memory");'


@needs_qemu
@pytest.mark.emu
@pytest.mark.parametrize(
    ("extra", "status", "where"),
    [
        # UFSR.UNALIGNED is CFSR bit 24, BFSR.PRECISERR bit 9 (PM0253 4.3.10).
        (_UNALIGNED, 1 << 24, r" in tvmgen_default_run\+0x"),
        (_UNMAPPED, 1 << 9, r" in tvmgen_default_run\+0x"),
        # qemu lets the push below RAM pass; what is popped is no code (any usage fault will do).
        (_OVERFLOW, 0xFFFFFFFF, ", probably by a stack overflow"),
    ],
    ids=["unaligned-ldrd", "unmapped", "stack-overflow"],
)
def test_faults_are_reported_over_the_line(
    make_project: Callable[..., Project], extra: str, status: int, where: str
) -> None:
    project = make_project(FakeLibrary(extra=extra))
    with pytest.raises(BoardFaultError, match=f"the firmware faulted{where}") as error:
        run_on_qemu(project, np.zeros((1, INPUTS), np.uint8), timeout=5)
    cfsr = int(str(error.value).split("CFSR 0x")[1][:8], 16)
    assert cfsr & status, str(error.value)


@pytest.mark.null
def test_missing_qemu_names_the_package(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(FakeLibrary())
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolError, match="apt-get install qemu-system-arm"):
        run_on_qemu(project, np.zeros((1, INPUTS), np.uint8))
