"""C text of the stages: kernel calls, and for streamed stages the loops that order them by rows.

A layer of a streamed stage becomes a function that makes every row it can make now and hands each
one on; a struct counts the rows of every tensor. Nothing else is decided at run time.

    static void default_make_conv_1(void) {
      while (rows.conv_1 < 112 && least(2 * rows.conv_1 + 3, 224) <= rows.x) {
        mpq_conv3x3s2_...(arena + 0, 224, arena + 150528, 3, rows.conv_1, 1, w, icn, scratch);
        rows.conv_1 += 1;
        default_make_conv_2();
      }
    }
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_mpq.codegen.program import Program, Step
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.memory.rows import RowLayer
from tvm_mpq.memory.stages import StagePlan
from tvm_mpq.names import c_name
from tvm_mpq.specs import TensorSpec


def layer_text(inputs: tuple[TensorSpec, ...], output: TensorSpec) -> str:
    """Shapes and widths, for comments."""
    shapes = [f"{t.channels}x{t.height}x{t.width}:{t.bits}" for t in (*inputs, output)]
    return f"{' + '.join(shapes[:-1])} -> {shapes[-1]}"


@dataclass(frozen=True)
class StageText:
    """C of the whole program.

    Attributes
    ----------
    counters: members of the struct of row counters, in order; empty when nothing is streamed.
    functions: definitions of the row functions. first: what runs when a row of the image has
        arrived (by rows only). rest: statements of all other stages.
    """

    counters: list[str]
    functions: list[str]
    first: list[str]
    rest: list[str]


def stage_text(program: Program, plan: StagePlan) -> StageText:
    """The C of every stage."""
    return _Writer(program, plan).text()


class _Writer:
    def __init__(self, program: Program, plan: StagePlan) -> None:
        self._program = program
        self._plan = plan
        self._graph = plan.graph
        self._shift = int(plan.graph.by_rows)  # the camera is a layer, but no step

    def text(self) -> StageText:
        """See ``StageText``."""
        text = StageText([], [], [], [])
        for stage, (first, end) in enumerate(self._plan.stages):
            if end - first == 1:
                text.rest.extend(["", *self._single(stage, first)])
                continue
            outside = self._graph.outside_inputs(first, end)
            layers = self._graph.layers[first:end]
            names = [*outside, *(layer.output for layer in layers)]
            text.counters.extend(self._counter(name) for name in names)
            for index in range(end - 1, first - 1, -1):
                if self._graph.layers[index].inputs:
                    text.functions.append(self._function(stage, index))
            if outside:
                text.rest.extend(["", *self._stage_loop(stage, outside)])
            else:
                text.first.extend(self._readers(stage, self._graph.layers[first].output))
        return StageText(list(dict.fromkeys(text.counters)), text.functions, text.first, text.rest)

    def _single(self, stage: int, index: int) -> list[str]:
        layer, step = self._graph.layers[index], self._step(index)
        comment = f"/* {self._comment(step)} */"
        if not self._plan.is_in_place(stage):
            return [comment, *self._call(step, "0", str(layer.steps))]
        rows = "1" if layer.band == 1 else f"LEAST({layer.band}, {layer.steps} - row)"
        step_text = "++row" if layer.band == 1 else f"row += {layer.band}"
        return [
            comment,
            f"for (int32_t row = 0; row < {layer.steps}; {step_text}) {{",
            *(f"  {line}" for line in self._call(step, "row", rows)),
            "}",
        ]

    def _stage_loop(self, stage: int, outside: tuple[str, ...]) -> list[str]:
        first, end = self._plan.stages[stage]
        heights = {name: self._graph.tensors[name].height for name in outside}
        tallest = max(heights.values())
        names = f"{self._step(first).name} to {self._step(end - 1).name}"
        lines = [f"/* Row by row: {names}. */"]
        lines.append(f"for (int32_t row = 1; row <= {tallest}; ++row) {{")
        for name, height in heights.items():
            count = "row" if height == tallest else f"row * {height} / {tallest}"
            lines.append(f"  rows.{self._counter(name)} = {count};")
        for index in range(first, end):
            if set(self._graph.layers[index].inputs) & set(outside):
                lines.append(f"  {self._maker(index)}();")
        return [*lines, "}"]

    def _function(self, stage: int, index: int) -> str:
        layer, step = self._graph.layers[index], self._step(index)
        made = f"rows.{self._counter(layer.output)}"
        band = "1"
        if layer.band > 1:
            band = f"LEAST({layer.band}, {layer.steps} - {made})"
        conditions = [f"{made} < {layer.steps}"]
        for name in dict.fromkeys(layer.inputs):
            conditions.append(f"{self._needed(layer, name, made, band)} <= {self._there(name)}")
        rows = "1" if band == "1" else "count"
        body = [] if band == "1" else [f"const int32_t count = {band};"]
        body += [*self._call(step, made, rows), f"{made} += {rows};"]
        body += self._readers(stage, layer.output)
        lines = [
            f"/* {self._comment(step)} */",
            f"static void {self._maker(index)}(void) {{",
            f"  while ({' && '.join(conditions)}) {{",
            *(f"    {line}" for line in body),
            "  }",
            "}",
        ]
        return "\n".join(lines)

    def _needed(self, layer: RowLayer, name: str, made: str, band: str) -> str:
        """How many rows of ``name`` there must be before the next band."""
        height = self._graph.tensors[name].height
        last = f"{made}" if band == "1" else f"({made} + {band} - 1)"
        product = last if layer.stride == 1 else f"{layer.stride} * {last}"
        constant = layer.window - layer.top
        needed = f"{product} + {constant}" if constant >= 0 else f"{product} - {-constant}"
        most = (layer.steps - 1) * layer.stride + constant
        return needed if most <= height else f"LEAST({needed}, {height})"

    def _there(self, name: str) -> str:
        """How many rows of ``name`` there are."""
        count = f"rows.{self._counter(name)}"
        writer = self._graph.writer[name]
        layer = self._graph.layers[max(writer, 0)]
        if writer >= 0 and layer.accumulates:
            return f"({count} == {layer.steps})"
        return count

    def _readers(self, stage: int, name: str) -> list[str]:
        first, end = self._plan.stages[stage]
        return [f"{self._maker(i)}();" for i in self._graph.readers[name] if first <= i < end]

    def _call(self, step: Step, first: str, rows: str) -> list[str]:
        spec = step.spec
        arguments = [self._operand(name) for name in (*step.inputs, step.output)]
        arguments.append(f"{first}, {rows}")
        for constant in (step.weights, step.icn):
            arguments.append(symbol(self._program, constant) if constant else "NULL")
        arguments.append("scratch")
        kernel = kernel_symbol(self._program.name, spec)
        return [f"{kernel}({', '.join(arguments)});", "FEED();"]

    def _operand(self, name: str) -> str:
        """Pointer and ring of a tensor."""
        ring = self._plan.rings[name]
        # A whole image is where the caller says, which may be its place in the arena.
        if name == self._program.input and not self._graph.by_rows:
            return f"caller.input, {ring}"
        if name == self._program.output:
            return f"caller.output, {ring}"
        return f"arena + {self._plan.arena.offsets[name]}, {ring}"

    def _comment(self, step: Step) -> str:
        spec = step.spec
        bytes_text = f"{4 * (spec.weight_words + spec.icn_words)} constant bytes"
        return f"{step.name}: {spec.name}, {layer_text(spec.inputs, spec.output)}, {bytes_text}"

    def _step(self, index: int) -> Step:
        return self._program.steps[index - self._shift]

    def _counter(self, name: str) -> str:
        return c_name(name)

    def _maker(self, index: int) -> str:
        return f"{self._program.name}_make_{c_name(self._step(index).name)}"


def kernel_symbol(module: str, spec: KernelSpec) -> str:
    """The C name of a kernel in the library called ``module``."""
    return f"tvmgen_{module}_{spec.symbol}"


def symbol(program: Program, name: str) -> str:
    """The C name of a constant."""
    return f"tvmgen_{program.name}_{c_name(name)}"
