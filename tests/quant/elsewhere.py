"""A device that is none: tensors of it live on the CPU, but behave like those of a GPU.

They mix with tensors of their own device only (and with numbers), and have no ``numpy()``. Run code
under ``with Elsewhere():``, and move modules and images with ``.to(DEVICES[0])``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICES = (torch.device("lazy:0"), torch.device("lazy:1"))


class Far(torch.Tensor):
    """A tensor of a device of ``DEVICES``; ``near`` holds its values."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor, device: torch.device) -> Far:
        far = torch.Tensor._make_wrapper_subclass(
            cls, near.shape, near.stride(), near.storage_offset(), dtype=near.dtype, device=device
        )
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return _run(function, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """Catches what makes or moves tensors of ``DEVICES``."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    devices = {t.device for t in tensors if isinstance(t, Far) or t.ndim}
    moves = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    if len(devices) > 1 and not moves:
        raise RuntimeError(f"{function}: tensors on {sorted(map(str, devices))}")
    asked = kwargs.get("device")
    device = torch.device(asked) if asked is not None else next(iter(devices), torch.device("cpu"))
    if any(isinstance(t, Far) for t in tensors) and asked is None:
        device = next(t.device for t in tensors if isinstance(t, Far))
    if device in DEVICES and asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    near_args, near_kwargs = pytree.tree_map(
        lambda t: t.near if isinstance(t, Far) else t, (args, kwargs)
    )
    result = function(*near_args, **near_kwargs)
    if device not in DEVICES:
        return result
    known = {id(t.near): t for t in tensors if isinstance(t, Far)}

    def away(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        # An operation in place gives its operand back.
        return known[id(value)] if id(value) in known else Far(value, device)

    return pytree.tree_map(away, result)
