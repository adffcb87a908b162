"""What a torch model holds: float32, finite, variances that have a root."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.finite import check_finite

if TYPE_CHECKING:
    import torch

_FIX = "export the model again from a checkpoint without them"


def check_dtypes(module: torch.nn.Module, example_input: torch.Tensor) -> None:
    """Raise InvalidValueError unless a module and its example input are float32."""
    _check_float32(module.state_dict().items(), "call model.float() first")
    _check_float32([("example_input", example_input)], "give example_input.float()")


def check_program(program: torch.export.ExportedProgram) -> None:
    """Raise InvalidValueError, naming the tensor, unless all of a program's are usable numbers."""
    import torch

    lifted = {k: v for k, v in program.constants.items() if isinstance(v, torch.Tensor)}
    tensors = program.state_dict | lifted
    _check_float32(tensors.items(), "call model.float() before torch.export.export")
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().numpy()
        check_finite(f"torch model: {name}", values, _FIX)
        if name.endswith("running_var") and (values < 0).any():
            channel = int(values.argmin())
            raise InvalidValueError(
                f"torch model: {name}: the variance of channel {channel} is {values[channel]:g};"
                f" a variance is 0 or more: {_FIX.replace('them', 'it')}"
            )


def _check_float32(tensors: Iterable[tuple[str, torch.Tensor]], fix: str) -> None:
    import torch

    for name, tensor in tensors:
        if tensor.dtype.is_complex or (
            tensor.is_floating_point() and tensor.dtype != torch.float32
        ):
            kind = str(tensor.dtype).removeprefix("torch.")
            what = "it" if name == "example_input" else "the model"
            raise InvalidValueError(f"torch model: {what} is {kind} ({name}); {fix}")
