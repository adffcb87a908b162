"""Finished layers of a reconstruction, one file a layer; each appears whole or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.finite import check_finite
from tvm_mpq.quant.icn import RealLayer
from tvm_mpq.quant.result import Channels, Range


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
        folder.mkdir(parents=True, exist_ok=True)
        owner = folder / "key"
        if owner.exists() and owner.read_text() != digest:
            raise InvalidValueError(
                f"checkpoint {folder}: made with another network, plan, images or options;"
                " give another folder, or remove it"
            )
        owner.write_text(digest)

    def write(self, solved: Solved) -> None:
        """Keep a finished layer."""
        layer, path = solved.layer, self._path(solved.layer.name)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(
                file,
                codes=layer.codes,
                zw=layer.zw,
                sw=layer.sw,
                g=layer.g,
                h=layer.h,
                unit=solved.channels.unit,
                offset=solved.channels.offset,
                limits=np.array(solved.limits),
            )
        temporary.replace(path)

    def read(self, name: str) -> Solved | None:
        """A finished layer, or None."""
        path = self._path(name)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InvalidValueError(f"{path}: damaged ({error}); remove it") from None
        for key, array in arrays.items():
            check_finite(f"{path}: layer {name}: {key}", array, "remove the file to solve it again")
        low, high = arrays.pop("limits")
        channels = Channels(arrays.pop("unit"), arrays.pop("offset"))
        return Solved(RealLayer(name, **arrays), channels, (float(low), float(high)))

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npz"
