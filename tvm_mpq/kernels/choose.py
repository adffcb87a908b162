"""The one choice of a kernel for a layer; it also fixes scratch and packed sizes."""

from __future__ import annotations

from dataclasses import replace

from tvm_mpq.errors import DoesNotFitError
from tvm_mpq.kernels.spec import GEMM_OPS, PIXEL_TILE, KernelSpec
from tvm_mpq.target import Target


def choose(layer: KernelSpec, target: Target) -> KernelSpec:
    """The kernel for ``layer`` on ``target``: its spec with the tile sizes filled in.

    Raises DoesNotFitError when no tile keeps the operand buffer inside the scratch limit.
    """
    if layer.op in GEMM_OPS and layer.op != "dense":
        layer = _largest_pixel_tile(layer, target)
    if layer.scratch_bytes > target.scratch:
        raise DoesNotFitError(
            f"kernel {layer.name} of a {layer.x.height}x{layer.x.width}x{layer.x.channels} map"
            f" needs {layer.scratch_bytes} bytes of scratch, {layer.scratch_bytes - target.scratch}"
            f" more than the limit of {target.scratch}; raise it with Target(scratch=...)"
        )
    return layer


def _largest_pixel_tile(layer: KernelSpec, target: Target) -> KernelSpec:
    """Whole rows if they fit; else whole output words; else the smallest tile of the kernel."""
    width, per_word = layer.output.width, layer.output.codes_per_word
    whole_row = -(-width // PIXEL_TILE) * PIXEL_TILE
    tiles = [whole_row, *range(whole_row - whole_row % per_word, 0, -per_word)]
    tiles += [tile for tile in (8, PIXEL_TILE) if tile < per_word]
    candidates = [replace(layer, pixels=tile) for tile in tiles]
    fitting = [spec for spec in candidates if spec.scratch_bytes <= target.scratch]
    return fitting[0] if fitting else candidates[-1]
