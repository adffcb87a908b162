"""Expressions that several kernels' PrimFuncs share. All take and return TIR expressions."""

from __future__ import annotations

from typing import Any

from tvm_mpq._tvm_compat import T
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.specs import TensorSpec

Expr = Any


def field(word: Expr, position: Expr, bits: int) -> Expr:
    """The uint32 code at ``position`` of a packed word."""
    mask = T.uint32((1 << bits) - 1)
    return T.bitwise_and(T.shift_right(word, T.Cast("uint32", position * bits)), mask)


def load_code(buffer: Expr, tensor: TensorSpec, slot: Expr, channel: Expr, column: Expr) -> Expr:
    """The code (int32) of pixel ``column`` of ``channel`` in ring slot ``slot``."""
    if tensor.layout == "hwc8":
        return T.Cast("int32", buffer[slot, column * tensor.channels + channel])
    if tensor.layout == "vec":
        channel, column = 0, channel
    per_word = tensor.codes_per_word
    word = buffer[slot, channel, column // per_word]
    return T.Cast("int32", field(word, column % per_word, tensor.bits))


def load_padded(
    buffer: Expr, spec: KernelSpec, ring: Expr, row: Expr, channel: Expr, column: Expr
) -> Expr:
    """The code of absolute (row, column), or Zx outside the map."""
    x = spec.x
    code = load_code(buffer, x, T.truncmod(row, ring), channel, column)
    if not any(spec.padding):
        return code
    inside = T.And(T.And(row >= 0, row < x.height), T.And(column >= 0, column < x.width))
    return T.if_then_else(inside, code, T.int32(x.zero_point))


def icn_bq(icn: Expr, channel: Expr) -> Expr:
    """Bq of ``channel``, with -Zx * sum(W - Zw) folded in."""
    return icn[channel]


def icn_zw(icn: Expr, spec: KernelSpec, channel: Expr) -> Expr:
    """Zero point of the weights of ``channel``."""
    word, place = _shift_and_zw(icn, spec, channel)
    return T.bitwise_and(T.shift_right(word, place + 8), 255)


def requantized(icn: Expr, spec: KernelSpec, channel: Expr, phi: Expr) -> Expr:
    """floor(M0 * 2**N0 * phi) as int32: one SMULL and one exact 64-bit shift."""
    word, place = _shift_and_zw(icn, spec, channel)
    shift = T.bitwise_and(T.shift_right(word, place), 255)
    m0 = icn[spec.output.channels + channel]
    if spec.multiplier_bits == 16:
        m0 = T.bitwise_and(m0, T.int32(-65536))
    return T.shift_right(T.Cast("int64", m0) * T.Cast("int64", phi), T.Cast("int64", shift))


def _shift_and_zw(icn: Expr, spec: KernelSpec, channel: Expr) -> tuple[Expr, Expr]:
    """The word that holds the shift and, 8 bits above it, Zw; and the shift's lowest bit."""
    if spec.multiplier_bits == 16:
        return icn[spec.output.channels + channel], 0
    return icn[2 * spec.output.channels + channel // 2], channel % 2 * 16


def saturated(value: Expr, tensor: TensorSpec) -> Expr:
    """clamp(Zy + value, 0, 2**Q - 1) as uint32."""
    shifted = value + T.int64(tensor.zero_point)
    clamped = T.max(T.min(shifted, T.int64(tensor.max_code)), T.int64(0))
    return T.Cast("uint32", clamped)


def placed(code: Expr, position: Expr, bits: int) -> Expr:
    """``code`` shifted to ``position`` of a packed word."""
    return T.shift_left(code, T.Cast("uint32", position * bits))
