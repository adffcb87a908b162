"""The same C sources built for this machine and called through ctypes."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import ToolError
from tvm_mpq.toolchain import run_tool

_FLAGS = ["-std=c99", "-O3", "-march=native", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]


class HostLibrary:
    """A network as a shared library of this machine.

    Parameters: ``include`` and ``src`` are the folders of the generated library, ``build`` receives
    the binary, ``classes`` is the number of logits.
    """

    def __init__(self, name: str, include: Path, src: Path, build: Path, classes: int) -> None:
        output = build / f"lib{name}.so"
        sources = sorted(str(path) for path in src.glob("*.c"))
        command = ["cc", *_FLAGS, f"-I{include}", *sources, "-o", str(output)]
        result = run_tool(command, timeout=600)
        if result.status != 0:
            raise ToolError(f"the host compiler rejects the generated C:\n{result.stderr[:2000]}")
        self.binary = ctypes.CDLL(str(output))
        self._run = getattr(self.binary, f"tvmgen_{name}_run")
        self._classes = classes

    def run(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """int32 logits [classes] of one uint8 image [H, W, C]."""
        image = np.ascontiguousarray(image, np.uint8)
        logits = np.empty(self._classes, np.int32)
        inputs = (ctypes.c_void_p * 1)(image.ctypes.data)
        outputs = (ctypes.c_void_p * 1)(logits.ctypes.data)
        code = self._run(inputs, outputs)
        if code != 0:
            raise RuntimeError(f"the network's entry point returned {code}")
        return logits
