"""Integer Channel-Normalization: exact integers from a real-valued layer (MLSys 2020, eq. 3-5).

    Y = clamp(Zy + floor(M0[c] * 2**N0[c] * (Phi + Bq[c])), 0, 2**Qy - 1)

Batch norm is absorbed per channel instead of being folded into the weights:

    M[c]  = Sx * Sw[c] / Sy * g[c]        g = gamma / sigma
    Bq[c] = round(h[c] / (g[c] * Sx * Sw[c]))     h = beta + (bias - mu) * gamma / sigma
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import AccumulatorOverflowError, InvalidValueError
from tvm_mpq.specs import MULTIPLIER_WIDTHS, check_width

INT32_MAX = 2**31 - 1
ROUNDINGS = ("nearest", "floor")
# Beyond these the clamped result no longer changes, because |M0 * (Phi + Bq)| is 0 or in
# [2**30, 2**62): an exponent of 9 saturates any code, a shift of 62 leaves only the sign.
MAX_CODE_EXPONENT = 9
MAX_SHIFT = 62
_SMALLEST_MULTIPLIER = 2.0**-500
# Logits that are all 0 have any scale.
_SMALLEST_LOGIT = 2.0**-100

Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class IcnParams:
    """Integers of one layer, one entry per output channel.

    Attributes
    ----------
    m0: int32 Q1.31, |m0| in [2**30, 2**31); of 16 bits, its low half is 0. n0: int8 exponent.
    bq: int32. zw: uint8 zero points of the weights.
    """

    m0: Int32
    n0: npt.NDArray[np.int8]
    bq: Int32
    zw: npt.NDArray[np.uint8]

    @property
    def shift(self) -> npt.NDArray[np.uint8]:
        """Right shift of the 64-bit product M0 * (Phi + Bq), 0 to 62."""
        return np.clip(31 - self.n0.astype(np.int64), 0, MAX_SHIFT).astype(np.uint8)


def decompose(multiplier: Float64, bits: int = 32) -> tuple[Int32, npt.NDArray[np.int8]]:
    """M = M0 * 2**N0 with 0.5 <= |M0| < 1; M0 as Q1.31, both [C]. Zero is not allowed.

    ``bits``: M0 is rounded to as many, sign included: of 16 its low half is 0, and M is off by at
    most one part in 2**15.
    """
    if not np.all(np.isfinite(multiplier)) or np.any(multiplier == 0):
        raise InvalidValueError(
            "ICN multiplier: found 0, NaN or infinity; expected finite non-zero"
        )
    mantissa, exponent = np.frexp(multiplier)
    unit = 1 << (32 - check_width("multiplier", bits, MULTIPLIER_WIDTHS))
    m0 = np.rint(mantissa * 2.0**31 / unit).astype(np.int64) * unit
    # Rounding may reach 2**31, which int32 cannot hold: renormalize.
    overflow = np.abs(m0) == 2**31
    m0 = np.where(overflow, m0 // 2, m0)
    exponent = np.clip(exponent + overflow, -128, 127)
    return m0.astype(np.int32), exponent.astype(np.int8)


def join_params(op: str, ratios: Float64) -> tuple[list[int], list[int]]:
    """(multipliers, shifts) that bring inputs to the output's scale; an add has one shift.

    ``ratios``: scale of each input over that of the output. Beyond MAX_SHIFT nothing is left of a
    product of 31 + 8 bits.
    """
    if op == "add":
        shift = min(31 - int(np.frexp(ratios.max())[1]), MAX_SHIFT)
        if np.rint(ratios.max() * 2.0**shift) >= 2**31:
            shift -= 1
        return [int(v) for v in np.rint(ratios * 2.0**shift)], [shift] * len(ratios)
    m0, n0 = decompose(ratios)
    return [int(v) for v in m0], [min(int(31 - n), MAX_SHIFT) for n in n0]


def phi_bounds(
    codes: npt.NDArray[np.uint8], zw: npt.NDArray[np.uint8], zx: int, max_x: int
) -> Int64:
    """Bound of |Phi| and of every partial sum of it, per output channel [O], from the weights."""
    centred = codes.reshape(codes.shape[0], -1).astype(np.int64) - zw.astype(np.int64)[:, None]
    return np.abs(centred).sum(axis=1) * max(zx, max_x - zx)


def requantize(phi: Int64, icn: IcnParams, zy: int, y_bits: int) -> npt.NDArray[np.uint8]:
    """Codes of accumulators [O, ...]; the one definition of the epilogue (numpy, int64)."""
    column = (slice(None),) + (None,) * (phi.ndim - 1)
    product = icn.m0.astype(np.int64)[column] * (phi + icn.bq.astype(np.int64)[column])
    value = zy + (product >> icn.shift.astype(np.int64)[column])
    return np.clip(value, 0, (1 << y_bits) - 1).astype(np.uint8)


def requantize_logits(phi: Int64, icn: IcnParams) -> Int32:
    """int32 logits of accumulators [O]: floor(M0 * 2**N0 * (Phi + Bq)), no clamp."""
    product = icn.m0.astype(np.int64) * (phi + icn.bq.astype(np.int64))
    return (product >> icn.shift.astype(np.int64)).astype(np.int32)


@dataclass(frozen=True)
class RealLayer:
    """What ICN needs of a convolution or dense layer: y = g * (w * x) + h per output channel.

    Attributes
    ----------
    name: for messages. codes: uint8 weights [O, ...]; zw, sw: zero points and scales [O].
    g, h: batch-norm scale and offset [O] in float64. x_offset: real value of input code Zx.
    """

    name: str
    codes: npt.NDArray[np.uint8]
    zw: npt.NDArray[np.uint8]
    sw: Float64
    g: Float64
    h: Float64
    x_offset: float = 0.0

    def absorbed(self, offset: Float64, depthwise: bool) -> Float64:
        """What offsets of the input channels [I] add to the outputs [O]."""
        sums = self.codes.reshape(*self.codes.shape[:2], -1).sum(2, dtype=np.int64)
        taps = int(np.prod(self.codes.shape[2:]))
        real = (sums - taps * self.zw.astype(np.int64)[:, None]) * self.sw[:, None]
        found: Float64 = self.g * (real[:, 0] * offset if depthwise else real @ offset)
        return found


def icn_params(
    layer: RealLayer,
    sx: float,
    zx: int,
    x_bits: int,
    sy: float,
    zy: int,
    y_bits: int,
    rounding: str,
    multiplier_bits: int = 32,
) -> tuple[IcnParams, npt.NDArray[np.uint8]]:
    """ICN integers and the weight codes they belong to.

    A channel whose output hardly depends on its input (g ~ 0: Bq would not fit int32, and the
    output spans less than one code) becomes a constant: its weights turn into Zw and M into 1.

    Parameters: scales sx, sy in real units per code; zero points in codes; multiplier_bits: of M0,
    32 or 16.
    Raises AccumulatorOverflowError when |Phi + Bq| cannot be proven below 2**31.
    """
    if rounding not in ROUNDINGS:
        raise InvalidValueError(f"rounding {rounding!r}: allowed are {' and '.join(ROUNDINGS)}")
    half = 0.5 if rounding == "nearest" else 0.0
    scale = sx * layer.sw
    vanishing = _vanishing(layer, scale, sy)
    multiplier = np.where(vanishing, 1.0, scale / sy * layer.g)
    bias = _real_bias(layer, scale, vanishing) + half / multiplier
    bound = phi_bounds(layer.codes, layer.zw, zx, (1 << x_bits) - 1)
    dead = vanishing | ((np.abs(bias) >= 2.0**30) & (np.abs(multiplier) * bound < 1.0))
    level = np.where(vanishing, layer.h / sy + half, multiplier * bias)
    constant = np.clip(np.floor(level), -zy, (1 << y_bits) - 1 - zy)
    bq = np.where(dead, constant, np.rint(bias))
    codes = layer.codes.copy()
    codes[dead] = layer.zw[dead].reshape(-1, *(1,) * (codes.ndim - 1))
    _prove_accumulator(layer.name, np.where(dead, 0, bound), bq)
    m0, n0 = decompose(np.where(dead, 1.0, multiplier), multiplier_bits)
    n0 = np.minimum(n0, MAX_CODE_EXPONENT).astype(np.int8)
    return IcnParams(m0, n0, bq.astype(np.int32), layer.zw.astype(np.uint8)), codes


def logits_icn_params(
    layer: RealLayer, sx: float, zx: int, x_bits: int, multiplier_bits: int = 32
) -> tuple[IcnParams, npt.NDArray[np.uint8], float]:
    """ICN integers, codes and the scale of int32 logits.

    The scale is the smallest power of two for which the proven bound of every |y[c]| stays below
    2**31.
    """
    scale = sx * layer.sw
    bound = phi_bounds(layer.codes, layer.zw, zx, (1 << x_bits) - 1)
    dead = _vanishing(layer, scale, 1.0)
    bias = _real_bias(layer, scale, dead)
    largest = np.abs(np.where(dead, 1.0, layer.g) * scale) * (bound + np.abs(np.rint(bias)) + 1)
    largest = np.where(dead, np.abs(layer.h), largest)
    # + 1 in the exponent's argument keeps floor's extra step and M0's rounding inside the bound.
    worst = max(float(largest.max()), _SMALLEST_LOGIT)
    slack = 2.0**-20 if multiplier_bits == 32 else 2.0**-14
    exponent = int(np.ceil(np.log2(worst * (1 + slack) / INT32_MAX)))
    sy = 2.0**exponent
    multiplier = np.where(dead, 1.0, scale * np.where(dead, 1.0, layer.g) / sy)
    bq = np.rint(np.where(dead, layer.h / sy, bias))
    codes = layer.codes.copy()
    codes[dead] = layer.zw[dead].reshape(-1, *(1,) * (codes.ndim - 1))
    _prove_accumulator(layer.name, np.where(dead, 0, bound), bq)
    m0, n0 = decompose(multiplier, multiplier_bits)
    return IcnParams(m0, n0, bq.astype(np.int32), layer.zw.astype(np.uint8)), codes, sy


def pool_params(pixels: int, ratio: float) -> tuple[int, int, int]:
    """(M0, shift, Bq) of the mean of ``pixels`` codes, rounded to nearest.

    ``ratio``: step of the codes over the step of their mean.
    """
    m0, n0 = decompose(np.array([ratio / pixels]))
    # floor((sum + pixels / 2) / pixels) is the mean rounded to nearest.
    return int(m0[0]), int(31 - n0[0]), int(0.5 * pixels / ratio)


def _real_bias(layer: RealLayer, scale: Float64, dead: npt.NDArray[np.bool_]) -> Float64:
    g = np.where(dead, 1.0, layer.g)
    centred = layer.codes.reshape(layer.codes.shape[0], -1).astype(np.int64)
    weight_sum = (centred - layer.zw.astype(np.int64)[:, None]).sum(axis=1)
    # real x = Sx * (X - Zx) + offset: the offset times the sum of the weights is a constant.
    return layer.h / (g * scale) + layer.x_offset * weight_sum * layer.sw / scale


def _vanishing(layer: RealLayer, scale: Float64, sy: float) -> npt.NDArray[np.bool_]:
    """Channels whose multiplier is 0, or so small that its inverse is no number to work with."""
    return np.abs(layer.g) * scale * min(1.0, 1.0 / sy) < _SMALLEST_MULTIPLIER


def _prove_accumulator(name: str, bound: npt.NDArray[np.generic], bq: Float64) -> None:
    total = bound.astype(np.float64) + np.abs(bq)
    worst = int(np.argmax(total))
    if total[worst] >= 2.0**31:
        raise AccumulatorOverflowError(
            f"layer {name}, output channel {worst}: |Phi + Bq| can reach {total[worst]:.4g},"
            " allowed is below 2**31. The batch-norm scale of this channel is too small or its"
            " offset too large; set its gamma to 0 to make the channel constant, or retrain it"
        )
