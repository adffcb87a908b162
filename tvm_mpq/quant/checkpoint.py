"""Finished layers of a reconstruction, one file a layer; each appears whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.icn import RealLayer

Found = tuple[RealLayer, torch.Tensor, tuple[float, float]]


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

    def write(
        self, name: str, layer: RealLayer, units: torch.Tensor, limits: tuple[float, float]
    ) -> None:
        """Keep a finished layer."""
        path = self._path(name)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(
                file,
                codes=layer.codes,
                zw=layer.zw,
                sw=layer.sw,
                g=layer.g,
                h=layer.h,
                units=units.numpy(),
                limits=np.array(limits),
            )
        temporary.replace(path)

    def read(self, name: str) -> Found | None:
        """A finished layer, or None."""
        path = self._path(name)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InvalidValueError(f"{path}: damaged ({error}); remove it") from None
        units, limits = torch.from_numpy(arrays.pop("units")), arrays.pop("limits")
        return RealLayer(name, **arrays), units, (float(limits[0]), float(limits[1]))

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npz"
