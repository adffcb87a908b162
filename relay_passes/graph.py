"""What the passes share: reading a straight-line module, rewriting it call by call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tvm_mpq._tvm_compat import (
    IRModule,
    PyExprMutator,
    call_attrs,
    close_blocks,
    constant_array,
    ir,
    is_constant,
    make_call,
    relax,
)
from tvm_mpq.errors import MpqError, UnsupportedOperatorError
from tvm_mpq.notes import Note

PREFIX = "mpq."
_NOTES = "mpq.notes"


@dataclass(frozen=True)
class Node:
    """One bound operator call of ``main``.

    ``op`` is the operator's name without ``mpq.``; attrs are Python values.
    """

    var: relax.Var
    op: str
    args: tuple[Any, ...]
    attrs: dict[str, Any]

    @property
    def name(self) -> str:
        """The layer's name, or the name of the variable it is bound to."""
        return str(self.attrs.get("name", name_of(self.var)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return shape_of(self.var)


def name_of(var: relax.Var) -> str:
    """The name a variable is printed with."""
    return str(getattr(var, "name_hint", None) or var.name)


def shape_of(expr: Any) -> tuple[int, ...]:
    """The static shape of an expression."""
    return tuple(int(extent) for extent in expr.ty.shape)


def bindings(mod: IRModule) -> Iterator[tuple[relax.Var, Any]]:
    """(variable, value) of every binding of ``main``, in order."""
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            yield binding.var, binding.value


def nodes(mod: IRModule) -> list[Node]:
    """The calls of ``main`` in order. Rebinding of a variable (an output) is looked through."""
    found: list[Node] = []
    for var, value in bindings(mod):
        if isinstance(value, relax.Call):
            name = str(value.op.name).removeprefix(PREFIX)
            found.append(Node(var, name, tuple(value.args), call_attrs(value)))
    return found


def output_of(mod: IRModule) -> relax.Var:
    """The variable that ``main`` returns, aliases looked through."""
    alias = {var: value for var, value in bindings(mod) if isinstance(value, relax.Var)}
    result = mod["main"].body.body
    while result in alias:
        result = alias[result]
    return result


def with_attrs(call: relax.Call, **extra: Any) -> relax.Call:
    """``call`` with attributes added or replaced."""
    return make_call(str(call.op.name), list(call.args), call_attrs(call) | extra)


def op_name(expr: Any) -> str:
    """The operator's name of a call; an empty string for anything else."""
    if isinstance(expr, relax.Call) and isinstance(expr.op, ir.Op):
        return str(expr.op.name)
    return ""


class CallRewriter(PyExprMutator):
    """Rewrites every call by a method ``rewrite(call) -> expr``, operands first."""

    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self._mod = mod

    def transform(self) -> IRModule:
        """The module with every Relax function rewritten and unused bindings removed."""
        for var, function in self._mod.functions_items():
            if isinstance(function, relax.Function):
                updated = relax.analysis.remove_all_unused(self._visited(function))
                self.builder_.update_func(var, updated)
        return self.builder_.get()

    def _visited(self, function: relax.Function) -> relax.Function:
        try:
            return self.visit_expr(function)
        except MpqError:
            close_blocks(self.builder_)
            raise

    def visit_call_(self, call: relax.Call) -> Any:
        """Relax functor hook."""
        return self.rewrite(self.visit_expr_post_order(call))

    def rewrite(self, call: relax.Call) -> Any:
        """The expression that takes the place of ``call``."""
        return call

    def producer(self, expr: Any) -> Any:
        """What a variable of the new function is bound to; the expression itself otherwise."""
        seen = expr
        while isinstance(seen, relax.Var):
            bound = self.lookup_binding(seen)
            if bound is None:
                return seen
            seen = bound
        return seen


def with_note(mod: IRModule, note: Note) -> IRModule:
    """``mod`` with a further note among its attributes, where later passes keep it."""
    return mod.with_attr(_NOTES, json.dumps([asdict(n) for n in (*notes_of(mod), note)]))


def notes_of(mod: IRModule) -> tuple[Note, ...]:
    """What the passes so far have told of ``mod``."""
    if mod.attrs is None or _NOTES not in mod.attrs:
        return ()
    return tuple(Note(**fields) for fields in json.loads(str(mod.attrs[_NOTES])))


def unsupported(what: str, why: str, fix: str) -> UnsupportedOperatorError:
    """An error of one shape: what was found, what is allowed, what to do."""
    return UnsupportedOperatorError(f"{what}: {why}. {fix}")


class Rebuilder:
    """Writes a new ``main`` from an old one, in order, with its own types for every tensor.

    Subclasses implement ``convert``; ``self.new`` maps old variables to new expressions.
    """

    def __init__(self, mod: IRModule) -> None:
        self._mod = mod
        self.builder = relax.BlockBuilder()
        self.new: dict[Any, Any] = {}

    def input(self, old: relax.Var) -> relax.Var:
        """The new input variable; the same one by default."""
        return relax.Var(name_of(old), old.ty)

    def convert(self, var: relax.Var, value: Any) -> Any:
        """The new expression for the binding ``var = value``, already emitted."""
        raise AssertionError(f"{type(self).__name__}.convert is not implemented")

    def finish(self, result: Any) -> Any:
        """The new result; ``result`` itself by default."""
        return result

    def transform(self) -> IRModule:
        """The module with the new ``main``."""
        function = self._mod["main"]
        parameters = [self.input(parameter) for parameter in function.params]
        self.new.update(zip(function.params, parameters, strict=True))
        try:
            self._write_main(parameters)
        except MpqError:
            close_blocks(self.builder)
            raise
        mod = self.builder.get()
        mod = mod.with_attrs(self._mod.attrs) if self._mod.attrs else mod
        mod.update_func(
            mod.get_global_var("main"),
            relax.analysis.remove_all_unused(mod["main"]).with_attrs(function.attrs or {}),
        )
        return mod

    def _write_main(self, parameters: list[relax.Var]) -> None:
        with self.builder.function("main", parameters):
            with self.builder.dataflow():
                for var, value in bindings(self._mod):
                    self.new[var] = self._converted(var, value)
                result = self.builder.emit_output(self.finish(self.new[output_of(self._mod)]))
            self.builder.emit_func_output(result)

    def _converted(self, var: relax.Var, value: Any) -> Any:
        if isinstance(value, relax.Var):
            return self.new[value]
        return value if is_constant(value) else self.convert(var, value)

    def arguments(self, call: relax.Call) -> list[Any]:
        """The new operands of an old call; constants stay."""
        return [self.new.get(arg, arg) if isinstance(arg, relax.Var) else arg for arg in call.args]


class BlockRebuilder(Rebuilder):
    """Writes every operator again, with the constants and attributes that subclasses change."""

    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self._nodes = {node.var: node for node in nodes(mod)}

    def convert(self, var: relax.Var, _value: Any) -> Any:
        """The same operator on the new operands."""
        node = self._nodes[var]
        operands = [self.new[arg] for arg in node.args if not is_constant(arg)]
        operands += [relax.const(np.ascontiguousarray(a)) for a in self.constants(node)]
        call = make_call(f"{PREFIX}{node.op}", operands, self.attributes(node))
        return self.builder.emit(call, name_hint=node.name)

    def constants(self, node: Node) -> list[Any]:
        """Its constant operands as arrays, which come last."""
        return [constant_array(arg) for arg in node.args if is_constant(arg)]

    def attributes(self, node: Node) -> dict[str, Any]:
        """Its attributes."""
        return node.attrs


def use_counts(mod: IRModule) -> dict[Any, int]:
    """How often each variable of ``main`` is read (the result counts as a read)."""
    counts: dict[Any, int] = {}

    def count(expr: Any) -> None:
        if isinstance(expr, relax.Var):
            counts[expr] = counts.get(expr, 0) + 1
        for child in getattr(expr, "fields", None) or getattr(expr, "args", None) or ():
            count(child)
        if isinstance(expr, relax.TupleGetItem):
            count(expr.tuple_value)

    for _, value in bindings(mod):
        count(value)
    count(mod["main"].body.body)
    return counts
