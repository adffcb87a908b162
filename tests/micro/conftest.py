"""Shared by the tests of projects: one built firmware, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_library import FakeLibrary

from tvm_mpq.micro import Firmware, Project, generate_project
from tvm_mpq.target import Target


@pytest.fixture(scope="session")
def arm_gcc() -> None:
    """Skip where firmware cannot be built."""
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which("make") is None:
        pytest.skip("needs arm-none-eabi-gcc and make")


@pytest.fixture(scope="session")
def project(arm_gcc: None, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The fake library's project for the whole chip; do not write into it."""
    folder = tmp_path_factory.mktemp("micro")
    return generate_project(FakeLibrary().write(folder / "lib"), folder / "p", Target("stm32h7"))


@pytest.fixture(scope="session")
def firmware(project: Project) -> Firmware:
    """``project``, built."""
    return project.build()


@pytest.fixture()
def make_project(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A function that writes a library and generates its project: (library, **Target options)."""

    def make(library: FakeLibrary, **options: int | str) -> Project:
        return generate_project(
            library.write(tmp_path / "lib"), tmp_path / "project", Target("stm32h7", **options)
        )

    return make
