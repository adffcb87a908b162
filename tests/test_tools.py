"""What is missing is told at once, by the command that needs it, with a line that installs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.relay_passes.networks import imported, random_images, small_net
from tvm_mpq import toolchain
from tvm_mpq.builder import build
from tvm_mpq.cli import main
from tvm_mpq.errors import ToolError
from tvm_mpq.specs import InputSpec

pytestmark = pytest.mark.null
DEBIAN = Path("/var/lib/dpkg/info")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture()
def no_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


COMMANDS = {
    "compile": (["compile", "none.pt2", "--calibration", "none", "-o", "{out}"], "make"),
    "run": (["run", "{out}", "none.png"], "cc"),
    "tune": (["tune", "{out}"], "make"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_tool_is_told_before_anything_else(
    name: str, tmp_path: Path, no_tools: None
) -> None:
    """Before a model, images or folders are looked at: they do not exist here."""
    arguments, tool = COMMANDS[name]
    result = invoke(*(word.format(out=tmp_path / "out") for word in arguments))
    assert result.exit_code == 2
    assert f"{tool} is not on PATH; install it with: apt-get install " in result.stderr


def test_build_asks_for_the_compiler_before_it_searches(
    no_tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tvm_mpq.pipeline.calibrate", None)  # would raise, were it called
    with pytest.raises(ToolError, match="make is not on PATH"):
        build(imported(small_net()), "stm32h7", calibration=random_images(2))
    with pytest.raises(TypeError):
        build(imported(small_net()), "host", calibration=random_images(2))


@pytest.mark.parametrize("tool", sorted(toolchain._INSTALL))
def test_the_line_names_what_installs_it(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Debian's tools that are here: a package of the line holds the program."""
    path = shutil.which(tool)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError) as caught:
        toolchain.require_tool(tool)
    line = str(caught.value).partition("install it with: ")[2]
    kind, packages = re.match(r"(apt-get|pip) install (.+)", line).groups()  # type: ignore[union-attr]
    if kind == "pip" or path is None or not DEBIAN.is_dir():
        pytest.skip("not Debian's, or not installed here")
    owned = [DEBIAN / f"{name}.list" for name in packages.split()]
    held = [file.read_text().splitlines() for file in owned if file.is_file()]
    places = {path, os.path.realpath(path), f"/usr/bin/{tool}", f"/etc/alternatives/{tool}"}
    assert any(places & set(names) for names in held) or tool == "cc"
    assert held


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("unicorn", "emulator", ["profile", "OUT"]),
        ("capstone", "emulator", ["profile", "OUT", "--annotate", "conv2d_0"]),
        ("unicorn", "emulator", ["run", "OUT", "a.png", "--on", "emulator"]),
        ("unicorn", "emulator", ["tune", "OUT"]),
        ("serial", "board", ["run", "OUT", "a.png", "--on", "board"]),
        ("tornado", "tracker", ["tune", "OUT", "--tracker", "localhost:1"]),
    ],
)
def test_a_missing_package_is_no_traceback(
    module: str, extra: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("tvm_mpq.cli.require_cross_compiler", lambda: None)
    result = invoke(*command)
    assert result.exit_code == 2 and f"needs the package {module!r}: pip install" in result.stderr
    line = shlex.split(result.stderr.partition("pip install ")[2])
    pairs = [r.partition(";") for r in requires("tvm_mpq") or []]
    needed = {name.strip() for name, _, marker in pairs if extra in marker}
    assert line and set(line) == needed


def test_every_command_takes_json() -> None:
    for name, command in main.commands.items():
        assert any("--json" in one.opts for one in command.params), name


def test_flash_prints_one_json_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flashed:
        elf, flash_bytes = tmp_path / "a.elf", 1234

    class Loaded:
        firmware = Flashed()

    calls: list[Path] = []
    monkeypatch.setattr("tvm_mpq.deployment.Deployment.load", lambda _out: Loaded())
    monkeypatch.setattr("tvm_mpq.micro.flash", lambda elf, **_options: calls.append(elf))
    result = invoke("flash", tmp_path, "--tool", "st-flash", "--json")
    wanted = {"flashed": str(tmp_path), "tool": "st-flash", "bytes": 1234}
    assert json.loads(result.stdout) == wanted and calls == [Flashed.elf]


def test_the_latency_advice_can_be_followed() -> None:
    """It names a way out that is one: leaving the budget out."""
    options = {"calibration": random_images(4), "input_spec": InputSpec(), "policy": "sensitivity"}
    with pytest.raises(Exception, match="leave the latency out") as caught:
        build(imported(small_net()), "host", latency=10**9, **options)
    assert "tvm-mpq tune" not in str(caught.value)
    assert build(imported(small_net()), "host", **options).integer is not None
