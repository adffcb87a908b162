"""The same C sources built for this machine and called through ctypes."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import ToolError
from tvm_mpq.toolchain import run_tool

_FLAGS = ["-std=c99", "-O3", "-march=native", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]


class HostLibrary:
    """A network as a shared library of this machine.

    Parameters: ``include`` and ``src`` are the folders of the generated library, ``build`` receives
    the binary, ``input_bytes`` and ``classes`` are what its caller will hand over.

    Raises ToolError when the sources do not compile or are those of another network.
    """

    def __init__(
        self, name: str, include: Path, src: Path, build: Path, input_bytes: int, classes: int
    ) -> None:
        output = build / f"lib{name}.so"
        check = build / "check.c"
        check.write_text(_size_check(name, include, input_bytes, classes))
        sources = [*sorted(str(path) for path in src.glob("*.c")), str(check)]
        command = ["cc", *_FLAGS, f"-I{include}", *sources, "-o", str(output)]
        result = run_tool(command, timeout=600)
        if result.status != 0:
            raise ToolError(f"the host compiler rejects the generated C:\n{result.stderr[:2000]}")
        self.binary = ctypes.CDLL(str(output))
        try:
            self._run = getattr(self.binary, f"tvmgen_{name}_run")
        except AttributeError:
            raise ToolError(f"{src}: no function tvmgen_{name}_run; compile again") from None
        self._classes = classes

    def run(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """int32 logits [classes] of one uint8 image [H, W, C]."""
        image = np.ascontiguousarray(image, np.uint8)
        logits = np.empty(self._classes, np.int32)
        inputs = (ctypes.c_void_p * 1)(image.ctypes.data)
        outputs = (ctypes.c_void_p * 1)(logits.ctypes.data)
        code = self._run(inputs, outputs)
        if code != 0:
            raise ToolError(f"the network's entry point returned {code}")
        return logits


def _size_check(name: str, include: Path, input_bytes: int, classes: int) -> str:
    """C that compiles only if the library reads and writes as many bytes as it will be given."""
    header = f"tvmgen_{name}.h"
    text = (include / header).read_text(errors="replace") if (include / header).is_file() else ""
    sizes = [f"TVMGEN_{name.upper()}_OUTPUT_SIZE == {4 * classes}"]
    sizes += [
        f"{macro} == {input_bytes}"
        for macro in re.findall(rf"#define (TVMGEN_{name.upper()}_\w+_SIZE) \d+", text)[:1]
    ]
    checks = (f"typedef char same_size_{i}[({s}) ? 1 : -1];" for i, s in enumerate(sizes))
    return "\n".join([f'#include "{header}"', *checks, ""])
