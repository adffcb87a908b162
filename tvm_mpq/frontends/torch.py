"""torch modules and exported programs -> Relax, parameters bound as constants."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mpq._tvm_compat import IRModule
from tvm_mpq.errors import InvalidValueError, UnsupportedOperatorError
from tvm_mpq.frontends.pt2 import safe_archive
from tvm_mpq.frontends.torch_values import check_dtypes, check_program

if TYPE_CHECKING:
    import torch
    from torch import fx


def from_torch(
    module: torch.nn.Module | torch.export.ExportedProgram, example_input: Any = None
) -> IRModule:
    """A Relax module with one float32 NCHW input and its weights as constants.

    Parameters
    ----------
    module: a torch.nn.Module in eval mode, or the result of torch.export.export.
    example_input: float32 tensor [1, C, H, W]; only for a torch.nn.Module.

    Raises
    ------
    InvalidValueError: a module in training mode, or one that torch cannot export; parameters of
        another type than float32, NaN or infinity among them, a negative variance.
    UnsupportedOperatorError: an operator that TVM's importer does not know, or imports with another
        meaning: the module is compared with its source, tensor by tensor (see proof.py).
    """
    import torch

    from relay_passes.canonicalize import check_parameters
    from tvm_mpq.frontends.proof import check_import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if isinstance(module, torch.nn.Module):
            module = _export(module, example_input)
        check_program(module)
        decomposed = module.run_decompositions()
        _check_stateless(decomposed)
        mod, variables = _import(decomposed)
        check_parameters(mod)
        check_import(module, decomposed, variables, mod)
        return mod


def _check_stateless(program: torch.export.ExportedProgram) -> None:
    changed = program.graph_signature.buffers_to_mutate
    if changed:
        raise UnsupportedOperatorError(
            f"torch model: it changes its buffer {next(iter(changed.values()))} while it runs, as"
            " batch norm does in training mode. Call model.eval() before torch.export.export"
        )


def _import(program: torch.export.ExportedProgram) -> tuple[IRModule, dict[fx.Node, Any]]:
    """The Relax module of a decomposed program, and the variable that each node became."""
    from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

    importer = ExportedProgramImporter()
    try:
        mod = importer.from_exported_program(program, False, False, False, None)
    except Exception as error:  # the importer raises whatever its converters meet
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UnsupportedOperatorError(
            f"torch model: TVM cannot import it: {reason[0]}. Rewrite the model with"
            " convolutions, linear layers, batch norm, relu, add, cat, max_pool2d and mean"
        ) from error
    return mod, importer.env


def _export(module: torch.nn.Module, example_input: Any) -> torch.export.ExportedProgram:
    import torch

    if module.training:
        raise InvalidValueError("torch model: it is in training mode; call model.eval() first")
    if not isinstance(example_input, torch.Tensor):
        raise InvalidValueError(
            f"torch model: example_input is {type(example_input).__name__}; expected a float32"
            " tensor [1, channels, height, width]"
        )
    check_dtypes(module, example_input)
    try:
        return torch.export.export(module, (example_input,))
    except Exception as error:
        raise InvalidValueError(f"torch model: torch.export failed: {error}") from error


def load_exported_program(path: Path) -> IRModule:
    """A ``.pt2`` file (torch.export.save) as a Relax module.

    Nothing in the file is executed. Raises InvalidValueError when it is missing, is no exported
    program, or holds something that torch would execute.
    """
    import torch

    if not path.is_file():
        raise InvalidValueError(f"model {path}: no such file")
    archive = safe_archive(path)
    try:
        with warnings.catch_warnings(), quiet("torch.export", "torch._export"):
            warnings.simplefilter("ignore")
            program = torch.export.load(archive)
    except Exception as error:
        raise InvalidValueError(
            f"model {path}: not a torch exported program ({type(error).__name__}); write it with"
            " torch.export.save(torch.export.export(model.eval(), (example,)), path)"
        ) from error
    return from_torch(program)


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Without the log of these libraries: what goes wrong is told in one message."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
