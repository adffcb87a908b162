"""The one module that knows what differs between TVM releases; everything TVM is imported here.

Importing it checks the installed versions first: a newer ``apache-tvm-ffi`` than the pinned one
imports without complaint and then segfaults in tensorize and in module serialization.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tvm_mpq.errors import EnvironmentVersionError, MpqError

REQUIRED = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}


def check_versions(installed: dict[str, str | None] | None = None) -> None:
    """Raise EnvironmentVersionError unless exactly the pinned TVM packages are installed."""
    if installed is None:
        installed = {package: _installed_version(package) for package in REQUIRED}
    wrong = [
        f"{package} is {installed[package] or 'not installed'}, expected {wanted}"
        for package, wanted in REQUIRED.items()
        if installed[package] != wanted
    ]
    if wrong:
        pins = " ".join(f"'{package}=={wanted}'" for package, wanted in REQUIRED.items())
        raise EnvironmentVersionError(
            f"{'; '.join(wrong)}. Other pairs crash or miscompile. Fix: pip install {pins}"
        )


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


check_versions()

import tvm  # noqa: E402
from tvm import ir, relax, s_tir, tirx  # noqa: E402
from tvm.ir import IRModule, PointerType, PrimType  # noqa: E402
from tvm.relax.expr_functor import PyExprMutator, mutator  # noqa: E402
from tvm.s_tir import TensorIntrin  # noqa: E402
from tvm.script import tirx as T  # noqa: E402
from tvm.tirx.buffer import is_buffer_var  # noqa: E402
from tvm_ffi import register_error  # noqa: E402

__all__ = [
    "IRModule",
    "PointerType",
    "PrimType",
    "PyExprMutator",
    "T",
    "TensorIntrin",
    "call_attrs",
    "close_blocks",
    "constant_array",
    "ir",
    "is_buffer_var",
    "is_constant",
    "make_call",
    "mutator",
    "register_op",
    "relax",
    "s_tir",
    "tirx",
    "tvm",
]

# A pass runs under TVM's C++ frames, which turn every class they do not know into RuntimeError.
for _error in MpqError.__subclasses__():
    register_error(_error.__name__, _error)


def register_op(name: str, infer_type: Any, description: str) -> None:
    """Register the Relax operator ``name`` with a Python type inference ``(call, builder)``."""
    tvm.get_global_func("ir.RegisterOp")(name, description)
    ir.register_op_attr(name, "FInferType", infer_type)
    ir.register_op_attr(name, "FPurity", True)


def make_call(name: str, args: list[Any], attrs: dict[str, Any]) -> relax.Call:
    """A call of a registered operator whose attributes are a plain dictionary."""
    return relax.Call(ir.Op.get(name), args, attrs=ir.make_node("ir.DictAttrs", **attrs))


def call_attrs(call: relax.Call) -> dict[str, Any]:
    """The DictAttrs of a call as Python ints, floats, strings and tuples."""
    return {str(key): _plain(value) for key, value in call.attrs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if hasattr(value, "value"):
        return value.value
    return tuple(_plain(item) for item in value)


def close_blocks(builder: relax.BlockBuilder) -> None:
    """End the block that an error left open; TVM prints a warning otherwise."""
    builder._end_block()


def is_constant(expr: Any) -> bool:
    """True for a Relax tensor constant."""
    return isinstance(expr, ir.GenericConst)


def constant_array(expr: Any) -> Any:
    """The numpy array of a Relax constant."""
    return expr.value.numpy()
