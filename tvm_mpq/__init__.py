"""Mixed 8/4/2-bit, integer-only CNNs for Cortex-M7 microcontrollers, on Apache TVM."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_mpq.builder import build
    from tvm_mpq.deployment import Deployment
    from tvm_mpq.errors import MpqError
    from tvm_mpq.specs import InputSpec
    from tvm_mpq.target import Target

__version__ = "0.1.0"
__all__ = ["Deployment", "InputSpec", "MpqError", "Target", "build"]

_HOME = {
    "build": "tvm_mpq.builder",
    "Deployment": "tvm_mpq.deployment",
    "MpqError": "tvm_mpq.errors",
    "InputSpec": "tvm_mpq.specs",
    "Target": "tvm_mpq.target",
}


def __getattr__(name: str) -> object:
    # PEP 562: names load on first use, so that `import tvm_mpq` needs neither TVM nor torch.
    if name not in _HOME:
        raise AttributeError(f"module 'tvm_mpq' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
