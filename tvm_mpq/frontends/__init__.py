"""Models of other frameworks -> one canonical Relax module."""

from tvm_mpq.frontends.torch import from_torch, load_exported_program

__all__ = ["from_torch", "load_exported_program"]
