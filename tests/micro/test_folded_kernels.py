"""Profiles of programs whose kernels the compiler or linker has folded.

Two kernels that differ in a zero point only have the same code. Folded, they are one address with
two names, or with one name, or one of them only jumps to the other.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from elftools.elf.elffile import ELFFile

from tests.codegen.test_streaming_build import images, random_model
from tvm_mpq.builder import build
from tvm_mpq.deployment import Deployment
from tvm_mpq.description import LayerDescription
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.micro.profiling import _Watcher, annotate_on_emulator, profile_on_emulator

IMAGE = np.zeros(images(32)[0].size, np.uint8)


def _block(cin: int, cout: int, size: int, stride: int) -> torch.nn.Sequential:
    padding = size // 2
    return torch.nn.Sequential(
        torch.nn.Conv2d(cin, cout, size, stride, padding, bias=False),
        torch.nn.BatchNorm2d(cout),
        torch.nn.ReLU6(),
    )


class Twins(torch.nn.Module):
    """Three layers of one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _block(3, 16, 3, 2)
        self.twins = torch.nn.Sequential(*(_block(16, 16, 1, 1) for _ in range(3)))
        self.fc = torch.nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twins(self.stem(x))
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    torch.manual_seed(0)
    return build(random_model(Twins(), 32), "stm32h7")


def _renamed(layers: Sequence[LayerDescription]) -> tuple[list[LayerDescription], dict[str, str]]:
    """The layers with a symbol each, and the kernel that stands behind every new symbol."""
    seen: set[str] = set()
    renamed, aliases = [], {}
    for index, layer in enumerate(layers):
        symbol = layer.symbol
        if symbol in seen:
            aliases[f"{symbol}_{index}"] = symbol
            symbol = f"{symbol}_{index}"
        seen.add(layer.symbol)
        renamed.append(replace(layer, symbol=symbol))
    return renamed, aliases


def _with_aliases(elf: Path, aliases: dict[str, str], out: Path) -> Path:
    with elf.open("rb") as file:
        content = ELFFile(file)
        text = content.get_section_by_name(".text")["sh_addr"]
        table = content.get_section_by_name(".symtab")
        at = {s: table.get_symbol_by_name(s)[0]["st_value"] - text for s in aliases.values()}
    added = [
        f"--add-symbol={alias}=.text:{at[symbol]:#x},function,global"
        for alias, symbol in aliases.items()
    ]
    subprocess.run(["arm-none-eabi-objcopy", *added, str(elf), str(out)], check=True)
    return out


@pytest.mark.emu
@pytest.mark.parametrize("names", ["all", "first"])
def test_layers_are_told_apart_by_their_constants(
    deployment: Deployment, tmp_path: Path, names: str
) -> None:
    firmware = deployment.firmware
    layers, aliases = _renamed(deployment.description.layers)
    assert aliases
    kept = aliases if names == "all" else {}
    folded = replace(firmware, elf=_with_aliases(firmware.elf, kept, tmp_path / "folded.elf"))
    profile = profile_on_emulator(folded, layers, IMAGE)
    expected = deployment.profile()
    assert [layer.cycles for layer in profile.layers] == [c.cycles for c in expected.layers]
    for index, layer in enumerate(layers):
        if layer.symbol in aliases:
            functions = annotate_on_emulator(folded, layers, IMAGE, layer.name)
            plain = annotate_on_emulator(
                firmware, deployment.description.layers, IMAGE, layers[index].name
            )
            assert [f.instructions for f in functions] == [f.instructions for f in plain]
            break


@pytest.mark.emu
def test_a_call_with_a_foreign_constant_is_named(deployment: Deployment) -> None:
    layers = [replace(layer, constant="no_such") for layer in deployment.description.layers]
    with pytest.raises(InvalidValueError, match="no layer has.*compile it again"):
        profile_on_emulator(deployment.firmware, layers, IMAGE)


@pytest.mark.null
def test_a_kernel_that_jumps_to_its_twin_is_one_call() -> None:
    """Same registers, stack and return address: the twin is entered by a jump."""
    registers = [1, 2, 3, 4, *[0] * 9, 0x2000, 0x0800_0101, 0]
    stack = {"words": (0, 1, 0x0801_0000, 0x0802_0000, 0x2400_0000)}
    board = SimpleNamespace(
        read_registers=lambda: tuple(registers),
        read_memory=lambda address, size: np.array(stack["words"], "<u4").tobytes(),
    )
    watcher = _Watcher.__new__(_Watcher)
    watcher._board, watcher._inputs, watcher._call = board, {"kernel": 1, "twin": 1}, ()
    assert not watcher._jumped_on("kernel")
    assert watcher._jumped_on("twin")
    stack["words"] = (1, 1, 0x0801_0000, 0x0802_0000, 0x2400_0000)  # the next band
    assert not watcher._jumped_on("kernel")
