"""The one TVM module: versions are checked before TVM loads, and errors keep their class."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tvm_mpq import _tvm_compat
from tvm_mpq._tvm_compat import REQUIRED, check_versions, relax, tvm
from tvm_mpq.errors import EnvironmentVersionError, MpqError, UnsupportedOperatorError

pytestmark = pytest.mark.null

PIP = "pip install 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1'"


def test_the_pinned_versions_pass() -> None:
    check_versions(dict(REQUIRED))
    check_versions()


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"apache-tvm-ffi": "0.1.15"}, "apache-tvm-ffi is 0.1.15, expected 0.1.14.post1"),
        ({"apache-tvm": None}, "apache-tvm is not installed, expected 0.27.0.post1"),
    ],
)
def test_other_versions_give_the_line_that_fixes_them(
    changed: dict[str, str | None], found: str
) -> None:
    with pytest.raises(EnvironmentVersionError) as caught:
        check_versions(REQUIRED | changed)
    assert found in str(caught.value) and PIP in str(caught.value)
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, MpqError)


def test_a_wrong_version_stops_before_tvm_is_loaded() -> None:
    program = (
        "import importlib.metadata as m, sys\n"
        "m.version = lambda name: '0.0'\n"
        "try:\n"
        "    import tvm_mpq._tvm_compat\n"
        "except ImportError as error:\n"
        "    print('tvm' in sys.modules, 'tvm_ffi' in sys.modules, error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.startswith("False False apache-tvm is 0.0") and PIP in result.stdout


def test_errors_keep_their_class_through_tvm() -> None:
    """TVM's C++ frames turn every exception class they do not know into RuntimeError."""

    @tvm.transform.module_pass(opt_level=0)
    class Refuse:
        def transform_module(self, mod: object, _ctx: object) -> object:
            raise UnsupportedOperatorError("conv9d: no such thing")

    with pytest.raises(UnsupportedOperatorError, match="^conv9d: no such thing$"):
        Refuse()(tvm.IRModule())


def test_call_attributes_come_back_as_python_values() -> None:
    import relay_passes.ops  # noqa: F401

    x = relax.Var("x", relax.TensorType((1, 4, 2, 2), "float32"))
    attrs = {"name": "n", "bits": 4, "scale": 0.5, "padding": [1, 2], "ranges": [0.0, 1.5]}
    found = _tvm_compat.call_attrs(_tvm_compat.make_call("mpq.global_avg_pool", [x], attrs))
    assert found == attrs | {"padding": (1, 2), "ranges": (0.0, 1.5)}
    assert {type(value) for value in found.values()} == {str, int, float, tuple}
