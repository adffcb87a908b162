"""Looks into a ``.pt2`` archive and hands torch only what is data.

``torch.export.load`` unpickles sample inputs and marked weights, loads compiled code, lets sympy
evaluate sizes and calls whatever operator a node names. So the archive is read here, every part
that could execute is refused by name, sample inputs are left out (nobody needs them), and what is
left is packed anew: torch never sees the file itself.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import parse_json
from tvm_mpq.zips import read_members

_NO_PROGRAM = "not a torch exported program"
_WRITE = "write it with torch.export.save(torch.export.export(model.eval(), (example,)), path)"
_MODEL = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_FIXED = ("archive_format", "archive_version", "byteorder", ".data/version")
# Folder of payloads -> what their names must begin with; others are pickled objects.
_PAYLOADS = {"data/weights/": "weight_", "data/constants/": "tensor_"}
_EXECUTED = {
    "data/aotinductor/": "compiled code",
    "data/weights/model.pt": "pickled weights of an old release",
    "data/constants/model.pt": "pickled constants of an old release",
}
_NAME = r"(?:[A-Za-z]\w*|_[A-Za-z]\w*|__(?:and|or|xor|lshift|rshift)__)"
_OPERATOR = re.compile(
    rf"torch\.ops\.(?:aten|prims|quantized_decomposed)\.{_NAME}\.[A-Za-z]\w*"
    r"|torch\.ops\.higher_order\.wrap_with_(?:set_grad_enabled|autocast)"
    r"|_operator\.(?:getitem|add|sub|mul|truediv|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)"
)
_READS_FILES = "torch.ops.aten.from_file"
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
# Of one tensor; more than any network for a microcontroller has.
_MAX_ELEMENTS = 1 << 27


def safe_archive(path: Path) -> io.BytesIO:
    """The archive ``path`` as torch may load it: only tensors and the graph.

    Raises InvalidValueError: no such file, no exported program, damaged, or something in it would
    be executed.
    """
    try:
        members = _below_root(read_members(path))
    except InvalidValueError as error:
        raise InvalidValueError(f"model {path}: {_NO_PROGRAM} ({error}); {_WRITE}") from None
    for start, what in _EXECUTED.items():
        found = [name for name in members if name.startswith(start)]
        if found:
            raise _refused(path, found[0], what)
    if members.get("archive_format") != b"pt2" or _MODEL not in members:
        raise InvalidValueError(f"model {path}: {_NO_PROGRAM}; {_WRITE}")
    _check_graph(path, parse_json(members[_MODEL], f"model {path}: {_MODEL}"))
    kept = {name: members[name] for name in (*_FIXED, _MODEL) if name in members}
    for folder, prefix in _PAYLOADS.items():
        kept |= _payloads(path, members, folder, prefix)
    return _packed(kept | {_SAMPLES: b""})


def _below_root(members: dict[str, bytes]) -> dict[str, bytes]:
    roots = {name.partition("/")[0] for name in members}
    if len(roots) != 1 or not all("/" in name for name in members):
        raise InvalidValueError("of another release, or another archive")
    return {name.partition("/")[2]: data for name, data in members.items()}


def _packed(members: dict[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(f"model/{name}", data)
    file.seek(0)
    return file


def _payloads(path: Path, members: dict[str, bytes], folder: str, prefix: str) -> dict[str, bytes]:
    """The tensors that a folder's own table names, and that table."""
    table = f"{folder}model_{folder.split('/')[1]}_config.json"
    if table not in members:
        raise InvalidValueError(f"model {path}: damaged: {table} is missing")
    content = parse_json(members[table], f"model {path}: {table}")
    entries = content.get("config") if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise InvalidValueError(f"model {path}: damaged: {table} holds no table")
    kept = {table: members[table]}
    for tensor, entry in entries.items():
        file = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(file, str) or folder + file not in members:
            raise InvalidValueError(f"model {path}: damaged: {tensor} has no file")
        if entry.get("use_pickle") is not False or not file.startswith(prefix):
            raise _refused(path, folder + file, f"{tensor}, a pickled object")
        _check_sizes(path, tensor, entry.get("tensor_meta"), len(members[folder + file]))
        kept[folder + file] = members[folder + file]
    return kept


def _check_sizes(path: Path, tensor: str, meta: Any, size: int) -> None:
    elements = _elements(meta)
    if elements is None or elements > size:
        raise InvalidValueError(
            f"model {path}: damaged: {tensor} has {size} bytes and"
            f" {'no sizes' if elements is None else f'{elements} elements'}"
        )


def _elements(meta: Any) -> int | None:
    """How many elements a tensor of fixed sizes has."""
    sizes = meta.get("sizes") if isinstance(meta, dict) else None
    if not isinstance(sizes, list):
        return None
    found = [size.get("as_int") if isinstance(size, dict) else None for size in sizes]
    known = [size for size in found if type(size) is int and size >= 0]
    return math.prod(known) if len(known) == len(found) else None


def _check_graph(path: Path, graph: Any) -> None:
    for holder in _objects(graph):
        for key, value in holder.items():
            if key == "expr_str" and not re.fullmatch(r"[su]\d{1,9}", str(value)):
                raise _refused(path, _MODEL, f"the size {str(value)[:80]!r}, an expression")
            if key == "target" and "inputs" in holder:
                _check_operator(path, value)
            if key == "as_operator":
                _check_operator(path, value)
            if key in ("in_spec", "out_spec") and isinstance(value, str) and value:
                _check_containers(path, parse_json(value, f"model {path}: {_MODEL}: {key}"))
            if key == "as_custom_obj":
                raise _refused(path, _MODEL, "an object of a class of its own")
            if key == "sizes" and (_elements(holder) or 0) > _MAX_ELEMENTS:
                raise InvalidValueError(
                    f"model {path}: a tensor of {_elements(holder)} elements; at most"
                    f" {_MAX_ELEMENTS} are expected"
                )


def _check_operator(path: Path, target: Any) -> None:
    if not isinstance(target, str) or not _OPERATOR.fullmatch(target):
        raise _refused(path, _MODEL, f"{str(target)[:80]!r}, which is no operator of torch's own")
    if target.startswith(_READS_FILES):
        raise _refused(path, _MODEL, f"{target}, which opens files")


def _check_containers(path: Path, spec: Any) -> None:
    """How inputs are nested: torch imports the module of a type that it does not know."""
    for holder in _objects(spec):
        context = holder.get("context")
        inner = parse_json(context, f"model {path}: spec") if isinstance(context, str) else context
        known = holder.get("type") in _CONTAINERS if "type" in holder else True
        names = isinstance(inner, list) and all(isinstance(name, (str, int)) for name in inner)
        if not known or not (inner is None or names):
            raise _refused(path, _MODEL, "inputs or outputs in a container of a type of its own")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a value."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)


def _refused(path: Path, member: str, what: str) -> InvalidValueError:
    return InvalidValueError(
        f"model {path}: {member} holds {what}: loading it could execute code, so it is refused."
        " Export the plain network with fixed sizes, or import the model in Python"
        " (tvm_mpq.frontends.from_torch) if you trust it"
    )
