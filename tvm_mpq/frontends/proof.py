"""Every import proves itself: the module that came in computes what its source computes.

An importer can drop an argument without a word (TVM 0.27 ignores ``alpha`` of add and
``divisor_override`` of an average pool). So both run on seeded inputs, and every tensor of the
source is compared with its counterpart: an error far inside a network hardly moves its outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from relay_passes.canonicalize import final_softmax
from relay_passes.evaluate import evaluate_float
from relay_passes.graph import name_of, shape_of
from tvm_mpq._tvm_compat import IRModule, relax
from tvm_mpq.errors import InvalidValueError, UnsupportedOperatorError
from tvm_mpq.frontends.float_program import Float32, float_program

if TYPE_CHECKING:
    import torch
    from torch import fx

# In units of the largest value of a tensor: float32 sums in another order stay far below.
_LARGEST, _MEDIAN = 1e-3, 1e-4
# The second input is wide enough to reach the bounds of clips and the tails of activations.
_WIDTHS = (1.0, 8.0)


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float | None:
    """The largest error in units of the largest value, if two tensors are not the same.

    Tensors of other sizes are not, nor are those whose infinities or NaNs lie elsewhere.
    """
    a, b = (np.asarray(tensor, np.float64).reshape(-1) for tensor in (found, expected))
    if a.size != b.size:
        return np.inf
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    if not finite.any():
        return None
    error, size = np.abs(a[finite] - b[finite]), float(np.abs(b[finite]).max())
    worst = float(error.max())
    if worst <= _LARGEST * size and float(np.median(error)) <= _MEDIAN * size:
        return None
    return worst / size if size else np.inf


def seeded_inputs(shape: tuple[int, ...]) -> Iterator[Float32]:
    """The inputs of a proof: normal, of two widths, always the same."""
    draw = np.random.default_rng(0)
    for width in _WIDTHS:
        yield (width * draw.standard_normal(shape)).astype(np.float32)


def check_import(
    source: torch.export.ExportedProgram,
    decomposed: torch.export.ExportedProgram,
    variables: dict[fx.Node, Any],
    mod: IRModule,
) -> None:
    """Raise UnsupportedOperatorError at the first tensor of ``mod`` that differs from ``source``.

    ``decomposed`` is what was imported, ``variables`` what its nodes became in ``mod``.
    """
    import torch

    imported = float_program(mod)
    run = source.module()
    for x in seeded_inputs(shape_of(mod["main"].params[0])):
        tensors, outputs = imported.run(x)
        with torch.no_grad():
            expected = run(torch.from_numpy(x))
            values = _torch_values(decomposed, torch.from_numpy(x))
        for node, value in values.items():
            _compare_node(node, value, variables.get(node), tensors)
        for found, wanted in zip(outputs, _tensors(expected), strict=True):
            error = difference(found, wanted.detach().numpy())
            if error is not None:
                raise UnsupportedOperatorError(
                    f"torch model: the imported module differs from it by {_percent(error)} of the"
                    " largest output; export the model again with this version of torch"
                )


def check_blocks(mod: IRModule, stages: Sequence[IRModule], images: Float32) -> None:
    """Raise UnsupportedOperatorError unless each of ``stages`` computes what ``mod`` does.

    ``stages`` are modules of float blocks, ``mod`` after one pass more each; images: real numbers
    [N, C, H, W].
    """
    imported, dropped = float_program(mod), final_softmax(mod)
    for image in images[:, None]:
        tensors, outputs = imported.run(image)
        expected = outputs[0] if dropped is None else tensors[name_of(dropped.args[0])]
        if not np.isfinite(expected).all():
            return  # ranges cannot be measured either, which names the layer
        for blocks in stages:
            _check_stage(blocks, image, expected, tensors)


def _check_stage(
    blocks: IRModule, image: Float32, expected: Float32, tensors: dict[str, Float32]
) -> None:
    made: dict[str, Any] = {}
    error = difference(evaluate_float(blocks, image, made.__setitem__), expected)
    if error is not None:
        raise UnsupportedOperatorError(
            f"{_first_unmatched(made, tensors)}: as an integer block it would differ from the model"
            f" by {_percent(error)} of the largest output; write this part of the model with"
            " plainer operators"
        )


def _first_unmatched(made: dict[str, Any], tensors: dict[str, Float32]) -> str:
    """The first block whose output is no tensor of the imported module."""
    for name, tensor in list(made.items())[1:]:  # the first one is the input
        if all(difference(tensor, other) is not None for other in tensors.values()):
            return name
    return "output"


def _torch_values(
    program: torch.export.ExportedProgram, x: torch.Tensor
) -> dict[fx.Node, torch.Tensor]:
    """What every node of a program makes of ``x``, in order, as far as something reads it."""
    import torch
    from torch.export.graph_signature import InputKind

    found: dict[fx.Node, torch.Tensor] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            result = super().run_node(node)
            if node.op == "call_function" and node.users and isinstance(result, torch.Tensor):
                found[node] = result.detach()
            return result

    buffers = dict(program.named_buffers())
    stored = {
        InputKind.PARAMETER: program.state_dict,
        InputKind.BUFFER: buffers,
        InputKind.CONSTANT_TENSOR: program.constants,
    }
    arguments = [
        stored[spec.kind][spec.target] if spec.kind in stored else x
        for spec in program.graph_signature.input_specs
    ]
    Recorder(program.graph_module).run(*arguments)
    return found


def _compare_node(
    node: fx.Node, value: torch.Tensor, variable: Any, tensors: dict[str, Float32]
) -> None:
    if (
        _is_uninitialized(node)
        or not isinstance(variable, relax.Var)
        or not value.dtype.is_floating_point
    ):
        return
    found = tensors.get(name_of(variable))
    error = None if found is None else difference(found, value.float().numpy())
    if error is not None and not value.isfinite().all():
        raise InvalidValueError(
            f"{layer_name(node)}: its outputs are NaN or infinite on inputs of ordinary size; check"
            " its weights, and the variances and epsilon of a batch norm"
        )
    if error is not None:
        raise UnsupportedOperatorError(
            f"{layer_name(node)}: TVM imports {_call_text(node)} with another meaning, off by"
            f" {_percent(error)} of its largest value. Write it with plainer operators, without"
            " optional arguments"
        )


def layer_name(node: fx.Node) -> str:
    """The module of the user's model that a node of torch.export comes from, or its own name."""
    stack = node.meta.get("nn_module_stack") or {}
    path = [name for name, _ in stack.values()][-1] if stack else ""
    return str(path) or f"torch model, {node.name}"


def _is_uninitialized(node: fx.Node) -> bool:
    """torch.empty, its slices, and it with a part written: no values to compare yet."""
    inputs = node.all_input_nodes
    if str(node.target).split(".")[1:2] in (["slice"], ["select"], ["slice_scatter"]):
        return _is_uninitialized(inputs[0])
    return not inputs and node.op == "call_function"


def _call_text(node: fx.Node) -> str:
    """``add.Tensor(relu, conv2d_1, alpha=2)``."""
    arguments = [str(argument) for argument in node.args]
    arguments += [f"{name}={value}" for name, value in node.kwargs.items()]
    return f"{str(node.target).removeprefix('aten.')}({', '.join(arguments)})"


def _percent(error: float) -> str:
    return "more than 100 %" if error > 1 else f"{100 * error:.1f} %"


def _tensors(value: Any) -> list[torch.Tensor]:
    import torch
    from torch.utils import _pytree

    return [leaf for leaf in _pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
