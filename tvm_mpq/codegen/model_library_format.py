"""Model Library Format, version 7: the folder or tar that microTVM's tools exchange."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from tvm_mpq.codegen.archive import FORMAT_VERSION
from tvm_mpq.codegen.library import Library
from tvm_mpq.codegen.program import Program
from tvm_mpq.codegen.streaming import kernel_symbol
from tvm_mpq.files import new_folder
from tvm_mpq.memory.stages import StagePlan
from tvm_mpq.target import Target

# u64 magic, u64 0, u64 0 names, u64 0 arrays: all weights are in the sources.
_EMPTY_PARAMS = (0xF7E58D4F05049CB7).to_bytes(8, "little") + bytes(24)


def metadata(
    program: Program, plan: StagePlan, target: Target, extra: dict[str, Any]
) -> dict[str, Any]:
    """The content of metadata.json; ``extra`` is our own section, ``tvm_mpq``."""
    x, y = program.tensors[program.input], program.tensors[program.output]
    main = {
        "device": 1,
        "workspace_size_bytes": plan.arena_bytes,
        "constants_size_bytes": sum(array.nbytes for array in program.constants.values()),
        "io_size_bytes": x.nbytes + y.nbytes,
        "inputs": {program.input: {"size": x.nbytes, "dtype": "uint8"}},
        "outputs": {"output": {"size": y.nbytes, "dtype": "int32"}},
    }
    operators = [
        {"function_name": symbol, "workspace": [{"device": 1, "workspace_size_bytes": 0}]}
        for symbol in {kernel_symbol(program.name, step.spec): None for step in program.steps}
    ]
    module = {
        "model_name": program.name,
        "export_datetime": datetime.now().strftime("%Y-%m-%d %H:%M:%SZ"),
        "target": [f"c -mcpu={target.core} -model={target.name}"],
        "executors": ["aot"],
        "style": "full-model",
        "external_dependencies": [],
        "memory": {"functions": {"main": [main], "operator_functions": operators}},
        "tvm_mpq": extra,
    }
    return {"version": FORMAT_VERSION, "modules": {program.name: module}}


def export_folder(
    library: Library, module_text: str, description: dict[str, Any], folder: Path
) -> None:
    """Write the library as a folder; it appears whole or not at all."""
    with new_folder(folder.resolve()) as work:
        host = work / "codegen" / "host"
        library.write(host / "include", host / "src")
        for name, content in (
            (f"parameters/{library.name}.params", _EMPTY_PARAMS),
            (f"src/{library.name}.relax", module_text.encode()),
            ("metadata.json", json.dumps(description, indent=2, sort_keys=True).encode()),
        ):
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
