"""The numpy reference: the one integer semantics every other implementation must match.

Codes are uint8 [C, H, W]; weights uint8 O I kh kw; accumulators are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tvm_mpq.quant.icn import IcnParams, Int64, requantize, requantize_logits

Codes = npt.NDArray[np.uint8]
Padding = tuple[int, int, int, int]


def conv2d_phi(
    x: Codes, w: Codes, zx: int, zw: Codes, strides: tuple[int, int], padding: Padding
) -> Int64:
    """Phi = sum of (X - Zx)(W - Zw[c]) -> int64 [O, H_out, W_out]; padded taps add 0."""
    windows = _windows(x.astype(np.float64) - zx, w.shape[2:], strides, padding)
    channels, height, width = windows.shape[0], windows.shape[1], windows.shape[2]
    # float64 products and sums of integers are exact below 2**53, and BLAS is fast.
    columns = windows.transpose(0, 3, 4, 1, 2).reshape(channels * w.shape[2] * w.shape[3], -1)
    centred = w.astype(np.float64) - zw.astype(np.float64)[:, None, None, None]
    product = centred.reshape(w.shape[0], -1) @ columns
    return product.reshape(w.shape[0], height, width).astype(np.int64)


def depthwise_conv2d_phi(
    x: Codes, w: Codes, zx: int, zw: Codes, strides: tuple[int, int], padding: Padding
) -> Int64:
    """The same with one filter O 1 kh kw per channel."""
    windows = _windows(x.astype(np.float64) - zx, w.shape[2:], strides, padding)
    centred = w[:, 0].astype(np.float64) - zw.astype(np.float64)[:, None, None]
    return np.einsum("chwij,cij->chw", windows, centred).astype(np.int64)


def _windows(
    centred: npt.NDArray[np.float64],
    kernel: tuple[int, ...],
    strides: tuple[int, int],
    padding: Padding,
) -> npt.NDArray[np.float64]:
    """Sliding windows [C, H_out, W_out, kh, kw] of the zero-padded map."""
    top, left, bottom, right = padding
    padded = np.pad(centred, ((0, 0), (top, bottom), (left, right)))
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1]]


def global_avg_pool(x: Codes, zx: int, bq: int, m0: int, shift: int, zy: int, y_bits: int) -> Codes:
    """Mean over the map -> uint8 [C, 1, 1]: ICN with all weights 1."""
    phi = (x.astype(np.int64) - zx).sum(axis=(1, 2), keepdims=True)
    return np.clip(zy + ((m0 * (phi + bq)) >> shift), 0, (1 << y_bits) - 1).astype(np.uint8)


def max_pool2d(
    x: Codes, kernel: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> Codes:
    """Maximum of codes; padded taps hold the smallest code, 0."""
    return (
        _windows(x.astype(np.float64), kernel, strides, padding).max(axis=(3, 4)).astype(np.uint8)
    )


@dataclass(frozen=True)
class AddParams:
    """Y = Zy + ((M[0] * (X0 - Z0) + M[1] * (X1 - Z1) + half) >> shift), one common shift.

    ``nearest`` adds half a code; m is int32 Q(shift).
    """

    m: tuple[int, int]
    shift: int
    nearest: int

    @property
    def half(self) -> int:
        """What is added before the shift."""
        return self.nearest << max(self.shift - 1, 0)


def add(a: Codes, b: Codes, params: AddParams, zeros: tuple[int, int], zy: int, bits: int) -> Codes:
    """Requantized sum of two maps."""
    total = params.m[0] * (a.astype(np.int64) - zeros[0])
    total = total + params.m[1] * (b.astype(np.int64) - zeros[1]) + params.half
    return np.clip(zy + (total >> params.shift), 0, (1 << bits) - 1).astype(np.uint8)


@dataclass(frozen=True)
class RescaleParams:
    """Y = Zy + ((m0 * (X - Zx) + half) >> shift)."""

    m0: int
    shift: int
    nearest: int

    @property
    def half(self) -> int:
        """What is added before the shift."""
        return self.nearest << max(self.shift - 1, 0)


def rescale(x: Codes, params: RescaleParams, zx: int, zy: int, bits: int) -> Codes:
    """A map on another scale (an input of concat)."""
    value = (params.m0 * (x.astype(np.int64) - zx) + params.half) >> params.shift
    return np.clip(zy + value, 0, (1 << bits) - 1).astype(np.uint8)


def layer(phi: Int64, icn: IcnParams, zy: int, y_bits: int) -> Codes | npt.NDArray[np.int32]:
    """The epilogue: codes, or int32 logits [C] when ``y_bits`` is 32."""
    if y_bits == 32:
        return requantize_logits(phi.reshape(-1), icn)
    return requantize(phi, icn, zy, y_bits)
