"""Plain-ABI C functions from scheduled S-TIR kernels: no TVM runtime, headers or packed calls.

TVM's C code generator emits the packed TVMFFI ABI. Buffer parameters become raw pointers here, and
the text of each body is kept while its signature becomes the one calling convention:

    void NAME(const void *x, int32_t x_ring, [const void *x2, int32_t x2_ring,] void *y,
              int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn,
              void *scratch)
"""

from __future__ import annotations

import math
import re
from typing import Any

from tvm_mpq._tvm_compat import (
    IRModule,
    PointerType,
    PrimType,
    is_buffer_var,
    s_tir,
    tirx,
    tvm,
)
from tvm_mpq.kernels.spec import KernelSpec

KERNEL_HEADER = "mpq_micro_kernels.h"
# What stays in registers or on the stack; larger buffers must be in the kernel's scratch.
_MAX_LOCAL_BYTES = 8
_BYTES = {"uint8_t": 1, "int16_t": 2, "int32_t": 4, "uint32_t": 4}


def kernel_includes(header: str = KERNEL_HEADER) -> str:
    """What the C of kernels includes; ``header`` declares the micro-kernels."""
    return f'#include <stdbool.h>\n#include <stdint.h>\n\n#include "{header}"\n'


def kernel_signature(spec: KernelSpec, symbol: str | None = None) -> str:
    """The C prototype of a kernel, called ``symbol``, without the semicolon."""
    inputs = "".join(
        f"const void *x{suffix}, int32_t x{suffix}_ring, " for suffix in _suffixes(spec)
    )
    return (
        f"void {symbol or spec.symbol}({inputs}void *y, int32_t y_ring, int32_t y0, int32_t rows,"
        " const void *w, const void *icn, void *scratch)"
    )


def kernel_source(spec: KernelSpec, function: tirx.PrimFunc, symbol: str | None = None) -> str:
    """The C definition of one scheduled kernel, called ``symbol``."""
    text = _generate(IRModule({spec.symbol: function}))
    head, body = text[text.rindex(f"void {spec.symbol}(") :].split(") {\n", 1)
    parameters = head.split("(", 1)[1].split(", ")
    lines = _bind_parameters(spec, parameters, bool(function.attrs["tirx.noalias"]))
    body, scratch_lines = _place_buffers(spec, body[: body.rindex("}")])
    lines = [*lines, *scratch_lines, _without_unused(body).rstrip()]
    signature = kernel_signature(spec, symbol)
    used = set(re.findall(r"\w+", "\n".join(lines)))
    arguments = re.findall(r"(\w+)[,)]", signature)
    unused = [f"  (void){name};" for name in arguments if name not in used]
    return "\n".join([f"{signature} {{", *unused, *lines, "}", ""])


def _without_unused(body: str) -> str:
    """TVM shares the extents of buffers between calls, and C code never reads them."""
    for name in re.findall(r"^ +int32_t (cse_v\d+) = .*;$", body, flags=re.M)[::-1]:
        if len(re.findall(rf"\b{name}\b", body)) == 1:
            body = re.sub(rf"^ +int32_t {name} = .*;\n", "", body, flags=re.M)
    return body


def _suffixes(spec: KernelSpec) -> list[str]:
    return [""] if len(spec.inputs) == 1 else [str(i) for i in range(len(spec.inputs))]


def _bind_parameters(spec: KernelSpec, parameters: list[str], noalias: bool) -> list[str]:
    """Locals with the names and types that the body uses, from the convention's arguments."""
    pointers = [f"x{suffix}" for suffix in _suffixes(spec)]
    pointers += ["w"] if spec.w_bits else []
    pointers += ["icn"] if spec.icn_words else []
    rings = [f"x{suffix}_ring" for suffix in _suffixes(spec)]
    sources = [*pointers, *rings, "y_ring", "y0", "rows", "y"]
    if len(sources) != len(parameters):
        raise AssertionError(f"{spec.symbol}: {len(parameters)} parameters, {len(sources)} sources")
    qualifier = "restrict " if noalias else ""
    lines = []
    for parameter, source in zip(parameters, sources, strict=True):
        dtype, _, name = parameter.rpartition(" ")
        if dtype.endswith("*"):
            const = "" if source == "y" else "const "
            lines.append(f"  {const}{dtype[:-1]} *{qualifier}{name} = {source};")
        elif name != source:
            lines.append(f"  const int32_t {name} = {source};")
    return lines


def _place_buffers(spec: KernelSpec, body: str) -> tuple[str, list[str]]:
    """Move the kernel's named buffers from the stack to scratch memory."""
    lines, offset = [], 0
    for buffer in spec.scratch:
        pattern = rf"^ +(\w+) {buffer.name}_ptr\[(\d+)\];\n"
        declaration = re.search(pattern, body, flags=re.M)
        if declaration is None or int(declaration[2]) != math.prod(buffer.shape):
            raise AssertionError(f"{spec.symbol}: the body has no buffer {buffer}")
        dtype = declaration[1]
        lines.append(
            f"  {dtype} *restrict {buffer.name}_ptr ="
            f" ({dtype} *)(void *)((uint8_t *)scratch + {offset});"
        )
        body = body.replace(declaration[0], "", 1)
        offset += buffer.nbytes
    for dtype, name, count in re.findall(r"^\s*(\w+) (\w+)\[(\d+)\];$", body, flags=re.M):
        if int(count) * _BYTES[dtype] > _MAX_LOCAL_BYTES:
            raise AssertionError(f"{spec.symbol}: local array {name} is not planned as scratch")
    return body, lines


def _generate(mod: IRModule) -> str:
    target = tvm.target.Target("c")
    lowered = _lower(mod, target)
    return str(tvm.get_global_func("target.build.c")(lowered, target).inspect_source())


def _lower(mod: IRModule, target: Any) -> IRModule:
    """TVM's S-TIR pipeline without packed calls, workspaces and storage merging."""
    passes = [
        tirx.transform.BindTarget(target.with_host(target)),
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.NarrowDataType(32),
        s_tir.transform.LoopPartition(),
        tirx.transform.VectorizeLoop(False),
        s_tir.transform.HoistIfThenElse(),
        tirx.transform.UnrollLoop(),
        s_tir.transform.RenormalizeSplitPattern(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tirx.transform.CommonSubexprElim(),
        UnpackedAPI(),
        tirx.transform.LowerIntrin(),
    ]
    return tvm.ir.transform.Sequential(passes)(mod)


@tvm.transform.module_pass(opt_level=0, name="UnpackedAPI")
class UnpackedAPI:
    """Buffer parameters --> raw pointers plus DeclBuffer (microTVM's MakeUnpackedAPI)."""

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Rewrite every PrimFunc of ``mod``."""
        functions = {}
        for var, function in mod.functions.items():
            if isinstance(function, tirx.PrimFunc):
                function = _unpack(function).with_attr("global_symbol", var.name_hint)
            functions[var] = function
        return IRModule(functions, attrs=mod.attrs)


def _unpack(function: tirx.PrimFunc) -> tirx.PrimFunc:
    parameters, declarations = [], []
    for parameter in function.params:
        if is_buffer_var(parameter):
            pointer_type = PointerType(PrimType(str(parameter.dtype)), "global")
            pointer = tirx.Var(parameter.name + "_ptr", pointer_type)
            parameters.append(pointer)
            declarations.append(tirx.DeclBuffer(parameter, data=pointer))
        else:
            parameters.append(parameter)
    body = tirx.SeqStmt([*declarations, function.body])
    return tirx.PrimFunc(parameters, body, function.ret_type, function.attrs)
