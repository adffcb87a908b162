"""``tvm-mpq emulate``: see the emulator, which also runs it without the rest of the package."""

from tvm_mpq.emulator.command import emulate

__all__ = ["emulate"]
