"""A float Relax module compiled by TVM: what the module that was imported really computes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from relay_passes.graph import name_of
from tvm_mpq._tvm_compat import IRModule, relax, tvm

Float32 = npt.NDArray[np.float32]
# Programs run twice: less time goes into compiling at level 1 than naive loops lose to level 3.
_TARGET = {"kind": "llvm", "opt-level": 1}


class FloatProgram:
    """``main`` of a float module in TVM's virtual machine, with every tensor it makes."""

    def __init__(self, mod: IRModule) -> None:
        plain = relax.transform.ToNonDataflow()(mod)
        main = plain["main"]
        made = [binding.var for block in main.body.blocks for binding in block.bindings]
        self.names = [name_of(var) for var in made]
        results = [*made, main.body.body]
        body = relax.SeqExpr(main.body.blocks, relax.Tuple(results))
        kind = tvm.ir.TupleType([result.ty for result in results])
        function = relax.Function(main.params, body, kind, attrs=main.attrs)
        plain.update_func(plain.get_global_var("main"), function)
        executable = relax.build(plain, tvm.target.Target(_TARGET))
        self._main = relax.VirtualMachine(executable, tvm.cpu())["main"]

    def run(self, x: Float32) -> tuple[dict[str, Float32], list[Float32]]:
        """(tensors by variable name, outputs) for one input [1, ...]; tuples are left out."""
        *made, output = self._main(tvm.runtime.tensor(np.ascontiguousarray(x, np.float32)))
        tensors = {
            name: value.numpy()
            for name, value in zip(self.names, made, strict=True)
            if hasattr(value, "numpy")
        }
        return tensors, [leaf.numpy() for leaf in _leaves(output)]


def _leaves(value: Any) -> Iterator[Any]:
    if hasattr(value, "numpy"):
        yield value
        return
    for field in value:
        yield from _leaves(field)


@lru_cache(maxsize=1)
def float_program(mod: IRModule) -> FloatProgram:
    """The program of ``mod``; the last is kept: importing and building both ask for it."""
    return FloatProgram(mod)
