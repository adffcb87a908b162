"""Generating and building projects: sizes that are true, errors that say what to do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from fake_library import INPUTS, FakeLibrary

from tvm_mpq.codegen.archive import ABI_VERSION, unpack_library
from tvm_mpq.errors import BoardFaultError, DoesNotFitError, InvalidValueError, ToolError
from tvm_mpq.micro import Firmware, Project, generate_project, run_on_emulator
from tvm_mpq.micro.stack import MARGIN
from tvm_mpq.names import c_name
from tvm_mpq.target import Target

MakeProject = Callable[..., Project]


def random_inputs(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, INPUTS)).astype(np.uint8)


@pytest.mark.emu
def test_emulator_returns_the_reference_result(firmware: Firmware) -> None:
    inputs = random_inputs(5)
    outputs, cycles = run_on_emulator(firmware, inputs)
    np.testing.assert_array_equal(outputs, FakeLibrary().reference(inputs))
    assert outputs.dtype == np.int32
    assert (cycles >= 0).all()


@pytest.mark.emu
def test_sizes_agree_with_the_elf(firmware: Firmware) -> None:
    with firmware.elf.open("rb") as file:
        segments = list(ELFFile(file).iter_segments("PT_LOAD"))
    in_flash = [s["p_filesz"] for s in segments if 0x08000000 <= s["p_paddr"] < 0x08200000]
    assert firmware.flash_bytes == sum(in_flash)
    assert firmware.flash_bytes == firmware.elf.with_suffix(".bin").stat().st_size
    assert firmware.arena_bytes == FakeLibrary().arena == firmware.axi_sram_bytes
    assert firmware.scratch_bytes == FakeLibrary().scratch
    sections = firmware.sections
    assert firmware.ram_bytes == sections[".tvm_arena"] + sections[".data"] + sections[".bss"]
    need = firmware.stack_need_bytes
    assert need > 300 and need + MARGIN <= firmware.stack_bytes < need + MARGIN + 8
    assert ("fc_weights", ".tvm_constants", 256) in {
        (s.name, s.section, s.size) for s in firmware.symbols
    }


@pytest.mark.emu
def test_build_leaves_nothing_half_done(project: Project, firmware: Firmware) -> None:
    assert not [path.name for path in project.folder.iterdir() if path.name.startswith(".")]
    assert project.firmware() == firmware


@pytest.mark.emu
@pytest.mark.parametrize(
    ("library", "options", "expected"),
    [
        (
            FakeLibrary(padding=1 << 20),
            {"flash": "1MB"},
            r"flash budget: (?P<need>\d+) bytes needed, 1024000 allowed, (?P<over>\d+) over"
            r"[^$]*largest: conv7_weights 1048576[^$]*fix: give --flash (?P<fix>\d+)",
        ),
        (
            FakeLibrary(arena=300000),
            {"ram": 300000},
            r"ram budget: (?P<need>\d+) bytes needed, 300000 allowed, (?P<over>\d+) over"
            r"[^$]*largest: tvmgen_default_arena 300000[^$]*fix: give --ram (?P<fix>\d+)",
        ),
        (
            FakeLibrary(scratch=40000),
            {},
            r"scratch limit: (?P<need>\d+) bytes needed, 32768 allowed, (?P<over>\d+) over"
            r"[^$]*tvmgen_default_scratch 40000[^$]*fix: give --target .*-scratch=(?P<fix>\d+)",
        ),
        (
            FakeLibrary(padding=3 << 20),
            {},
            r"flash budget: (?P<need>\d+) bytes needed, 2097152 allowed, (?P<over>\d+) over"
            r"[^$]*conv7_weights 3145728[^$]*fix: use fewer bits",
        ),
        (
            FakeLibrary(scratch=130500),
            {"scratch": 131000},
            r"DTCM: (?P<need>\d+) bytes needed, 131072 allowed, (?P<over>\d+) over"
            r"[^$]*tvmgen_default_scratch 130500",
        ),
    ],
    ids=["flash", "ram", "scratch", "chip-flash", "dtcm"],
)
def test_too_large_names_budget_bytes_and_tensors(
    make_project: MakeProject, library: FakeLibrary, options: dict[str, str], expected: str
) -> None:
    project = make_project(library, **options)
    with pytest.raises(DoesNotFitError) as error:
        project.build()
    match = re.search(expected, str(error.value))
    assert match, str(error.value)
    allowed = int(re.search(r"(\d+) allowed", match[0])[1])  # type: ignore[index]
    assert int(match["need"]) - allowed == int(match["over"]) > 0
    assert int(match.groupdict().get("fix") or match["need"]) == int(match["need"])
    assert not (project.folder / "build").exists()
    assert None not in (error.value.flash_bytes, error.value.ram_bytes)


@pytest.mark.emu
def test_budget_of_exactly_the_need_links(make_project: MakeProject, firmware: Firmware) -> None:
    need = {"flash": firmware.flash_bytes, "ram": firmware.ram_bytes}
    assert make_project(FakeLibrary(), **need).build().flash_bytes == firmware.flash_bytes


@pytest.mark.emu
def test_one_byte_less_than_the_need_does_not(
    make_project: MakeProject, firmware: Firmware
) -> None:
    with pytest.raises(DoesNotFitError, match=", 1 over"):
        make_project(FakeLibrary(), flash=firmware.flash_bytes - 1).build()


@pytest.mark.emu
def test_compiler_errors_are_shown(make_project: MakeProject) -> None:
    with pytest.raises(ToolError, match=r"default_lib0.c:\d+:\d+: error: expected expression"):
        make_project(FakeLibrary(bad_line="int x = ;")).build()


@pytest.mark.emu
def test_library_of_another_abi_does_not_compile(make_project: MakeProject) -> None:
    with pytest.raises(ToolError, match="library ABI differs from this project's"):
        make_project(FakeLibrary(abi=ABI_VERSION + 1)).build()


@pytest.mark.emu
def test_a_failed_build_keeps_the_one_before(make_project: MakeProject) -> None:
    project = make_project(FakeLibrary())
    before = project.build()
    (project.folder / "model/codegen/host/src/default_lib0.c").write_text("#error broken\n")
    with pytest.raises(ToolError, match="#error broken"):
        project.build()
    assert project.firmware() == before


@pytest.mark.emu
def test_build_stops_at_its_timeout(make_project: MakeProject) -> None:
    with pytest.raises(ToolError, match="make did not finish within 0.001 s"):
        make_project(FakeLibrary()).build(timeout=0.001)


@pytest.mark.emu
def test_return_code_of_the_network_is_an_error(make_project: MakeProject) -> None:
    firmware = make_project(FakeLibrary(return_code=-7)).build()
    with pytest.raises(BoardFaultError, match="entry point returned -7"):
        run_on_emulator(firmware, random_inputs(1))


@pytest.mark.emu
def test_input_outside_the_arena(make_project: MakeProject, firmware: Firmware) -> None:
    own = make_project(FakeLibrary(input_in_arena=False)).build()
    inputs = random_inputs(2)
    outputs, _ = run_on_emulator(own, inputs)
    np.testing.assert_array_equal(outputs, FakeLibrary().reference(inputs))
    assert own.ram_bytes == firmware.ram_bytes + INPUTS
    assert own.arena_bytes == firmware.arena_bytes


@pytest.mark.emu
def test_input_outside_the_arena_against_the_metadata(make_project: MakeProject) -> None:
    firmware = make_project(FakeLibrary(input_in_arena=False, tells_input=False)).build()
    with pytest.raises(BoardFaultError, match=r"error 8 \(NO_BUFFER\)"):
        run_on_emulator(firmware, random_inputs(1))


@pytest.mark.emu
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ('__asm volatile("sub sp, sp, #16384\\n push {r0-r7}" ::: "memory");', "stack overflow"),
        ("*(volatile int*)0x70000000 = 1;", "0x70000000"),
        ("*(volatile int*)0x08000000 = 1;", "write to flash"),
    ],
)
def test_faults_on_the_emulator_name_function_and_address(
    make_project: MakeProject, extra: str, message: str
) -> None:
    firmware = make_project(FakeLibrary(extra=extra)).build()
    with pytest.raises(BoardFaultError, match=message) as error:
        run_on_emulator(firmware, random_inputs(1))
    assert "tvmgen_default_run" in str(error.value)
    assert "default_lib0.c" in str(error.value)


# A load under a condition, then a block that starts while the condition is false. The move runs on
# a real core: an IT instruction covers only the load.
_CONDITIONAL_LOAD = """
  int32_t moved = 0;
  __asm volatile(
      "movs r0, #1\\n cmp r0, #0\\n it ne\\n ldrne r2, [%1]\\n cmp r0, r0\\n b 1f\\n"
      "1: movs %0, #1" : "+l"(moved) : "l"(tvmgen_default_arena) : "r0", "r2", "cc");
  if (moved == 0) return -77;
"""


@pytest.mark.emu
@pytest.mark.parametrize("cycles", [False, True])
def test_modelling_cycles_changes_no_result(make_project: MakeProject, cycles: bool) -> None:
    firmware = make_project(FakeLibrary(extra=_CONDITIONAL_LOAD)).build()
    inputs = random_inputs(1)
    outputs, _ = run_on_emulator(firmware, inputs, cycles=cycles)
    np.testing.assert_array_equal(outputs, FakeLibrary().reference(inputs))


@pytest.mark.emu
def test_cycles_count_past_the_wrap_of_the_counter(make_project: MakeProject) -> None:
    """CYCCNT is put 25 million cycles before 2^32, and SysTick must see it pass."""
    set_counter = "*(volatile uint32_t*)0xE0001004u = 0xFE800000u;"
    wait = "for (volatile uint32_t i = 0; i < 6000000u; ++i) {}"
    firmware = make_project(FakeLibrary(extra=set_counter + wait)).build()
    _, cycles = run_on_emulator(firmware, random_inputs(1))
    assert 1 << 32 < cycles[0] < (1 << 32) + (1 << 26)


@pytest.mark.emu
def test_480_mhz_runs_too(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(FakeLibrary())
    fast = generate_project(
        project.folder / "model.tar", tmp_path / "fast", Target("stm32h7"), clock_mhz=480
    )
    inputs = random_inputs(1)
    outputs, _ = run_on_emulator(fast.build(), inputs)
    np.testing.assert_array_equal(outputs, FakeLibrary().reference(inputs))


@pytest.mark.emu
def test_make_alone_builds_the_same_program(make_project: MakeProject) -> None:
    project = make_project(FakeLibrary())
    firmware = project.build()
    command = ["make", "-C", str(project.folder), "BUILD=by-hand"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    by_hand = project.folder / "by-hand/firmware.bin"
    assert by_hand.read_bytes() == firmware.elf.with_suffix(".bin").read_bytes()


@pytest.mark.null
def test_missing_compiler_names_the_package(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = make_project(FakeLibrary())
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "make").write_text("#!/bin/sh\n")
    (fake / "make").chmod(0o755)
    monkeypatch.setenv("PATH", str(fake))
    with pytest.raises(ToolError, match="apt-get install gcc-arm-none-eabi"):
        project.build()


@pytest.mark.null
def test_project_holds_the_library_twice_and_its_budgets(make_project: MakeProject) -> None:
    project = make_project(FakeLibrary(), flash="1MB", ram="256kB")
    unpack_library(project.folder / "model.tar", project.folder / "again")
    names = {p.relative_to(project.folder / "again") for p in (project.folder / "again").rglob("*")}
    assert names == {
        p.relative_to(project.folder / "model") for p in (project.folder / "model").rglob("*")
    }
    again = Project.open(project.folder)
    assert (again.target.flash, again.target.ram) == (1024000, 256000)


@pytest.mark.null
def test_project_from_a_tar_archive(make_project: MakeProject, tmp_path: Path) -> None:
    first = make_project(FakeLibrary())
    second = generate_project(first.folder / "model.tar", tmp_path / "second", Target("stm32h7"))
    source = "model/codegen/host/src/default_lib0.c"
    assert (second.folder / source).read_text() == (first.folder / source).read_text()


@pytest.mark.null
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 5}, "version 5; this project reads version 7"),
        ({"modules": {}}, "0 modules"),
        ({"modules": {"Net": {}}}, "module name 'Net' is not a lower-case C identifier"),
        ({"modules": {"net": {"model_name": "n"}}}, "KeyError 'memory'"),
    ],
)
def test_wrong_metadata_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    library = FakeLibrary().write(tmp_path / "lib")
    (library / "metadata.json").write_text(json.dumps(FakeLibrary().metadata() | change))
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        generate_project(library, tmp_path / "project", Target("stm32h7"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lib"]


@pytest.mark.null
def test_wrong_places_are_named(tmp_path: Path) -> None:
    target = Target("stm32h7")
    library = FakeLibrary().write(tmp_path / "lib")
    with pytest.raises(InvalidValueError, match="no such file or folder"):
        generate_project(tmp_path / "nothing", tmp_path / "p", target)
    with pytest.raises(InvalidValueError, match="lib exists; give a new folder"):
        generate_project(library, library, target)
    with pytest.raises(InvalidValueError, match="target host: no firmware for it"):
        generate_project(library, tmp_path / "p", Target("host"))
    with pytest.raises(InvalidValueError, match="clock 300 MHz"):
        generate_project(library, tmp_path / "p", target, clock_mhz=300)
    with pytest.raises(InvalidValueError, match="no metadata.json"):
        generate_project(library / "codegen", tmp_path / "p", target)
    with pytest.raises(InvalidValueError, match="not a readable tar"):
        generate_project(library / "metadata.json", tmp_path / "p", target)
    with pytest.raises(InvalidValueError, match="no config.mk"):
        Project.open(library)


@pytest.mark.null
def test_names_become_c_identifiers_as_microtvm_makes_them() -> None:
    assert c_name("serving_default_x:0") == "serving_default_x_0"
