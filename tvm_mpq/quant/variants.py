"""The requantization variants of arXiv 1905.13082, for comparison at the same widths.

* PL+FB: batch norm folded into the weights, one range and one multiplier a layer (Jacob et al.).
* PL+ICN: one weight range a layer, multipliers and offsets per channel.
* PC+ICN: weight ranges per channel as well; what ``build`` uses.
* PC+Thresholds: the same codes; comparisons in place of the multiplication. Equal to PC+ICN by
  construction here (``thresholds`` inverts the integer epilogue), so only its bytes and its
  instructions differ.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.bit_search import Variant
from tvm_mpq.quant.calibration import rounding_shift, weight_codes
from tvm_mpq.quant.icn import IcnParams, Int32, Int64, RealLayer, requantize
from tvm_mpq.quant.network import Block, FloatNetwork
from tvm_mpq.quant.result import QuantizationResult, nearest_result

NEVER = 2**31 - 1  # a threshold that no accumulator reaches


def variant_result(
    network: FloatNetwork, plan: BitPlan, variant: Variant, rounding: str = "nearest"
) -> QuantizationResult:
    """Post-training quantization to nearest in one variant, for the same plan."""
    base = nearest_result(network, plan, rounding)
    if variant in (Variant.PC_ICN, Variant.PC_THRESHOLDS):
        return base
    folded = variant is Variant.PL_FB
    layers = {
        block.name: _per_layer(block, plan.weights[block.name], folded)
        for block in network.weighted
    }
    method = {"reconstruction": "none", "variant": variant.value}
    return QuantizationResult(plan, layers, base.ranges, base.input_spec, rounding, method)


def _per_layer(block: Block, bits: int, folded: bool) -> RealLayer:
    """One weight range for the layer; ``folded``: of the weights times batch norm's scale."""
    assert block.weights is not None and block.g is not None
    assert block.h is not None and block.x_means is not None
    weights, g = block.weights.astype(np.float64), block.g
    if folded:
        weights, g = weights * g[:, None, None, None], np.ones_like(g)
    real = weights.astype(np.float32)
    codes, zero, scale = weight_codes(real.reshape(1, -1), bits, "mse")
    codes, channels = codes.reshape(real.shape), len(real)
    zw, sw = np.repeat(zero, channels), np.repeat(scale, channels)
    h = block.h - g * rounding_shift(real, codes, zw, sw, block.x_means)
    return RealLayer(block.name, codes, zw, sw, g, h)


def thresholds(icn: IcnParams, zy: int, y_bits: int) -> tuple[Int32, npt.NDArray[np.bool_]]:
    """(thresholds [C, 2**y_bits - 1], falling [C]) that reproduce the epilogue bit for bit.

    The code of Phi is the number of thresholds that it reaches: Phi >= t of a rising channel, or
    -Phi >= t of a falling one (M0 < 0). Found by bisection on the epilogue itself.

    Raises InvalidValueError for 8 bits: 255 comparisons a value are not offered.
    """
    if y_bits not in (4, 2):
        raise InvalidValueError(f"thresholds: outputs of {y_bits} bits; allowed are 4 and 2")
    falling = icn.m0 < 0
    sign = np.where(falling, -1, 1)[:, None]
    steps = np.arange(1, 1 << y_bits)[None, :]
    low = np.full((len(icn.m0), steps.size), -(2**31) + 1, np.int64)  # reaches step: unknown
    high = np.full_like(low, NEVER)
    reached = requantize(sign * high, icn, zy, y_bits) >= steps
    while (high - low > 1).any():
        middle = (low + high) // 2
        enough = requantize(sign * middle, icn, zy, y_bits) >= steps
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    always = requantize(sign * low, icn, zy, y_bits) >= steps
    found = np.where(always, low, np.where(reached, high, NEVER))
    return found.astype(np.int32), falling


def apply_thresholds(
    phi: Int64, found: Int32, falling: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Codes of accumulators [C, ...]."""
    column = (slice(None),) + (None,) * (phi.ndim - 1)
    signed = np.where(falling[column], -phi, phi)
    codes = np.zeros(phi.shape, np.uint8)
    for step in range(found.shape[1]):
        codes += signed >= found[:, step][column]
    return codes
