"""The C library: C99 without libc, the Model Library Format, an arena that agrees with the plan."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.kernels.harness import conv_spec
from tests.relay_passes.networks import (
    calibrated_small_net,
    imported,
    plan_of,
    random_images,
    randomized,
    small_net_with_ranges,
)
from tvm_mpq.codegen.host import HostLibrary
from tvm_mpq.codegen.library import generate_library
from tvm_mpq.codegen.model_library_format import export_folder, metadata
from tvm_mpq.codegen.plain_c import kernel_signature, kernel_source
from tvm_mpq.codegen.program import Program, plan_memory
from tvm_mpq.codegen.row_plan import plan_layer_by_layer
from tvm_mpq.codegen.streaming import kernel_symbol
from tvm_mpq.deployment import Deployment
from tvm_mpq.errors import InvalidValueError, ToolError
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.memory.arena import ARENA_ALIGNMENT
from tvm_mpq.names import check_module_name
from tvm_mpq.pipeline import calibrate, quantize
from tvm_mpq.specs import InputSpec
from tvm_mpq.target import Target

TARGET = Target("stm32h7")


@pytest.fixture(scope="module")
def program() -> Program:
    plan = plan_of(small_net_with_ranges(), 4, 2)
    return quantize(calibrated_small_net(), plan, TARGET, name="small_net").program


def sources(program: Program) -> str:
    library = generate_library(program, plan_layer_by_layer(program))
    own = [library.sources[f"{library.name}_lib{i}.c"] for i in (0, 1)]
    return "\n".join([*library.headers.values(), *own])


@pytest.mark.null
def test_no_libc_and_no_runtime(program: Program) -> None:
    text = sources(program)
    includes = set(re.findall(r'#include [<"](.+)[>"]', text))
    assert includes == {
        *("stdint.h", "stddef.h", "stdbool.h"),
        *("tvmgen_small_net.h", "small_net_kernels.h"),
    }
    words = set(re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", text, flags=re.S)))
    assert not words & {
        "malloc",
        "free",
        "printf",
        "memcpy",
        "TVMBackendAllocWorkspace",
        "TVMFFIAny",
    }


@pytest.mark.null
def test_a_comment_per_layer_and_per_constant(program: Program) -> None:
    entry = generate_library(program, plan_layer_by_layer(program)).sources["small_net_lib0.c"]
    for step in program.steps:
        comment = (
            rf"/\* {step.name}: {step.spec.name}, .*-> \d+x\d+x\d+:\d+, \d+ constant bytes \*/"
        )
        assert re.search(comment + rf"\n  {kernel_symbol('small_net', step.spec)}\(", entry), (
            step.name
        )
        if step.weights:
            assert f"/* {step.name}: 2-bit weights, {4 * step.spec.weight_words} bytes */" in entry
    constants = re.findall(r"const (\w+) tvmgen_small_net_(\w+)\[(\d+)\] = \{(.*?)\};", entry, re.S)
    assert {name: int(count) for _, name, count, _ in constants} == {
        name: array.size for name, array in program.constants.items()
    }
    for _, name, count, values in constants:
        assert len(re.findall(r"0x[0-9a-f]{8}u", values)) == int(count), name


@pytest.mark.null
def test_header_macros(program: Program) -> None:
    plan = plan_layer_by_layer(program)
    header = generate_library(program, plan).headers["tvmgen_small_net.h"]
    macros = dict(re.findall(r"#define TVMGEN_SMALL_NET_(\w+) (\d+)", header))
    assert {name: int(value) for name, value in macros.items()} == {
        "ABI_VERSION": 2,
        "OK": 0,
        "X_SIZE": 13 * 14 * 3,
        "OUTPUT_SIZE": 4 * 5,
        "WORKSPACE_SIZE": plan.arena_bytes,
        "SCRATCH_SIZE": program.scratch_bytes,
    }
    assert "struct tvmgen_small_net_inputs {\n  void *x;" in header
    assert "int32_t tvmgen_small_net_run(" in header


@pytest.mark.null
def test_calls_use_the_planned_offsets(program: Program) -> None:
    """Parse the calls: whole tensors, and bytes that live at one time never overlap."""
    plan = plan_layer_by_layer(program)
    entry = generate_library(program, plan).sources["small_net_lib0.c"]
    assert f"arena[{plan.arena_bytes}]" in entry
    live: dict[str, tuple[int, int]] = {}
    last = {name: i for i, step in enumerate(program.steps) for name in step.inputs}
    for i, step in enumerate(program.steps):
        call = re.search(
            rf"  {kernel_symbol('small_net', step.spec)}\((.*)\);",
            entry.split(f"/* {step.name}: ")[-1],
        )
        assert call is not None
        arguments = call[1].split(", ")
        for name, argument in zip(step.inputs, arguments[::2], strict=False):
            assert argument == ("caller.input" if name == "x" else f"arena + {live[name][0]}"), (
                step.name
            )
        position = 2 * len(step.inputs)
        height = str(step.spec.output.height)
        assert arguments[position + 1 : position + 4] == [height, "0", height]
        live = {name: span for name, span in live.items() if last.get(name, i) >= i}
        if step.output == program.output:
            assert arguments[position] == "caller.output"
            continue
        start = int(arguments[position].removeprefix("arena + "))
        end = start + step.spec.output.nbytes
        assert end <= plan.arena_bytes
        for name, (low, high) in live.items():
            overlap = start < high and low < end
            in_place = step.spec.op == "add" and name in step.inputs and last[name] == i
            assert not overlap or (in_place and start == low), (step.name, name)
        live[step.output] = (start, end)


@pytest.mark.null
def test_an_add_writes_over_a_dying_input(program: Program) -> None:
    plan = plan_memory(program)
    (add,) = (buffer for buffer in plan.buffers if buffer.name.startswith("add"))
    assert add.alias_of == "conv2d_2" and plan.offsets["add_3"] == plan.offsets["conv2d_2"]
    assert [b.name for b in plan.buffers if b.alias_of] == ["add_3"]  # nothing else is in place
    assert "dense_8" not in plan.offsets  # the logits go to the caller's buffer
    assert "x" not in plan_memory(program, input_in_arena=False).offsets


class TwoAdds(nn.Module):
    """The first input of the first add is read again by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.a(x))
        second = first + self.b(first)
        return self.classifier((second + first).mean((2, 3)))


@pytest.mark.null
def test_an_add_never_writes_over_what_is_read_later() -> None:
    spec = InputSpec.from_range("-1,1")
    model = calibrate(imported(randomized(TwoAdds())), random_images(2), spec)
    plan = plan_memory(quantize(model, plan_of(model.module), TARGET).program)
    aliases = {buffer.name: buffer.alias_of for buffer in plan.buffers if buffer.alias_of}
    assert aliases == {"add_2": "conv2d_1", "add_3": "add_2"}


@pytest.mark.null
@pytest.mark.parametrize("name", ["", "Net", "1net", "my-net", "a b"])
def test_module_names(name: str) -> None:
    with pytest.raises(InvalidValueError, match="expected a lower-case C identifier"):
        check_module_name(name)
    assert check_module_name("net_2") == "net_2"


@pytest.mark.null
def test_unused_arguments_are_named() -> None:
    """One calling convention for all kernels: what a kernel does not need is cast to void."""
    spec = conv_spec("max_pool2d", small_net_input(), 3, 8, 0, (2, 2), (2, 2))
    source = kernel_source(spec, primfunc(spec))
    assert source.startswith(kernel_signature(spec) + " {\n")
    assert re.findall(r"\(void\)(\w+);", source) == ["w", "icn", "scratch"]


def small_net_input():  # type: ignore[no-untyped-def]
    from tvm_mpq.specs import TensorSpec

    return TensorSpec.of_map(3, 8, 8, 8)


def export(program: Program, folder: Path) -> Path:
    plan = plan_layer_by_layer(program)
    description = metadata(program, plan, TARGET, {"note": 1})
    export_folder(generate_library(program, plan), "the module", description, folder)
    return folder


@pytest.mark.null
def test_model_library_format(program: Program, tmp_path: Path) -> None:
    folder = export(program, tmp_path / "lib")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    kinds = ["add", "core_smlad", "depthwise", "depthwise_twins", "lanes", "micro_kernels"]
    kinds += ["pack_lanes", "pack_pairs", "pool", "store"]
    names = ["lib0.c", "lib1.c", "kernels.h", "kernels.S", *(f"mpq_{kind}.c" for kind in kinds)]
    assert files == {
        "metadata.json",
        "parameters/small_net.params",
        "src/small_net.relax",
        "codegen/host/include/tvmgen_small_net.h",
        *(f"codegen/host/src/small_net_{name}" for name in names),
    }
    content = json.loads((folder / "metadata.json").read_text())
    assert content["version"] == 7
    module = content["modules"]["small_net"]
    assert module["style"] == "full-model" and module["executors"] == ["aot"]
    assert module["target"] == ["c -mcpu=cortex-m7 -model=stm32h7"]
    assert module["tvm_mpq"] == {"note": 1}
    (main,) = module["memory"]["functions"]["main"]
    assert main["inputs"] == {"x": {"size": 546, "dtype": "uint8"}}
    assert main["outputs"] == {"output": {"size": 20, "dtype": "int32"}}
    assert main["constants_size_bytes"] == sum(a.nbytes for a in program.constants.values())
    names = {op["function_name"] for op in module["memory"]["functions"]["operator_functions"]}
    assert names == {kernel_symbol("small_net", step.spec) for step in program.steps}
    with pytest.raises(InvalidValueError, match="exists; give a new path"):
        export(program, folder)


@pytest.mark.null
def test_export_leaves_nothing_when_it_fails(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        export(program, tmp_path / "lib")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cc
@pytest.mark.parametrize("compiler", ["cc", "arm-none-eabi-gcc"])
def test_compiles_as_strict_c99(program: Program, tmp_path: Path, compiler: str) -> None:
    code = export(program, tmp_path / "lib") / "codegen" / "host"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow", "-fsyntax-only"]
    if compiler != "cc":
        flags += ["-mcpu=cortex-m7", "-mthumb"]
    files = [str(path) for path in (code / "src").glob("*.[cS]")]
    subprocess.run([compiler, *flags, f"-I{code / 'include'}", *files], check=True, timeout=120)


@pytest.mark.cc
def test_host_compiler_s_complaint_is_shown(tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("int broken(void) { return nothing; }\n")
    with pytest.raises(ToolError, match="rejects the generated C.*(?s:.*)nothing"):
        HostLibrary("bad", tmp_path, tmp_path, tmp_path, 1, 1)


@pytest.mark.emu
def test_null_pointers_are_an_error_code(deployment: Deployment) -> None:
    import ctypes

    run = deployment.host_library.binary.tvmgen_default_run
    empty = (ctypes.c_void_p * 1)(None)
    assert run(None, None) == -1 and run(empty, empty) == -1


@pytest.mark.emu
def test_the_arena_symbol_is_the_plan(deployment: Deployment) -> None:
    assert deployment.arena is not None
    size = deployment.arena.sizes["AXI_SRAM"]
    assert deployment.firmware.arena_bytes == -(-size // ARENA_ALIGNMENT) * ARENA_ALIGNMENT
