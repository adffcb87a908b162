"""A .pt2 file is data: whatever in it would run is refused by name, and does not run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tests.relay_passes.networks import SHAPE, small_net
from tvm_mpq.cli import main
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.frontends import load_exported_program
from tvm_mpq.frontends.pt2 import safe_archive

pytestmark = pytest.mark.null

Members = dict[str, bytes]
MODEL, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = (f"data/{kind}/model_{kind}_config.json" for kind in ("weights", "constants"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Members:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    example = (torch.zeros(1, SHAPE[2], *SHAPE[:2]),)
    torch.export.save(torch.export.export(small_net(), example), path)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def pack(members: Members, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"model/{name}", data)
    return path


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.marker,))


def torch_pickle(marker: Path) -> bytes:
    file = io.BytesIO()
    torch.save(Evil(marker), file)
    return file.getvalue()


def code(marker: Path) -> str:
    return f"__import__('os').mkdir({str(marker)!r})"


def edited(members: Members, name: str, edit: Callable[[Any], None]) -> Members:
    content = json.loads(members[name])
    edit(content)
    return members | {name: json.dumps(content).encode()}


def first_weight(config: dict[str, Any]) -> dict[str, Any]:
    return next(iter(config["config"].values()))


def pickled_weight(members: Members, marker: Path) -> Members:
    file = "data/weights/" + first_weight(json.loads(members[WEIGHTS]))["path_name"]
    changed = edited(members, WEIGHTS, lambda c: first_weight(c).update(use_pickle=True))
    return changed | {file: torch_pickle(marker)}


def constant(kind: str, data: bytes) -> Callable[[Members, Path], Members]:
    entry = {"path_name": f"{kind}_0", "is_param": False, "use_pickle": True, "tensor_meta": None}

    def change(members: Members, marker: Path) -> Members:
        made = {"pickle": pickle.dumps(Evil(marker)), "torch": torch_pickle(marker)}
        found = edited(members, CONSTANTS, lambda c: c["config"].update(evil=entry))
        return found | {f"data/constants/{kind}_0": made[data.decode()]}

    return change


def first_size(graph: dict[str, Any], value: Any) -> None:
    tensors = graph["graph_module"]["graph"]["tensor_values"]
    next(iter(tensors.values()))["sizes"][0] = value


def expression(members: Members, marker: Path) -> Members:
    size = {"as_expr": {"expr_str": code(marker), "hint": {"as_int": 1}}}
    return edited(members, MODEL, lambda graph: first_size(graph, size))


def target(name: str) -> Callable[[Members, Path], Members]:
    def change(members: Members, marker: Path) -> Members:
        def edit(graph: dict[str, Any]) -> None:
            graph["graph_module"]["graph"]["nodes"][0]["target"] = name

        return edited(members, MODEL, edit)

    return change


def container(members: Members, marker: Path) -> Members:
    """torch imports the module that an enumeration names."""
    context = json.dumps([{"__enum__": True, "fqn": "antigravity:X"}])
    spec = json.dumps([1, {"type": "builtins.dict", "context": context, "children_spec": []}])

    def edit(graph: dict[str, Any]) -> None:
        graph["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec

    return edited(members, MODEL, edit)


def legacy(folder: str) -> Callable[[Members, Path], Members]:
    return lambda members, marker: members | {f"data/{folder}/model.pt": torch_pickle(marker)}


HOSTILE: dict[str, tuple[Callable[[Members, Path], Members], str]] = {
    "weights": (pickled_weight, "a pickled object"),
    "opaque": (constant("opaque_obj", b"pickle"), "data/constants/opaque_obj_0 holds evil"),
    "custom": (constant("custom_obj", b"torch"), "data/constants/custom_obj_0 holds evil"),
    "constant": (constant("tensor", b"torch"), "data/constants/tensor_0 holds evil"),
    "expression": (expression, "an expression"),
    "legacy weights": (legacy("weights"), "data/weights/model.pt holds pickled weights"),
    "legacy constants": (legacy("constants"), "data/constants/model.pt holds pickled constants"),
    "compiled": (lambda m, _: m | {"data/aotinductor/model/x.so": b"\x7fELF"}, "compiled code"),
    "library": (target("torch.ops.load_library"), "no operator of torch's own"),
    "call": (target("_operator.call"), "no operator of torch's own"),
    "system": (target("torch.os.system"), "no operator of torch's own"),
    "extension": (target("#registered"), "no operator of torch's own"),
    "files": (target("torch.ops.aten.from_file.default"), "which opens files"),
    "container": (container, "a container of a type of its own"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_would_run_is_refused_by_name(model: Members, tmp_path: Path, kind: str) -> None:
    change, words = HOSTILE[kind]
    marker = tmp_path / "marker"
    path = pack(change(model, marker), tmp_path / "evil.pt2")
    (tmp_path / "images").mkdir()
    command = ["compile", str(path), "--calibration", str(tmp_path / "images")]
    result = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.output
    assert words in result.stderr and "evil.pt2" in result.stderr, result.stderr
    assert not marker.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["weights", "opaque", "expression", "legacy weights"])
def test_the_hostile_files_are_hostile(model: Members, tmp_path: Path, kind: str) -> None:
    """torch itself does run what is in them."""
    marker = tmp_path / "marker"
    path = pack(HOSTILE[kind][0](model, marker), tmp_path / "evil.pt2")
    with contextlib.suppress(Exception):
        torch.export.load(path)
    assert marker.is_dir()


def test_sample_inputs_are_left_out(model: Members, tmp_path: Path) -> None:
    """Nobody needs them: a file is read without its example being unpickled."""
    marker = tmp_path / "marker"
    path = pack(model | {SAMPLES: torch_pickle(marker)}, tmp_path / "model.pt2")
    module = load_exported_program(path)
    assert len(module["main"].params) == 1 and not marker.exists()
    with zipfile.ZipFile(safe_archive(path)) as archive:
        assert archive.read(f"model/{SAMPLES}") == b""
        assert not [name for name in archive.namelist() if "serialization_id" in name]


def test_other_files_in_the_archive_are_not_handed_on(model: Members, tmp_path: Path) -> None:
    path = pack(model | {"models/other.json": b"{}", "extra/x": b"x"}, tmp_path / "model.pt2")
    with zipfile.ZipFile(safe_archive(path)) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    assert names <= set(model) and MODEL in names


@pytest.mark.parametrize(
    ("size", "words"),
    [({"as_int": 1 << 40}, "elements"), ({"as_int": -1}, "model"), ("x", "model")],
)
def test_impossible_sizes(model: Members, tmp_path: Path, size: object, words: str) -> None:
    changed = edited(model, WEIGHTS, lambda c: first_weight(c)["tensor_meta"].update(sizes=[size]))
    with pytest.raises(InvalidValueError, match=words):
        load_exported_program(pack(changed, tmp_path / "model.pt2"))


def test_an_archive_that_holds_a_name_twice_is_damaged(model: Members, tmp_path: Path) -> None:
    """Two readers may each take another one of them."""
    path = pack(model, tmp_path / "model.pt2")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning):
        archive.writestr(f"model/{MODEL}", model[MODEL])
    with pytest.raises(InvalidValueError, match="two members of one name"):
        load_exported_program(path)
