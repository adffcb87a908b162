"""Archives of arrays: numpy's ``.npz`` and torch's checkpoints, read as the data they are."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import MAX_BYTES, read_bytes, write_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

_MAX_MEMBERS = 100_000


def read_members(path: Path) -> dict[str, bytes]:
    """Every member of a zip archive, its checksum verified.

    Raises InvalidValueError: no such file, no archive, damaged, or larger than ``MAX_BYTES``
    unpacked.
    """
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = archive.infolist()
            size = sum(member.file_size for member in found)
            if size > MAX_BYTES or len(found) > _MAX_MEMBERS:
                raise InvalidValueError(
                    f"{path}: {len(found)} members of {size} bytes; at most {_MAX_MEMBERS} of"
                    f" {MAX_BYTES} are expected here"
                )
            members = {member.filename: archive.read(member) for member in found}
    except InvalidValueError:
        raise
    except Exception as error:  # zlib, struct, encryption, encodings: whatever the damage hits
        raise InvalidValueError(f"{path}: a damaged archive ({_reason(error)})") from None
    if len(members) != len(found):
        raise InvalidValueError(f"{path}: a damaged archive (two members of one name)")
    return members


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a ``.npz`` file; nothing in it is executed.

    Raises InvalidValueError as ``read_members`` does, and for a member that is no plain array.
    """
    import numpy as np

    arrays = {}
    for name, data in read_members(path).items():
        try:
            array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        except Exception as error:  # the header is parsed as Python literals
            raise InvalidValueError(f"{path}: {name!r} is no array ({_reason(error)})") from None
        arrays[name.removesuffix(".npy")] = array
    return arrays


def write_arrays(path: Path, arrays: dict[str, Any], compressed: bool = False) -> None:
    """Write a ``.npz`` file, whole or not at all."""
    import numpy as np

    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    write_bytes(path, file.getvalue())


def _reason(error: Exception) -> str:
    """One line of an exception of a library."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
