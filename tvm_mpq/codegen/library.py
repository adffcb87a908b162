"""The C library of one network: header, entry point, kernels, micro-kernels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tvm_mpq
from tvm_mpq.codegen.archive import ABI_VERSION
from tvm_mpq.codegen.micro_export import kernel_header, micro_kernel_files
from tvm_mpq.codegen.plain_c import kernel_includes, kernel_signature, kernel_source
from tvm_mpq.codegen.program import Array, Program, Step
from tvm_mpq.codegen.streaming import kernel_symbol, layer_text, stage_text, symbol
from tvm_mpq.kernels.micro import micro_kernels
from tvm_mpq.memory.stages import StagePlan
from tvm_mpq.names import c_name, check_module_name, input_c_name
from tvm_mpq.schedule.apply import schedule

_WORDS_PER_LINE = 10


@dataclass(frozen=True)
class Library:
    """C and assembly by file name; ``headers`` go to include/, ``sources`` to src/.

    Every file and every symbol has the module's name in it, but for the micro-kernels, which equal
    libraries share: any number of libraries can be linked into one program.
    """

    name: str
    headers: dict[str, str]
    sources: dict[str, str]

    def write(self, include: Path, src: Path) -> None:
        """Write the files into two folders, which are made."""
        for folder, files in ((include, self.headers), (src, self.sources)):
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text)


def generate_library(program: Program, plan: StagePlan) -> Library:
    """C99 without malloc or libc beyond string.h; builds with -Wall -Wextra -Werror."""
    name = check_module_name(program.name)
    values = _common_values(program, plan)
    kernels, prototypes = _kernels(program)
    text = stage_text(program, plan)
    entry = values | {
        "declarations": prototypes,
        "constants": [_constant(program, step, key) for step, key in _constant_keys(program)],
        "counters": text.counters,
        "functions": text.functions,
        "first": text.first,
        "rest": text.rest,
        # A network of one layer has its input and its output from the caller.
        "uses_arena": plan.graph.by_rows
        or any(
            re.search(r"\barena\b", part) for part in (*text.functions, *text.first, *text.rest)
        ),
        "uses_least": any("LEAST(" in part for part in (*text.functions, *text.rest)),
    }
    return Library(
        name,
        {f"tvmgen_{name}.h": _render("header.h.j2", values)},
        {
            f"{name}_lib0.c": _render("entry.c.j2", entry),
            f"{name}_lib1.c": kernels,
            **micro_kernel_files(name, kernels, micro_kernels()),
        },
    )


def _common_values(program: Program, plan: StagePlan) -> dict[str, Any]:
    x, y = program.tensors[program.input], program.tensors[program.output]
    return _input_values(program, plan) | {
        "name": program.name,
        "macro": f"TVMGEN_{program.name.upper()}",
        "version": tvm_mpq.__version__,
        "abi_version": ABI_VERSION,
        "summary": f"{len(program.steps)} layers, {program.macs} MACs,"
        f" {plan.streamed_layers} of them row by row,"
        f" logits in units of {program.logits_scale:.9g}.",
        "input": input_c_name(program.input),
        "input_macro": input_c_name(program.input).upper(),
        "input_counter": c_name(program.input),
        "input_size": x.nbytes,
        "input_text": f"uint8 [{x.height}][{x.width}][{x.channels}]",
        "output": "output",
        "output_macro": "OUTPUT",
        "output_size": y.nbytes,
        "output_text": f"int32 [{y.channels}]",
        "indent": " " * len(f"int32_t tvmgen_{program.name}_run("),
        "arena_size": plan.arena_bytes,
        "scratch_size": max(4, program.scratch_bytes),
    }


def _input_values(program: Program, plan: StagePlan) -> dict[str, Any]:
    """Where the image lies, or how it arrives."""
    by_rows = plan.graph.by_rows
    tensor = plan.graph.tensors[program.input]
    offset = plan.arena.offsets.get(program.input, 0)
    in_arena = tensor.in_arena and not by_rows
    note = "The input's slot is reused: run destroys it." if in_arena else "The input stays as is."
    return {
        "by_rows": by_rows,
        "row_size": tensor.row_bytes,
        "row_count": tensor.height,
        "input_note": note,
        "input_buffer": f"ARENA + {offset}" if in_arena else "NULL",
        "input_ring": plan.rings[program.input],
        "input_offset": offset,
    }


def _kernels(program: Program) -> tuple[str, list[str]]:
    """(source of every distinct kernel, its prototypes)."""
    specs = {step.spec.symbol: step.spec for step in program.steps}
    names = {name: kernel_symbol(program.name, spec) for name, spec in specs.items()}
    prototypes = [kernel_signature(spec, names[name]) for name, spec in specs.items()]
    parts = [f"/* Kernels of {program.name}; generated by tvm_mpq {tvm_mpq.__version__}. */"]
    parts += [kernel_includes(kernel_header(program.name))]
    parts += [*(f"{prototype};" for prototype in prototypes), ""]
    for name, spec in specs.items():
        parts.append(f"/* {spec.name}: {layer_text(spec.inputs, spec.output)} */")
        function = schedule(spec, program.functions[name])
        parts.append(kernel_source(spec, function, names[name]))
    return "\n".join(parts), prototypes


def _constant_keys(program: Program) -> list[tuple[Step, str]]:
    return [(s, key) for s in program.steps for key in (s.weights, s.icn) if key]


def _constant(program: Program, step: Step, key: str) -> dict[str, Any]:
    array = program.constants[key]
    kind = f"{step.spec.w_bits}-bit weights" if key == step.weights else "requantization"
    return {
        "symbol": symbol(program, key),
        "dtype": f"{array.dtype}_t",
        "count": array.size,
        "words": _c_values(array),
        "comment": f"{step.name}: {kind}, {array.nbytes} bytes",
    }


def _c_values(array: Array) -> str:
    words = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
    suffix = "u" if array.dtype == np.uint32 else ""
    if suffix:
        texts = [f"0x{word:08x}u" for word in words.tolist()]
    else:
        # The literal -2147483648 would be an expression of a wider type.
        texts = [f"(int32_t)0x{word:08x}u" for word in words.tolist()]
    rows = [texts[i : i + _WORDS_PER_LINE] for i in range(0, len(texts), _WORDS_PER_LINE)]
    return ",\n".join("  " + ", ".join(row) for row in rows)


def _render(template: str, values: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tvm_mpq.codegen"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)
