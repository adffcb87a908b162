"""Reading a Model Library Format folder: what the project must know of the generated library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_mpq.codegen.archive import FORMAT_VERSION
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import read_json
from tvm_mpq.names import c_name, input_c_name


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: the C member's name, bytes, numpy dtype name."""

    name: str
    size: int
    dtype: str


@dataclass(frozen=True)
class Library:
    """A library with one input and one output.

    Attributes
    ----------
    module: C name of the module (``tvmgen_<module>_run``).
    model_name: the name people read.
    input_in_arena: the input has a slot in the arena, which run destroys; else the application
        brings a buffer of its own.
    input_by_rows: the input is pushed row by row and has no buffer at all.
    """

    folder: Path
    module: str
    model_name: str
    input: TensorInfo
    output: TensorInfo
    input_in_arena: bool
    input_by_rows: bool = False

    @staticmethod
    def read(folder: Path) -> Library:
        """Read ``folder/metadata.json``; InvalidValueError names what is missing or wrong."""
        path = folder / "metadata.json"
        if not path.is_file():
            raise InvalidValueError(
                f"{folder}: no metadata.json; expected an unpacked Model Library Format folder,"
                " as deployment.export_library(path) writes it"
            )
        metadata = read_json(path)
        try:
            return _parse(folder, metadata)
        except InvalidValueError:
            raise
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            StopIteration,
        ) as error:
            raise InvalidValueError(
                f"{path}: {type(error).__name__} {error}; expected version {FORMAT_VERSION} with"
                " modules.<name>.memory.functions.main[0].inputs and .outputs"
            ) from None


def _parse(folder: Path, metadata: dict[str, Any]) -> Library:
    if metadata["version"] != FORMAT_VERSION:
        raise InvalidValueError(
            f"{folder}: Model Library Format version {metadata['version']}; this project reads"
            f" version {FORMAT_VERSION}"
        )
    modules = metadata["modules"]
    if len(modules) != 1:
        raise InvalidValueError(
            f"{folder}: {len(modules)} modules ({', '.join(modules)}); a project takes one"
        )
    module, content = next(iter(modules.items()))
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", module):
        raise InvalidValueError(
            f"{folder}: module name {module!r} is not a lower-case C identifier; rename it"
        )
    main = content["memory"]["functions"]["main"][0]
    # The arena plan as a table; its first row is the heading.
    own = content.get("tvm_mpq", {})
    arena = own.get("arena", [])[1:]
    by_rows = own.get("input_buffer") == "rows"
    return Library(
        folder,
        module,
        re.sub(r"\W", "_", str(content["model_name"]), flags=re.ASCII),
        _one_tensor(folder, "input", main["inputs"]),
        _one_tensor(folder, "output", main["outputs"]),
        not by_rows and (not arena or any(next(iter(main["inputs"])) in row for row in arena)),
        by_rows,
    )


def _one_tensor(folder: Path, kind: str, tensors: dict[str, Any]) -> TensorInfo:
    if len(tensors) != 1:
        raise InvalidValueError(
            f"{folder}: {len(tensors)} {kind}s ({', '.join(tensors)}); main.c handles exactly one"
        )
    name, content = next(iter(tensors.items()))
    size, dtype = int(content["size"]), str(content["dtype"])
    if not 0 < size < 1 << 31 or not re.fullmatch(r"u?int(8|16|32)", dtype):
        raise InvalidValueError(
            f"{folder}: {kind} {name!r} has {size} bytes of {dtype}; expected at least one byte of"
            " uint8, int8, uint16, int16, uint32 or int32"
        )
    return TensorInfo(input_c_name(name) if kind == "input" else c_name(name), size, dtype)
