"""Layer by layer: numpy reference = C on the host = firmware on the emulator."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from relay_passes.evaluate import evaluate_integer
from tvm_mpq.codegen.program import Program, Step
from tvm_mpq.codegen.streaming import kernel_symbol
from tvm_mpq.deployment import Deployment
from tvm_mpq.kernels.layout import unpack_map
from tvm_mpq.memory.arena import ArenaPlan
from tvm_mpq.micro.profiling import profile_on_emulator
from tvm_mpq.names import c_name

Buffers = dict[str, np.ndarray]


def count_equal_layers(deployment: Deployment, image: np.ndarray) -> int:
    """How many layers give the reference's codes on the host and on the emulator, for one image."""
    assert deployment.integer is not None and deployment.arena is not None
    expected: dict[str, Any] = {}
    evaluate_integer(deployment.integer.module, image, expected.__setitem__)
    program, arena = deployment.integer.program, deployment.arena
    found = [
        _host_layers(deployment, program, arena, image),
        _emulated_layers(deployment, program, arena, image),
    ]
    steps = [step for step in program.steps if step.output != program.output]
    equal = sum(all(_equal(b[s.output], expected[s.name], s) for b in found) for s in steps)
    # The logits of whole images are compared elsewhere; here they count as the last layer.
    logits = np.asarray(expected[program.steps[-1].name]).reshape(-1)
    return equal + int((deployment.run(image) == logits).all())


def _host_layers(
    deployment: Deployment, program: Program, arena: ArenaPlan, image: np.ndarray
) -> Buffers:
    """Every layer's output, from calling the kernels one by one as the entry point does."""
    binary = deployment.host_library.binary
    memory = {"input": np.ascontiguousarray(image), "output": np.empty(4096, np.int32)}
    scratch = np.zeros(program.scratch_bytes // 4 + 1, np.uint32)
    base = ctypes.addressof(ctypes.c_uint8.in_dll(binary, f"tvmgen_{program.name}_arena"))

    def pointer(name: str) -> ctypes.c_void_p:
        if name == program.input:
            return ctypes.c_void_p(memory["input"].ctypes.data)
        if name == program.output:
            return ctypes.c_void_p(memory["output"].ctypes.data)
        return ctypes.c_void_p(base + arena.offsets[name])

    outputs: Buffers = {}
    for step in program.steps:
        arguments: list[Any] = []
        for name, tensor in zip(step.inputs, step.spec.inputs, strict=True):
            arguments += [pointer(name), tensor.height]
        height = step.spec.output.height
        arguments += [pointer(step.output), height, 0, height]
        arguments += [_constant(binary, program, name) for name in (step.weights, step.icn)]
        getattr(binary, kernel_symbol(program.name, step.spec))(
            *arguments, ctypes.c_void_p(scratch.ctypes.data)
        )
        if step.output != program.output:
            raw = ctypes.string_at(base + arena.offsets[step.output], step.spec.output.nbytes)
            outputs[step.output] = _buffer(raw, step)
    return outputs


def _constant(binary: ctypes.CDLL, program: Program, name: str) -> ctypes.c_void_p | None:
    if not name:
        return None
    symbol = f"tvmgen_{program.name}_{c_name(name)}"
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_uint8.in_dll(binary, symbol)))


def _emulated_layers(
    deployment: Deployment, program: Program, arena: ArenaPlan, image: np.ndarray
) -> Buffers:
    """Every layer's output in the emulated RAM, read when the next kernel is entered."""
    outputs: Buffers = {}

    def on_layer(index: int, board: Any) -> None:
        step = program.steps[index]
        if step.output != program.output:
            address = board.symbols[f"tvmgen_{program.name}_arena"] + arena.offsets[step.output]
            outputs[step.output] = _buffer(
                board.read_memory(address, step.spec.output.nbytes), step
            )

    layers = deployment.description.layers
    profile_on_emulator(deployment.firmware, layers, image, on_layer=on_layer)
    return outputs


def _buffer(raw: bytes, step: Step) -> np.ndarray:
    shape, dtype = step.spec.output.buffer
    return np.frombuffer(raw, dtype).reshape(shape)


def _equal(buffer: np.ndarray, codes: np.ndarray, step: Step) -> bool:
    actual = unpack_map(buffer, step.spec.output)
    return bool((actual.reshape(-1) == np.asarray(codes).reshape(-1)).all())
