"""The straight-line program of a legalized module: steps, tensors, constants, arena."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relay_passes.graph import bindings, name_of, output_of
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant, relax, tirx
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.memory.arena import ArenaPlan, Buffer, plan_arena
from tvm_mpq.specs import TensorSpec

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Step:
    """One kernel call. ``weights`` and ``icn`` name constants, empty when the kernel has none."""

    name: str
    spec: KernelSpec
    inputs: tuple[str, ...]
    output: str
    weights: str = ""
    icn: str = ""


@dataclass(frozen=True)
class Program:
    """What is left of the graph: nothing but an order of kernel calls on named buffers.

    Attributes
    ----------
    name: the module's name in C (``tvmgen_<name>_run``).
    input, output: tensor names. tensors: every activation, input and output included.
    constants: packed weights and requantization parameters, in the order of the steps.
    functions: unscheduled PrimFuncs by C symbol.
    logits_scale: real units per int32 logit.
    """

    name: str
    input: str
    output: str
    steps: tuple[Step, ...]
    tensors: dict[str, TensorSpec]
    constants: dict[str, Array]
    functions: dict[str, tirx.PrimFunc]
    logits_scale: float

    @property
    def scratch_bytes(self) -> int:
        """Bytes of DTCM shared by all kernels."""
        return max(step.spec.scratch_bytes for step in self.steps)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(step.spec.macs for step in self.steps)


def extract_program(mod: IRModule, name: str = "default") -> Program:
    """Read the ``call_tir`` chain of a module made by ``LegalizeToTir``."""
    parameter = mod["main"].params[0]
    tensor_names = {parameter: name_of(parameter)}
    tensors: dict[str, TensorSpec] = {}
    constants: dict[str, Array] = {}
    steps: list[Step] = []
    for var, value in bindings(mod):
        if not isinstance(value, relax.Call):
            tensor_names[var] = tensor_names[value]
            continue
        tensor_names[var] = name_of(var)
        step, operands = _read_step(mod, value, name_of(var), tensor_names)
        constants.update(zip([c for c in (step.weights, step.icn) if c], operands, strict=True))
        tensors.update(zip(step.inputs, step.spec.inputs, strict=True))
        tensors[step.output] = step.spec.output
        steps.append(step)
    functions = {
        var.name_hint: function
        for var, function in mod.functions.items()
        if isinstance(function, tirx.PrimFunc)
    }
    scale = float(mod["main"].attrs["mpq.logits_scale"])
    output = tensor_names[output_of(mod)]
    return Program(
        name, name_of(parameter), output, tuple(steps), tensors, constants, functions, scale
    )


def _read_step(
    mod: IRModule, call: relax.Call, name: str, tensor_names: dict[relax.Var, str]
) -> tuple[Step, list[Array]]:
    spec = KernelSpec.from_json(str(mod[call.args[0]].attrs["mpq.spec"]))
    operands = list(call.args[1].fields)
    inputs = tuple(tensor_names[arg] for arg in operands if isinstance(arg, relax.Var))
    arrays = [constant_array(arg) for arg in operands if is_constant(arg)]
    weights = f"{name}_weights" if spec.w_bits else ""
    icn = f"{name}_icn" if spec.icn_words else ""
    return Step(name, spec, inputs, name, weights, icn), arrays


def plan_memory(program: Program, input_in_arena: bool = True) -> ArenaPlan:
    """Place every activation but the logits, which go to the caller's buffer.

    An add writes over an input that dies there when both have the same bytes per row.
    """
    last_use = {name: i for i, step in enumerate(program.steps) for name in step.inputs}
    buffers = []
    if input_in_arena:
        size = program.tensors[program.input].nbytes
        buffers.append(Buffer(program.input, size, 0, last_use[program.input]))
    for i, step in enumerate(program.steps):
        if step.output == program.output:
            continue
        last = last_use.get(step.output, i)
        alias = _dying_twin(program, step, i, last_use)
        buffers.append(Buffer(step.output, step.spec.output.nbytes, i, last, alias_of=alias))
    return plan_arena(buffers)


def _dying_twin(program: Program, step: Step, index: int, last_use: dict[str, int]) -> str | None:
    if step.spec.op != "add":
        return None
    for name, tensor in zip(step.inputs, step.spec.inputs, strict=True):
        same = tensor.buffer == step.spec.output.buffer
        if same and last_use[name] == index and name != program.input:
            return name
    return None
