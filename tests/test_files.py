"""Whole or not at all: a process is killed before every single change that it makes to a disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_mpq import files
from tvm_mpq.deployment import Deployment
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.target import Target
from tvm_mpq.tuner import _adopt

pytestmark = pytest.mark.null

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.copyfile")
Tree = dict[str, bytes]


def tree(folder: Path) -> Tree:
    """Every file below ``folder`` and its content."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write(folder: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def killed(action: Callable[[], None], point: int) -> bool:
    """Whether ``action``, in a process of its own, was killed before change number ``point``."""
    child = os.fork()
    if child == 0:
        left = [point]

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            writes = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
            if event in _CHANGES or writes:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


OLD = {"project/a": "old", "project/gone": "old", "deployment.json": "old", "mine.txt": "keep"}
OLD |= {"tuning/db": "keep", "tuned.json": "keep"}
NEW = {"project/a": "new", "project/b/c": "new", "deployment.json": "new", "arena.svg": "new"}
ADOPTED = NEW | {name: text for name, text in OLD.items() if text == "keep"}


def as_tree(content: dict[str, str]) -> Tree:
    return {name: text.encode() for name, text in content.items()}


def test_an_adoption_that_is_killed_is_whole_or_not_at_all(tmp_path: Path) -> None:
    write(tmp_path / "built", NEW)
    built = Deployment(tmp_path / "built", Target("host"))
    seen: set[str] = set()
    for point in range(1000):
        folder = tmp_path / str(point)
        write(folder, OLD)
        deployment = Deployment(folder, Target("host"))
        was_killed = killed(lambda deployment=deployment: _adopt(deployment, built), point)
        files.finish_install(folder)
        found = {name: data for name, data in tree(folder).items() if not name.startswith(".")}
        assert found in (as_tree(OLD), as_tree(ADOPTED)), f"killed at {point}: {sorted(found)}"
        seen.add("old" if found == as_tree(OLD) else "new")
        _adopt(deployment, built)  # nothing blocks the next one
        assert tree(folder) == as_tree(ADOPTED), f"left behind at {point}"
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        if not was_killed:
            break
    assert seen == {"old", "new"} and point > 10


def test_finishing_may_be_killed_as_well(tmp_path: Path) -> None:
    """A second death while the first one's work is finished."""
    for point in range(100):
        folder = tmp_path / str(point)
        write(folder, OLD)
        write(folder / ".install", NEW)
        was_killed = killed(lambda folder=folder: files.finish_install(folder), point)
        files.finish_install(folder)
        with files.staged(folder):
            pass
        assert tree(folder) == as_tree(ADOPTED)
        if not was_killed:
            break
    assert point > 3


@pytest.mark.parametrize("earlier", [None, b"old"])
def test_a_file_is_old_or_new(tmp_path: Path, earlier: bytes | None) -> None:
    for point in range(20):
        path = tmp_path / str(point) / "file"
        path.parent.mkdir()
        if earlier:
            path.write_bytes(earlier)
        was_killed = killed(lambda path=path: files.write_bytes(path, b"new"), point)
        found = path.read_bytes() if path.exists() else None
        assert found in (earlier, b"new")
        files.write_text(path, "later")
        assert tree(path.parent) == {"file": b"later"}
        if not was_killed:
            break
    assert point >= 2


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        with files.new_folder(folder) as work:
            write(work, NEW)

    for point in range(30):
        folder = tmp_path / str(point) / "out"
        folder.parent.mkdir()
        was_killed = killed(lambda folder=folder: make(folder), point)
        assert not folder.exists() or tree(folder) == as_tree(NEW)
        if folder.exists():
            with pytest.raises(InvalidValueError, match="exists; give a new path"):
                make(folder)
        else:
            make(folder)
        assert [path.name for path in folder.parent.iterdir()] == ["out"]
        if not was_killed:
            break
    assert point > 4


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    for context in (files.new_folder(tmp_path / "out"), files.staged(tmp_path)):
        with pytest.raises(ZeroDivisionError), context as work:
            write(work, NEW)
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_makes_is_left_alone(tmp_path: Path) -> None:
    with files.staged(tmp_path) as work, files.staged(tmp_path) as other:
        assert work.is_dir() and other.is_dir()


def test_temporary_folders_of_killed_processes_go(tmp_path: Path) -> None:
    program = (
        "import os; from tvm_mpq.files import temporary_folder as t; f = t('build');"
        "print(f.name, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()
        for _ in range(2)
    )
    assert first and [str(path) for path in tmp_path.iterdir()] == [second]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A limit on a file's size is what can be had without a disk."""

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        for write_it in (one_file, one_folder):
            try:
                write_it()
            except InvalidValueError as error:
                assert "cannot be written: File too large; free some space" in str(error)
                assert "\n" not in str(error)
            else:
                raise AssertionError

    def one_file() -> None:
        files.write_bytes(tmp_path / "file", bytes(1000))

    def one_folder() -> None:
        with files.new_folder(tmp_path / "folder") as work:
            (work / "a").write_bytes(bytes(1000))

    assert not killed(full, 10_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("[1,", "not valid JSON"),
        ("NaN", "NaN is no JSON number"),
        ("[-Infinity]", "no JSON number"),
        ("1e999", "too large"),
        ("1" * 5000, "not valid JSON"),
        ("[" * 101 + "]" * 101, "nested deeper than 100"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested deeper than 100"),
        ("[" * 1_000_000, "nested deeper than 100"),
        (b"\xff\xfe", "not UTF-8"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_json_that_is_none_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidValueError, match=reason) as caught:
        files.read_json(path)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 500


def test_json_of_the_allowed_depth_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" * 99 + "1" + "]" * 99)
    assert files.read_json(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, reason in (
        (tmp_path / "fifo", "not a file"),
        (tmp_path, "not a file|directory"),
        (Path("/dev/zero"), "not a file"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "n\0ne", "no file name|null"),
    ):
        with pytest.raises(InvalidValueError, match=reason):
            files.read_bytes(path)


@pytest.fixture()
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tvm_mpq"


def test_the_cache_is_used_while_it_is_whole(cache: Path) -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"content"

    assert files.cached("x", make) == (b"content", cache / "x")
    assert files.cached("x", make) == (b"content", cache / "x") and len(made) == 1
    for damage in (b"", b"conten", b"Content"):
        (cache / "x").write_bytes(damage)
        assert files.cached("x", make) == (b"content", cache / "x")
    (cache / "x.sha256").unlink()
    assert files.cached("x", make)[0] == b"content" and len(made) == 5
    (cache / "x").chmod(0o666)  # anybody may have written it, and its digest
    assert files.cached("x", make)[0] == b"content" and len(made) == 6


def test_a_folder_of_someone_else_is_no_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    fallback = tmp_path / f"tvm_mpq-{os.getuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert files.user_cache() == fallback
    fallback.rmdir()
    fallback.symlink_to(elsewhere)  # planted in a folder that anybody may write to
    assert files.user_cache() is None
    assert files.cached("x", lambda: b"content") == (b"content", None)
    assert list(elsewhere.iterdir()) == []
