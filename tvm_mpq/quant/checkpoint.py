"""Finished layers of a reconstruction, one file a layer; each appears whole or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import read_text, write_text
from tvm_mpq.finite import check_finite
from tvm_mpq.quant.icn import RealLayer
from tvm_mpq.quant.result import Channels, Range
from tvm_mpq.zips import read_arrays, write_arrays

_LAYER = ("codes", "zw", "sw", "g", "h")


@dataclass(frozen=True, eq=False)
class Solved:
    """A finished layer: what it is made of, what its outputs stand for, their range."""

    layer: RealLayer
    channels: Channels
    limits: Range


class Checkpoint:
    """A folder that belongs to one run, told by ``key``.

    Raises InvalidValueError when the folder belongs to another run.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        digest = hashlib.sha256(key.encode()).hexdigest()
        owner = folder / "key"
        if owner.exists() and read_text(owner) != digest:
            raise InvalidValueError(
                f"checkpoint {folder}: made with another network, plan, images or options;"
                " give another folder, or remove it"
            )
        write_text(owner, digest)

    def write(self, solved: Solved) -> None:
        """Keep a finished layer."""
        layer = solved.layer
        arrays = {key: getattr(layer, key) for key in _LAYER} | {
            "unit": solved.channels.unit,
            "offset": solved.channels.offset,
            "limits": np.array(solved.limits),
        }
        write_arrays(self._path(layer.name), arrays)

    def read(self, name: str) -> Solved | None:
        """A finished layer, or None."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            arrays = read_arrays(path)
            if set(arrays) != {*_LAYER, "unit", "offset", "limits"} or len(arrays["limits"]) != 2:
                raise InvalidValueError("not a layer of a checkpoint")
        except (InvalidValueError, TypeError, ValueError) as error:
            raise InvalidValueError(f"{path}: damaged ({error}); remove it") from None
        for key, array in arrays.items():
            check_finite(f"{path}: layer {name}: {key}", array, "remove the file to solve it again")
        low, high = map(float, arrays.pop("limits"))
        codes, zw, sw, g, h = (arrays[key] for key in _LAYER)
        channels = Channels(arrays.pop("unit"), arrays.pop("offset"))
        return Solved(RealLayer(name, codes, zw, sw, g, h), channels, (low, high))

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npz"
