"""Random integer networks as programs, with their numpy reference, and their C on the host."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from tests.kernels.harness import TARGET, _random_icn
from tvm_mpq.codegen import library as codegen
from tvm_mpq.codegen import streaming
from tvm_mpq.codegen.program import Program, Step
from tvm_mpq.codegen.row_plan import pooled_by_rows
from tvm_mpq.kernels import reference
from tvm_mpq.kernels.choose import choose
from tvm_mpq.kernels.pack import pack_add, pack_concat, pack_icn, pack_pool, pack_weights
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.memory.stages import StagePlan
from tvm_mpq.specs import TensorSpec

CLASSES = 7
NOT_BEGUN = -3


class Network:
    """Appends integer layers and follows one image through them with the numpy reference."""

    def __init__(self, seed: int, height: int, width: int, channels: int = 3) -> None:
        self.rng = np.random.default_rng(seed)
        image = TensorSpec(channels, height, width, 8, int(self.rng.integers(0, 256)), "hwc8")
        self.image = self.rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
        self.tensors = {"x": image}
        self.codes = {"x": self.image.transpose(2, 0, 1)}
        self.steps: list[Step] = []
        self.constants: dict[str, np.ndarray] = {}

    def bits(self) -> int:
        """A random width."""
        return int(self.rng.choice([8, 4, 2]))

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: tuple[int, int, int, int] = (1, 1, 1, 1),
        depthwise: bool = False,
    ) -> str:
        """A convolution with random weights and widths."""
        source = self.tensors[x]
        height = (source.height + padding[0] + padding[2] - kernel) // stride + 1
        width = (source.width + padding[1] + padding[3] - kernel) // stride + 1
        bits = self.bits()
        zero = int(self.rng.integers(0, 1 << bits))
        channels = source.channels if depthwise else channels
        y = TensorSpec.of_map(channels, height, width, bits, zero)
        op = "depthwise_conv2d" if depthwise else "conv2d"
        if kernel == 1 and not any(padding) and not depthwise:
            op = "pointwise_conv2d"
        layer = KernelSpec(
            op, (source,), y, self.bits(), (kernel, kernel), (stride, stride), padding
        )
        return self._weighted(choose(layer, TARGET), x)

    def logits(self, x: str) -> str:
        """The classifier."""
        y = TensorSpec(CLASSES, 1, 1, 32, 0, "logits")
        source = self.tensors[x]
        kernel = (source.height, source.width)
        return self._weighted(KernelSpec("dense", (source,), y, self.bits(), kernel), x)

    def add(self, a: str, b: str) -> str:
        """A requantized sum."""
        y = replace(self.tensors[a], bits=8, zero_point=int(self.rng.integers(0, 256)))
        m = [int(v) for v in self.rng.integers(2**29, 2**31, 2)]
        params = reference.AddParams((m[0], m[1]), 31, int(self.rng.integers(0, 2)))
        zeros = (self.tensors[a].zero_point, self.tensors[b].zero_point)
        codes = reference.add(self.codes[a], self.codes[b], params, zeros, y.zero_point, 8)
        return self._weightless("add", (a, b), y, codes, pack_add(params))

    def concat(self, a: str, b: str) -> str:
        """Two maps along channels."""
        first, second = self.tensors[a], self.tensors[b]
        y = replace(first, channels=first.channels + second.channels, bits=8, zero_point=3)
        params = (reference.RescaleParams(2**30, 30, 1), reference.RescaleParams(2**30 + 9, 31, 0))
        parts = [
            reference.rescale(self.codes[n], p, self.tensors[n].zero_point, 3, 8)
            for n, p in zip((a, b), params, strict=True)
        ]
        return self._weightless("concat", (a, b), y, np.concatenate(parts), pack_concat(params))

    def max_pool(self, x: str, kernel: int, stride: int, pad: int) -> str:
        """A max pool on codes."""
        s = self.tensors[x]
        height = (s.height + 2 * pad - kernel) // stride + 1
        width = (s.width + 2 * pad - kernel) // stride + 1
        y = TensorSpec.of_map(s.channels, height, width, s.bits, s.zero_point)
        window = ((kernel, kernel), (stride, stride), (pad,) * 4)
        codes = reference.max_pool2d(self.codes[x], *window)
        return self._weightless("max_pool2d", (x,), y, codes, np.zeros(0, np.int32), *window)

    def pool(self, x: str) -> str:
        """A global average pool."""
        s = self.tensors[x]
        y = TensorSpec.of_map(s.channels, 1, 1, s.bits, s.zero_point)
        m0, shift = int(self.rng.integers(2**30, 2**31)), 31 + int(np.log2(s.height * s.width))
        codes = reference.global_avg_pool(
            self.codes[x], s.zero_point, 5, m0, shift, s.zero_point, s.bits
        )
        return self._weightless("global_avg_pool", (x,), y, codes, pack_pool(5, m0, shift))

    def program(self, name: str) -> Program:
        """The program so far; its pools sum rows as they come."""
        functions = {step.spec.symbol: primfunc(step.spec) for step in self.steps}
        output = self.steps[-1].output
        tensors, constants = dict(self.tensors), dict(self.constants)
        program = Program(name, "x", output, tuple(self.steps), tensors, constants, functions, 1.0)
        return pooled_by_rows(program)

    def _weighted(self, spec: KernelSpec, x: str) -> str:
        name = f"layer_{len(self.steps)}"
        depthwise = spec.op == "depthwise_conv2d"
        shape = (spec.output.channels, 1 if depthwise else spec.x.channels, *spec.kernel)
        weights = self.rng.integers(0, 1 << spec.w_bits, shape).astype(np.uint8)
        zw = self.rng.integers(0, 1 << spec.w_bits, shape[0]).astype(np.uint8)
        phi_of = reference.depthwise_conv2d_phi if depthwise else reference.conv2d_phi
        phi = phi_of(self.codes[x], weights, spec.x.zero_point, zw, spec.strides, spec.padding)
        icn = _random_icn(self.rng, phi, zw, spec.output.bits)
        y = spec.output
        self.codes[name] = np.asarray(reference.layer(phi, icn, y.zero_point, y.bits))
        self.constants[f"{name}_weights"] = pack_weights(spec, weights)
        self.constants[f"{name}_icn"] = pack_icn(spec, icn, weights)
        return self._append(Step(name, spec, (x,), name, f"{name}_weights", f"{name}_icn"))

    def _weightless(
        self,
        op: str,
        inputs: tuple[str, ...],
        y: TensorSpec,
        codes: np.ndarray,
        icn: np.ndarray,
        kernel: tuple[int, int] = (1, 1),
        strides: tuple[int, int] = (1, 1),
        padding: tuple[int, ...] = (0, 0, 0, 0),
    ) -> str:
        name = f"layer_{len(self.steps)}"
        sources = tuple(self.tensors[n] for n in inputs)
        spec = KernelSpec(op, sources, y, 0, kernel, strides, padding)  # type: ignore[arg-type]
        self.codes[name] = codes
        if spec.icn_words:
            self.constants[f"{name}_icn"] = icn
        return self._append(Step(name, spec, inputs, name, "", f"{name}_icn" * bool(icn.size)))

    def _append(self, step: Step) -> str:
        self.steps.append(step)
        self.tensors[step.output] = step.spec.output
        return step.output


class HostPlans:
    """One program under many plans, all in one shared library of this machine."""

    def __init__(self, network: Network, plans: list[StagePlan], folder: Path) -> None:
        self._image = np.ascontiguousarray(network.image)
        self._plans = plans
        # All plans call the same kernels: their C is made once.
        kernels = codegen._kernels(network.program("p0"))
        for index, plan in enumerate(plans):
            with (
                mock.patch.object(codegen, "_kernels", return_value=kernels),
                mock.patch.object(streaming, "kernel_symbol", lambda _, s: f"tvmgen_p0_{s.symbol}"),
            ):
                library = codegen.generate_library(network.program(f"p{index}"), plan)
            library.write(folder, folder)
        first = sorted(map(str, folder.glob("p0_*.c")))
        sources = [*first, *(str(folder / f"p{i}_lib0.c") for i in range(len(plans)))]
        flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
        flags += ["-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan"]
        output = folder / "plans.so"
        command = ["cc", *flags, f"-I{folder}", *dict.fromkeys(sources), "-o", str(output)]
        subprocess.run(command, check=True, timeout=300)
        self._library = ctypes.CDLL(str(output))

    def run(self, index: int) -> np.ndarray:
        """int32 logits of the network's image, twice the same."""
        results = [self._run(index) for _ in range(2)]
        assert (results[0] == results[1]).all()
        return results[0]

    def push(self, index: int) -> np.ndarray:
        """The same, row by row, every row from a buffer that is overwritten afterwards."""
        name = f"tvmgen_p{index}"
        logits = np.full(CLASSES, 0x5A5A5A5A, np.int32)
        outputs = (ctypes.c_void_p * 1)(logits.ctypes.data)
        left = getattr(self._library, f"{name}_begin")(outputs)
        assert left == len(self._image)
        for number, row in enumerate(self._image):
            line = row.copy()
            left = getattr(self._library, f"{name}_push_row")(ctypes.c_void_p(line.ctypes.data))
            assert left == len(self._image) - number - 1
            line[:] = 0xA5
        push = getattr(self._library, f"{name}_push_row")
        assert push(ctypes.c_void_p(self._image.ctypes.data)) == NOT_BEGUN
        return logits

    def _run(self, index: int) -> np.ndarray:
        image, logits = self._image.copy(), np.zeros(CLASSES, np.int32)
        inputs = (ctypes.c_void_p * 1)(image.ctypes.data)
        outputs = (ctypes.c_void_p * 1)(logits.ctypes.data)
        assert getattr(self._library, f"tvmgen_p{index}_run")(inputs, outputs) == 0
        assert (image == self._image).all()
        return logits
