"""Files: what is written appears whole or not at all; what is read may be damaged or hostile.

A name that is being made ends in the machine, the process and a random part. What a killed process
left is cleared at the next start that writes there; ``install`` is finished instead.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import platformdirs

from tvm_mpq.errors import InvalidValueError

Value = TypeVar("Value")

MAX_BYTES = 1 << 30
MAX_JSON_BYTES = 1 << 28
MAX_DEPTH = 100
# A folder of this name is complete: whoever finds it moves its entries up, see ``install``.
_READY = ".install"
_TEMPORARY = "tvm_mpq-"


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace one file, whole or not at all, also when the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    work = _work_name(path)
    try:
        with _named(path), work.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write or replace one file of UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


@contextmanager
def new_path(path: Path) -> Iterator[Path]:
    """Make a file or folder at the path that is handed out; it becomes ``path`` at the end.

    Raises InvalidValueError when ``path`` exists.
    """
    if path.exists():
        raise InvalidValueError(f"{path} exists; give a new path, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    work = _work_name(path)
    try:
        with _named(path):
            yield work
            work.rename(path)
    finally:
        _remove(work)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill the folder that is handed out; it becomes ``path`` at the end, which must be new."""
    with new_path(path) as work:
        work.mkdir()
        yield work


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder inside ``folder`` to prepare something in, for ``install``; removed at the end."""
    clear_leftovers(folder / "stage")
    work = _work_name(folder / "stage")
    work.mkdir()
    try:
        with _named(folder):
            yield work
    finally:
        _remove(work)


def install(made: Path, folder: Path) -> None:
    """Move every entry of ``made`` (see ``staged``) to ``folder``, in the place of its namesakes.

    All of them or none: one rename decides, and what a killed process left undone after it is done
    by ``finish_install``.
    """
    with _locked(folder):
        _finish(folder)
        made.rename(folder / _READY)
        _finish(folder)


def finish_install(folder: Path) -> None:
    """Finish what a killed process began to install in ``folder``."""
    if (folder / _READY).is_dir():
        with _locked(folder):
            _finish(folder)


def _finish(folder: Path) -> None:
    ready = folder / _READY
    if not ready.is_dir():
        return
    aside: list[Path] = []
    for source in sorted(ready.iterdir()):
        place = folder / source.name
        if place.is_dir() and not place.is_symlink():
            aside.append(place.rename(_work_name(folder / "stage")))
        source.replace(place)
    ready.rmdir()
    for old in aside:
        _remove(old)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone in ``folder``, as far as others ask; the lock dies with its process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which output did not fit on a full disk, rather than an internal name."""
    try:
        yield
    except OSError as error:
        text = str(error.args[0]) if isinstance(error, shutil.Error) else ""
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if error.errno == code or f"[Errno {code}]" in text:
                raise InvalidValueError(
                    f"{path}: cannot be written: {os.strerror(code)}; free some space"
                ) from None
        raise


def clear_leftovers(path: Path) -> None:
    """Remove what killed processes left beside ``path`` while they made it."""
    prefix = f".{path.name[:100]}.new-"
    with suppress(OSError):
        for found in path.parent.iterdir():
            if found.name.startswith(prefix) and _is_left(found.name):
                _remove(found)


def _work_name(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}.new-{_mark()}-{secrets.token_hex(4)}")


def _mark() -> str:
    """This process, as nobody else who may see the same disk is called."""
    return f"{_machine()}-{os.getpid()}"


@cache
def _machine() -> str:
    name = platform.node()
    with suppress(OSError):  # containers count their processes themselves
        name += str(Path("/proc/self/ns/pid").stat().st_ino)
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _is_left(name: str) -> bool:
    """Whether ``name`` was made by a process of this machine that has ended."""
    match = re.search(r"-([0-9a-f]{8})-(\d{1,9})-\w+$", name)
    if match is None or match[1] != _machine():
        return False
    try:
        os.kill(int(match[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def temporary_folder(kind: str) -> tempfile.TemporaryDirectory[str]:
    """A folder that goes with its owner, or, if this process is killed, with a later one's start.

    ``kind``: a word for people who look into the temporary folder.
    """
    _clear_temporary()
    return tempfile.TemporaryDirectory(prefix=f"{_TEMPORARY}{kind}-{_mark()}-")


@cache
def _clear_temporary() -> None:
    with suppress(OSError):
        for found in Path(tempfile.gettempdir()).iterdir():
            ours = found.name.startswith(_TEMPORARY) and _is_left(found.name)
            if ours and is_own(found):
                _remove(found)


def is_own(path: Path) -> bool:
    """Whether a file or folder is this user's, no link, and nobody else may write to it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode) and not writable


def user_cache() -> Path | None:
    """A folder of this user's for what can be made again; None where nothing can be kept."""
    for folder in (_home_cache(), Path(tempfile.gettempdir()) / f"{_TEMPORARY}{os.getuid()}"):
        if folder is None:
            continue
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_own(folder) and os.access(folder, os.W_OK | os.X_OK):
                return folder
    return None


def _home_cache() -> Path | None:
    try:
        return Path(platformdirs.user_cache_dir("tvm_mpq"))
    except RuntimeError:  # no home
        return None


def cached(name: str, make: Callable[[], bytes]) -> tuple[bytes, Path | None]:
    """What ``make`` gives, from the file ``name`` of the user's cache, and that file.

    It is made again when it is missing, damaged (its digest lies beside it) or someone else's.
    There is no file where nothing can be kept.
    """
    folder = user_cache()
    if folder is None:
        return make(), None
    path, digest = folder / name, folder / f"{name}.sha256"
    with suppress(InvalidValueError, OSError):
        data = read_bytes(path)
        if is_own(path) and is_own(digest) and read_text(digest) == sha256(data):
            return data, path
    data = make()
    try:
        write_bytes(path, data)
        write_text(digest, sha256(data))
    except (InvalidValueError, OSError):  # a cache that cannot be written is no error
        return data, None
    return data, path


def sha256(data: bytes) -> str:
    """The digest of ``data``, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file. Raises InvalidValueError when it cannot be read."""
    try:
        # A FIFO or a device would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise InvalidValueError(f"{path}: not a file")
            if found.st_size > limit:
                raise InvalidValueError(
                    f"{path}: {found.st_size} bytes; at most {limit} are expected here"
                )
            return file.read()
    except FileNotFoundError:
        raise InvalidValueError(f"{path}: no such file") from None
    except OSError as error:
        raise InvalidValueError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise InvalidValueError(f"{str(path)!r}: no file name: {error}") from None


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """The content of a UTF-8 file. Raises InvalidValueError when it cannot be read."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{path}: not UTF-8 text ({error})") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises InvalidValueError when it cannot be read."""
    return parse_json(read_text(path, MAX_JSON_BYTES), str(path))


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text; InvalidValueError that begins with ``where`` when it is none.

    Numbers are finite, and nothing is nested deeper than ``MAX_DEPTH``.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=_finite)
    except RecursionError:
        value = None
        deep = True
    except ValueError as error:
        raise InvalidValueError(f"{where}: not valid JSON: {error}") from None
    else:
        deep = _depth_exceeds(value, MAX_DEPTH)
    if deep:
        raise InvalidValueError(f"{where}: JSON nested deeper than {MAX_DEPTH}")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def convert(value: Any, kind: type[Value], where: str) -> Value:
    """A JSON value as the dataclass ``kind``; InvalidValueError names the field that is wrong."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"{where}: {error}") from None
