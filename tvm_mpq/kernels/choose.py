"""The one choice of a kernel for a layer; it also fixes scratch and packed sizes."""

from __future__ import annotations

from dataclasses import replace

from tvm_mpq.errors import DoesNotFitError
from tvm_mpq.kernels import planar
from tvm_mpq.kernels.lanes import BY_WIDTHS, K_UNIT
from tvm_mpq.kernels.pairs import MAX_IMAGE_SPAN
from tvm_mpq.kernels.spec import GEMM_OPS, PIXEL_TILE, KernelSpec
from tvm_mpq.kernels.tuned import TunedTable, shipped_table
from tvm_mpq.target import Target

_MAX_ROWS = 16


def choose(layer: KernelSpec, target: Target, records: TunedTable | None = None) -> KernelSpec:
    """The kernel for ``layer`` on ``target``: the tuned one, or the cheapest by estimate.

    ``records``: what was tuned; the table that ships with the package when None.
    Raises DoesNotFitError when no tile keeps the operand buffer inside the scratch limit.
    """
    found = candidates(layer, target)
    if not found:
        if layer.w_bits == 3:
            layer = replace(layer, variant="pairs", pixels=PIXEL_TILE)
        spec = _smallest(layer, target)
        raise DoesNotFitError(
            f"kernel {spec.name} of a {layer.x.height}x{layer.x.width}x{layer.x.channels} map"
            f" needs {spec.scratch_bytes} bytes of scratch, {spec.scratch_bytes - target.scratch}"
            f" more than the limit of {target.scratch}; give --target"
            f' "{target.name} -scratch={spec.scratch_bytes}"'
        )
    table = shipped_table() if records is None else records
    return table.pick(layer, found) or found[0]


def candidates(layer: KernelSpec, target: Target) -> list[KernelSpec]:
    """Every kernel for ``layer`` that scratch holds, the cheapest by estimate first.

    The last one is the plain kernel, which does every shape; it has no unpacking for 3 bits.
    """
    specs = [_smallest(layer, target)]
    if layer.w_bits == 3:
        specs = [replace(layer, variant="pairs")] if layer.op == "dense" else []
    if layer.op in GEMM_OPS and layer.op != "dense":
        specs = [*_strips(layer, target), *specs]
    if layer.op == "depthwise_conv2d":
        specs = [*_bands(layer), *specs]
    return [spec for spec in specs if spec.scratch_bytes <= target.scratch]


def _smallest(layer: KernelSpec, target: Target) -> KernelSpec:
    """The plain kernel with the least scratch that still keeps to the limit, if one does."""
    tiled = layer.op in GEMM_OPS and layer.op != "dense"
    return largest_pixel_tile(layer, target) if tiled else layer


def largest_pixel_tile(layer: KernelSpec, target: Target) -> KernelSpec:
    """Whole rows if they fit; else whole output words; else the smallest tile of the kernel."""
    width, per_word = layer.output.width, layer.output.codes_per_word
    whole_row = -(-width // PIXEL_TILE) * PIXEL_TILE
    tiles = [whole_row, *range(whole_row - whole_row % per_word, 0, -per_word)]
    tiles += [tile for tile in (8, PIXEL_TILE) if tile < per_word]
    candidates = [replace(layer, pixels=tile) for tile in tiles]
    fitting = [spec for spec in candidates if spec.scratch_bytes <= target.scratch]
    return fitting[0] if fitting else candidates[-1]


def _strips(layer: KernelSpec, target: Target) -> list[KernelSpec]:
    """Strips of the kernels with variants, whole rows or part of one, the cheapest first."""
    y = layer.output
    if y.layout != "hcw" or layer.x.layout == "vec":
        return []
    if layer.x.layout == "hwc8" and layer.kernel[1] * layer.x.channels > MAX_IMAGE_SPAN:
        return []
    unit = max(PIXEL_TILE, y.codes_per_word, layer.x.codes_per_word)
    shapes = [(rows, y.width) for rows in range(1, min(y.height, _MAX_ROWS) + 1)]
    shapes += [(1, width) for width in range(unit, y.width, unit)]
    strips = [
        _with_taps(replace(layer, variant=variant, rows=rows, pixels=width), target)
        for variant in _variants(layer)
        for rows, width in shapes
    ]
    fitting = [strip for strip in strips if strip.scratch_bytes <= target.scratch]
    return sorted(fitting, key=strip_cycles)


def _variants(layer: KernelSpec) -> list[str]:
    """Families that can do the layer: pairs always, lanes for pointwise sub-byte layers."""
    lanes = BY_WIDTHS.get((layer.x.bits, layer.w_bits), ())
    plain = layer.op == "pointwise_conv2d" and layer.strides == (1, 1) and not any(layer.padding)
    return ["pairs", *(one.name for one in lanes if plain)]


def _with_taps(strip: KernelSpec, target: Target) -> KernelSpec:
    """Lanes: the fewest equal parts of the taps whose expanded weights scratch has room for."""
    if strip.lanes is None:
        return strip
    k = strip.padded_reduction
    parts = (-(-k // (count * K_UNIT)) * K_UNIT for count in range(1, k // K_UNIT + 1))
    candidates = [replace(strip, taps=taps) for taps in dict.fromkeys(parts)]
    fitting = (one for one in candidates if one.scratch_bytes <= target.scratch)
    return next(fitting, candidates[-1])


def strip_cycles(spec: KernelSpec) -> float:
    """Cycles of the core and of the weights' expansion for the whole layer (estimated)."""
    y = spec.output
    total = 0.0
    for first in range(0, y.height, spec.rows):
        for column in range(0, y.width, spec.pixels):
            pixels = min(spec.rows, y.height - first) * min(spec.pixels, y.width - column)
            total += _lanes_cycles(spec, pixels) if spec.lanes else _pairs_cycles(spec, pixels)
    return total * -(-y.channels // spec.channel_tile)


def _pairs_cycles(spec: KernelSpec, pixels: int) -> float:
    """A strip of two channels: expansion, groups of four pixels, a group of two, the store."""
    k = spec.padded_reduction
    groups = pixels // 4 * (k * 4.4 + 50) + -(-(pixels % 4) // 2) * (k * 2.4 + 40)
    return 2 * k + 150 + groups + 16 * pixels


def _lanes_cycles(spec: KernelSpec, pixels: int) -> float:
    """A strip of four channels: expansion, groups of two words and one, spills, the store.

    Weights are taken to spread evenly over their codes; trained ones lie closer together.
    """
    assert spec.lanes is not None
    k, words, lanes = spec.padded_reduction, -(-pixels // spec.lanes.pixels), spec.lanes
    usual = int(0.65 * 2**lanes.bits / (spec.x.max_code * 2 ** (lanes.w_bits - 2)))
    chunks = -(-k // spec.taps)
    segments = 1 if usual >= k else -(-k // max(min(usual, spec.taps), K_UNIT))
    spill = segments * (65 if segments == 1 else 90) + (chunks - 1) * 50 * (segments == 1)
    groups = words // 2 * (4.12 * k + spill) + words % 2 * (2.7 * k + 0.9 * spill)
    return (2.5 + lanes.w_bits / 6) * k + groups + 100 * chunks + 22 * pixels + 300


def _bands(layer: KernelSpec) -> list[KernelSpec]:
    """The planar 3x3 kernel, the highest band first; none if it does not apply."""
    y = layer.output
    if not planar.applies(layer):
        return []
    variants = ["lanes", "planar"] if planar.is_in_lanes(layer) else ["planar"]
    bands = range(min(y.height, _MAX_ROWS), 0, -1)
    specs = [replace(layer, variant=variant, rows=rows) for variant in variants for rows in bands]
    # Equal bands: 14 rows are one of 14, 28 are two of 14.
    return sorted(specs, key=lambda spec: (-(-y.height // spec.rows), spec.rows))
