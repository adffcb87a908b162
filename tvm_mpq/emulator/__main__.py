"""``python -m tvm_mpq.emulator [run] FILE``: ``tvm-mpq emulate FILE --json``."""

from __future__ import annotations

import sys

from tvm_mpq.emulator.command import emulate

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        arguments = arguments[1:]
    emulate([*arguments, "--json"], prog_name="python -m tvm_mpq.emulator")
