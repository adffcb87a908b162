"""What a layer costs when it is called for a few rows at a time.

Rows of one call share their weights' expansion, the unpacked lines of their windows and the
overhead of the call. The figures are estimates; they only order one layer before another.
"""

from __future__ import annotations

from dataclasses import replace

from tvm_mpq.kernels import planar
from tvm_mpq.kernels.choose import strip_cycles
from tvm_mpq.kernels.spec import GEMM_OPS, KernelSpec

# Rough cycles of the planar depthwise kernels: they only rank layers.
_CHANNEL, _LINE, _LINE_PIXEL, _PIXEL = 500, 40, 2, 10


def band_cycles(spec: KernelSpec) -> dict[int, float]:
    """Rows at a time -> cycles of the whole layer: single rows, larger bands, all rows.

    Empty for kernels that share nothing among rows.
    """
    if spec.op == "depthwise_conv2d" and spec.variant in planar.VARIANTS:
        cycles = _depthwise_cycles
    elif spec.op in GEMM_OPS and spec.op != "dense" and spec.variant:
        cycles = _strip_cycles
    else:
        return {}
    height = spec.output.height
    most = min(spec.rows, height)  # what the kernel itself does at a time
    sizes = sorted({rows for rows in (1, 2, 4, 8) if rows < most} | {most, height})
    return {rows: cycles(spec, min(rows, most)) for rows in sizes}


def _strip_cycles(spec: KernelSpec, rows: int) -> float:
    return strip_cycles(replace(spec, rows=rows))


def _depthwise_cycles(spec: KernelSpec, rows: int) -> float:
    y = spec.output
    bands = -(-y.height // rows)
    lines = bands * ((rows - 1) * spec.strides[0] + spec.kernel[0])
    a_line = _LINE + _LINE_PIXEL * spec.x.width
    return y.channels * (bands * _CHANNEL + lines * a_line + y.height * y.width * _PIXEL)
