"""Names from the user: valid C and C++, or an error before anything is generated."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.codegen.linking import STRICT, call, expected, one_layer, run, shared_object
from tests.codegen.networks import Network
from tvm_mpq.builder import build
from tvm_mpq.codegen.library import generate_library
from tvm_mpq.codegen.row_plan import plan_layer_by_layer, plan_streamed
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.frontends import from_torch
from tvm_mpq.names import (
    MAX_MODULE_NAME,
    c_name,
    check_module_name,
    input_c_name,
)
from tvm_mpq.specs import InputSpec

KEYWORDS = ["int", "default", "restrict", "new", "this", "template", "class", "and", "co_yield"]
MACROS = ["NULL", "bool", "true", "INT8_MAX", "INT32_C", "EOF", "errno", "linux", "unix", "assert"]
OURS = ["output", "OUTPUT", "Workspace", "scratch", "row", "arena", "rows", "caller", "state"]
OURS += [
    "tvmgen_net_inputs",
    "tvmgen_net_run",
    "TVMGEN_NET_OK",
    "mpq_store8",
    "MPQ_ASSEMBLY",
    "FEED",
]
ODD = ["größe", "Ärger", "中", "😀", "", "_", "__x__", "_Bool", "1st", "9", "a b", "x:0", "x.y/z"]
ODD += ["*/ int evil; /*", '"', "x\ny", "a" * 200, "uint8_t", "memcpy", "x" * 63 + "_"]


@pytest.mark.null
@pytest.mark.parametrize("name", KEYWORDS + MACROS + OURS + ODD)
def test_c_names(name: str) -> None:
    text = c_name(name)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) and "__" not in text
    assert c_name(text) == text
    for kept in ("x", "input_1", "data", "X", "conv2d_0"):
        assert c_name(kept) == input_c_name(kept) == kept


@pytest.mark.null
@pytest.mark.parametrize(
    "name", ["", "Net", "1net", "my-net", "a b", "größe", "a__b", "net_", "_net", "a" * 65, "x\n"]
)
def test_module_names(name: str) -> None:
    with pytest.raises(InvalidValueError, match="expected a lower-case C identifier of at most 64"):
        check_module_name(name)
    for good in ("net_2", "int", "output", "a" * MAX_MODULE_NAME):
        assert check_module_name(good) == good


@pytest.mark.cc
def test_every_input_name_compiles(tmp_path: Path) -> None:
    """The C of every name, and its header in C++, where macros of the system are defined."""
    text = "#include <cerrno>\n#include <cstdio>\n#include <cassert>\n"
    for index, name in enumerate(filter(None, KEYWORDS + MACROS + OURS + ODD)):
        # Some names are meant to meet those of this module.
        module = "net" if "net" in name.lower() else f"net{index}"
        program = one_layer(name, module)
        library = generate_library(program, plan_layer_by_layer(program))
        folder = tmp_path / str(index)
        library.write(folder, folder)
        call("cc", *STRICT, f"-I{folder}", "-fsyntax-only", folder / f"{module}_lib0.c")
        header = folder / f"tvmgen_{module}.h"
        text += f'#include "{header}"\n' if module != "net" else ""
    (tmp_path / "all.cpp").write_text(text)
    strict = ["-std=gnu++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    call("g++", *strict, tmp_path / "all.cpp")


@pytest.mark.cc
@pytest.mark.parametrize("name", ["int", "1st image", "row"])
def test_rows_of_an_input_of_any_name(name: str, tmp_path: Path) -> None:
    """The row counters have the input's name too."""
    made = Network(3, 6, 5)
    made.logits(made.conv("x", 4))
    program = made.program("net")
    tensors = {name if key == "x" else key: spec for key, spec in program.tensors.items()}
    first = program.steps[0]
    steps = (replace(first, inputs=(name,)), *program.steps[1:])
    program = replace(program, input=name, tensors=tensors, steps=steps)
    generate_library(program, plan_streamed(program, "rows")).write(tmp_path, tmp_path)
    binary = shared_object(tmp_path, f"-I{tmp_path}", *tmp_path.glob("*.c"))
    assert run(binary, "net", made) == (0, expected(made))


@pytest.mark.cc
@pytest.mark.parametrize("argument", ["output", "conv2d_0"])
def test_names_of_a_torch_model_s_argument(argument: str) -> None:
    """The one name that the user gives in Python."""
    names: dict[str, type[nn.Module]] = {"nn": nn}  # type: ignore[dict-item]
    exec(
        "class Net(nn.Module):\n"
        "  def __init__(s): super().__init__(); s.c = nn.Conv2d(3, 4, 3); s.fc = nn.Linear(16, 3)\n"
        f"  def forward(s, {argument}): return s.fc(s.c({argument}).relu().flatten(1))\n",
        names,
    )
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3)).astype(np.uint8)
    module = from_torch(names["Net"]().eval(), torch.zeros(1, 3, 4, 4))
    built = build(
        module, "host", calibration=images, input_spec=InputSpec(1 / 255, 0, 0.0), name="int"
    )
    torch.manual_seed(0)
    plain = build(
        from_torch(Plain().eval(), torch.zeros(1, 3, 4, 4)),
        "host",
        calibration=images,
        input_spec=InputSpec(1 / 255, 0, 0.0),
    )
    assert (built.run(images) == plain.run(images)).all()


class Plain(nn.Module):
    """The same network with an argument of a good name."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.c(x).relu().flatten(1))
