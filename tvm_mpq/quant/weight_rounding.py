"""Weight codes that keep a layer's output, not its weights: GPTQ-class rounding.

Sources: GPTQ (arXiv 2210.17323) for the sequential rounding; the target of layers whose inputs are
already quantized as in GPTAQ (arXiv 2504.02692); iterated local search (arXiv math/0102188) for
what descent leaves. Covariances are centred, because the mean of every output is set by the offset
afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from tvm_mpq.quant.network import Block
from tvm_mpq.quant.quantizers import grid_of_range

DAMPING = 0.01
# Far more for the weights wanted on quantized inputs: what a thousand images say of them beyond
# this does not hold for others.
TARGET_DAMPING = 0.3
# Of the range that suits nearest rounding: (low, high) together, then each by itself.
_BOTH, _ONE = (0.8, 0.87, 0.94, 1.07, 1.15), (0.7, 0.85, 1.15, 1.3)
_RANGE_TRIALS = (
    tuple((factor, factor) for factor in _BOTH),
    tuple((factor, 1.0) for factor in _ONE),
    tuple((1.0, factor) for factor in _ONE),
)
# Iterated local search: attempts, and the share of the codes that each moves.
_KICKS, _KICKED = 32, 0.005
_FRACTIONS = np.linspace(0.4, 1.0, 13)
_BLOCK = 64
_SWEEPS = 2
_TRUST = 4.0


class Covariance:
    """Covariance of the inputs under each tap: [G, K, K]; G groups (channels of a depthwise)."""

    def __init__(self, block: Block) -> None:
        assert block.weights is not None
        self.block = block
        outputs, inputs, *kernel = block.weights.shape
        self.groups = outputs if block.op == "depthwise_conv2d" else 1
        taps = inputs * int(np.prod(kernel))
        self.count = 0
        self._square = torch.zeros(self.groups, taps, taps, dtype=torch.float64)
        self._cross = torch.zeros_like(self._square)
        self._sum = torch.zeros(self.groups, taps, 1, dtype=torch.float64)
        self._teacher_sum = torch.zeros_like(self._sum)
        self._low = torch.full((self.groups, taps), torch.inf)
        self._high = -self._low

    def update(self, x: torch.Tensor, teacher: torch.Tensor | None = None) -> None:
        """Add quantized and, for ``cross``, float inputs, real float32 [N, C, H, W]."""
        patches = self._patches(x)
        transposed = patches.transpose(1, 2)
        self._square += (patches @ transposed).double()
        self._sum += patches.sum(2, keepdim=True).double()
        self.count += patches.shape[2]
        self._low = torch.minimum(self._low, patches.amin(2))
        self._high = torch.maximum(self._high, patches.amax(2))
        if teacher is not None:
            wanted = self._patches(teacher)
            self._cross += (wanted @ transposed).double()
            self._teacher_sum += wanted.sum(2, keepdim=True).double()

    def _patches(self, x: torch.Tensor) -> torch.Tensor:
        """[G, K, positions]."""
        block = self.block
        if block.op == "dense":
            return x.flatten(1).T[None]
        top, left, bottom, right = block.padding
        x = functional.pad(x, (left, right, top, bottom))
        if block.kernel == (1, 1):
            x = x[:, :, :: block.strides[0], :: block.strides[1]]
            patches = x.flatten(2).permute(1, 0, 2)
            grouped = patches.reshape(self.groups, -1, patches.shape[1] * patches.shape[2])
            return grouped.contiguous()
        columns = functional.unfold(x, block.kernel, stride=block.strides)
        images, _, positions = columns.shape
        grouped = columns.reshape(images, self.groups, -1, positions).permute(1, 2, 0, 3)
        return grouped.reshape(self.groups, -1, images * positions)

    @property
    def is_empty(self) -> bool:
        """Whether all inputs were the same at all positions: nothing can be learned from them."""
        return bool((self._low == self._high).all())

    @property
    def square(self) -> torch.Tensor:
        """cov(x, x), float64, shrunk towards its diagonal where positions are few for K inputs.

        A classifier has one position an image: without shrinking, directions that the images do
        not span would look free of cost.
        """
        mean = self._sum / self.count
        found = self._shrunk(self._square / self.count - mean @ mean.transpose(1, 2))
        return found * self._varies[:, :, None] * self._varies[:, None, :]

    @property
    def cross(self) -> torch.Tensor:
        """cov(teacher, x), float64, shrunk in the same way."""
        means = self._teacher_sum @ self._sum.transpose(1, 2) / self.count**2
        return self._shrunk(self._cross / self.count - means) * self._varies[:, None, :]

    @property
    def _varies(self) -> torch.Tensor:
        """1 for inputs that vary, else 0: the differences of large sums leave more than 0 there."""
        return (self._low < self._high).double()

    def _shrunk(self, found: torch.Tensor) -> torch.Tensor:
        inputs = found.shape[1]
        share = inputs / (inputs + _TRUST * self.count)
        return (1 - share) * found + share * torch.diag_embed(found.diagonal(dim1=1, dim2=2))


def ridge(square: torch.Tensor, damping: float) -> torch.Tensor:
    """A multiple of the unit matrix: a fraction of the mean diagonal of each [K, K]; 1 of zeros."""
    diagonal = square.diagonal(dim1=1, dim2=2).mean(1)
    size = torch.where(diagonal > 0, damping * diagonal, torch.ones_like(diagonal))
    return size[:, None, None] * torch.eye(square.shape[1], dtype=square.dtype)


def solvable(square: torch.Tensor) -> torch.Tensor:
    """Covariances [G, K, K], damped, positive definite, of a size of about 1.

    Of inputs that say nothing (copies of one image) the unit matrix: weights for it are the nearest
    ones. Where all inputs are nearly the same, rounding leaves only their variances.
    """
    size = square.diagonal(dim1=1, dim2=2).mean(1)
    # A power of two changes no bit of what follows, and the thresholds there are in units of 1.
    power = torch.where(size > 0, size / torch.frexp(size).mantissa, 1.0)
    scaled = square / power[:, None, None]
    damped = scaled + ridge(scaled, DAMPING)
    failed = torch.linalg.cholesky_ex(damped).info > 0
    alone = torch.diag_embed(damped.diagonal(dim1=1, dim2=2))
    return torch.where(failed[:, None, None], alone, damped)


@dataclass(frozen=True)
class Grid:
    """Codes of weights [G, O, K]: real = scale * (code - zero); scale and zero [G, O]."""

    scale: torch.Tensor
    zero: torch.Tensor
    bits: int

    def round(self, weights: torch.Tensor) -> torch.Tensor:
        """Nearest codes, as floats."""
        scale, zero = self.scale[:, :, None], self.zero[:, :, None]
        return (torch.round(weights / scale) + zero).clamp(0, (1 << self.bits) - 1)

    def real(self, codes: torch.Tensor) -> torch.Tensor:
        """Real weights of codes [G, O, K]."""
        return (codes - self.zero[:, :, None]) * self.scale[:, :, None]

    @property
    def range(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(low, high) [G, O]."""
        highest = (1 << self.bits) - 1
        return -self.zero * self.scale, (highest - self.zero) * self.scale

    def where(self, chosen: torch.Tensor, other: Grid) -> Grid:
        """``other`` in the channels that are ``chosen`` [G, O]."""
        scale = torch.where(chosen, other.scale, self.scale)
        return Grid(scale, torch.where(chosen, other.zero, self.zero), self.bits)

    @staticmethod
    def of_range(low: torch.Tensor, high: torch.Tensor, bits: int) -> Grid:
        """The grid of [low, high], which contains 0; a channel of zeros has scale 1."""
        return Grid(*grid_of_range(low, high, (1 << bits) - 1), bits)


def output_error(errors: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    """Variance [G, O] of the outputs' errors for weight errors [G, O, K]."""
    return ((errors @ square) * errors).sum(2)


def best_grid(weights: torch.Tensor, square: torch.Tensor, bits: int) -> Grid:
    """The range per channel with the least output error of nearest rounding.

    8 bits keep the extremes; below, first both ends shrink together, then each alone.
    """
    weights, square = weights.float(), square.float()
    low, high = weights.amin(2).clamp(max=0.0), weights.amax(2).clamp(min=0.0)
    if bits == 8:
        return Grid.of_range(low, high, bits)
    chosen = [torch.ones_like(low), torch.ones_like(high)]
    for ends in ((0, 1), (0,), (1,)):
        best = torch.full_like(low, float("inf"))
        found = [fraction.clone() for fraction in chosen]
        for fraction in _FRACTIONS:
            trial = [
                torch.full_like(low, fraction) if end in ends else chosen[end] for end in (0, 1)
            ]
            grid = Grid.of_range(low * trial[0], high * trial[1], bits)
            error = output_error(grid.real(grid.round(weights)) - weights, square)
            better = error < best
            best = torch.where(better, error, best)
            for end in ends:
                found[end] = torch.where(better, trial[end], found[end])
        chosen = found
    return Grid.of_range(low * chosen[0], high * chosen[1], bits)


def gptq(weights: torch.Tensor, square: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Codes [G, O, K] of float64 weights, rounded one input after the other.

    The inputs of the largest variance go first; the error of each is made up for by those not yet
    rounded, as the Cholesky factor of the inverse covariance says.
    """
    order = square.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    rows = order[:, :, None].expand_as(square)
    columns = order[:, None, :].expand_as(square)
    ordered = square.gather(1, rows).gather(2, columns)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor = torch.linalg.cholesky(inverse, upper=True)
    spread = order[:, None, :].expand_as(weights)
    rest, factor = weights.gather(2, spread).float(), factor.float()
    codes = torch.empty_like(rest)
    for start in range(0, rest.shape[2], _BLOCK):
        end = min(start + _BLOCK, rest.shape[2])
        errors = torch.empty_like(rest[:, :, start:end])
        for k in range(start, end):
            column = rest[:, :, k : k + 1]
            codes[:, :, k : k + 1] = grid.round(column)
            error = (column - grid.real(codes[:, :, k : k + 1])) / factor[:, k : k + 1, k : k + 1]
            rest[:, :, k:end] -= error * factor[:, k : k + 1, k:end]
            errors[:, :, k - start] = error[:, :, 0]
        # The columns beyond the block get all its errors at once: one product of matrices.
        rest[:, :, end:] -= errors @ factor[:, start:end, end:]
    return torch.empty_like(codes).scatter_(2, spread, codes)


def descend(
    weights: torch.Tensor, codes: torch.Tensor, grid: Grid, square: torch.Tensor
) -> torch.Tensor:
    """One sweep over the inputs; each gets the codes that are best given all others.

    The output error never grows. Makes up for what GPTQ cannot undo: codes at the end of the grid.
    """
    square = square.float()
    codes = codes.clone()
    pull = (grid.real(codes) - weights.float()).float() @ square
    diagonal = square.diagonal(dim1=1, dim2=2)
    for start in range(0, codes.shape[2], _BLOCK):
        end = min(start + _BLOCK, codes.shape[2])
        inside, moves = pull[:, :, start:end].clone(), torch.zeros_like(codes[:, :, start:end])
        for k in range(start, end):
            old = grid.real(codes[:, :, k : k + 1]).float()
            best = old - inside[:, :, k - start : k - start + 1] / diagonal[:, None, k : k + 1]
            codes[:, :, k : k + 1] = grid.round(best)
            move = grid.real(codes[:, :, k : k + 1]).float() - old
            inside += move * square[:, k : k + 1, start:end]
            moves[:, :, k - start] = move[:, :, 0]
        pull += moves @ square[:, start:end]
    return codes


def rounded(
    weights: torch.Tensor,
    square: torch.Tensor,
    bits: int,
    method: str = "gptq",
    refit: bool = True,
    search: bool = False,
) -> tuple[torch.Tensor, Grid]:
    """(codes, grid) of weights [G, O, K] for inputs of covariance ``square`` [G, K, K].

    ``search``: below 8 bits, look for better ranges and codes, which takes ten times as long and
    leaves about a tenth less of the output error.
    """
    safe = solvable(square)
    grid = best_grid(weights, safe, bits)
    if method == "nearest":
        return grid.round(weights), grid
    codes = gptq(weights, safe, grid)
    if bits == 8:
        return codes, refit_scale(weights, codes, grid, safe) if refit else grid
    if search:
        codes, grid = _search_ranges(weights, codes, grid, safe)
    codes, grid = _settled(weights, codes, grid, safe, refit)
    if search:
        codes = _search_codes(weights, codes, grid, safe)
        codes, grid = _settled(weights, codes, grid, safe, refit)
    return codes, grid


def _settled(
    weights: torch.Tensor, codes: torch.Tensor, grid: Grid, square: torch.Tensor, refit: bool
) -> tuple[torch.Tensor, Grid]:
    """Sweeps of descent, each with the scale that fits its codes if ``refit``."""
    for _ in range(_SWEEPS):
        codes = descend(weights, codes, grid, square)
        if refit:
            grid = refit_scale(weights, codes, grid, square)
    return codes, grid


def _search_ranges(
    weights: torch.Tensor, codes: torch.Tensor, grid: Grid, square: torch.Tensor
) -> tuple[torch.Tensor, Grid]:
    """The best range of each channel for the codes that GPTQ and descent find on it.

    They make up for each other's errors, so that a narrower range pays than for nearest rounding.
    """
    codes, _ = _settled(weights, codes, grid, square, refit=False)
    best = output_error(grid.real(codes) - weights, square)
    for trials in _RANGE_TRIALS:
        low, high = grid.range
        for factor_low, factor_high in trials:
            trial = Grid.of_range(low * factor_low, high * factor_high, grid.bits)
            found = gptq(weights, square, trial)
            found, _ = _settled(weights, found, trial, square, refit=False)
            error = output_error(trial.real(found) - weights, square)
            better = error < best
            best = torch.where(better, error, best)
            codes = torch.where(better[:, :, None], found, codes)
            grid = grid.where(better, trial)
    return codes, grid


def _search_codes(
    weights: torch.Tensor, codes: torch.Tensor, grid: Grid, square: torch.Tensor
) -> torch.Tensor:
    """Iterated local search: a few codes are moved at random and descent begins again from there.

    Each channel keeps the best it has seen.
    """
    generator = torch.Generator().manual_seed(0)
    best = output_error(grid.real(codes) - weights, square)
    for _ in range(_KICKS):
        chance = torch.rand(codes.shape, generator=generator)
        kicks = (chance < _KICKED / 2).float() - (chance > 1 - _KICKED / 2).float()
        kicked = (codes + kicks).clamp(0, (1 << grid.bits) - 1)
        found, _ = _settled(weights, kicked, grid, square, refit=False)
        error = output_error(grid.real(found) - weights, square)
        codes = torch.where((error < best)[:, :, None], found, codes)
        best = torch.minimum(error, best)
    return codes


def refit_scale(
    weights: torch.Tensor, codes: torch.Tensor, grid: Grid, square: torch.Tensor
) -> Grid:
    """The same zero points with the scale per channel that fits ``codes`` best to ``weights``."""
    centred = (codes - grid.zero[:, :, None]).double()
    projected = centred @ square
    power = (projected * centred).sum(2)
    scale = (projected * weights).sum(2) / power.clamp(min=1e-300)
    usable = (power > 0) & (scale > 0.5 * grid.scale) & (scale < 2.0 * grid.scale)
    return Grid(torch.where(usable, scale.float(), grid.scale), grid.zero, grid.bits)


def target_weights(
    weights: torch.Tensor, cross: torch.Tensor, square: torch.Tensor
) -> torch.Tensor:
    """The real weights that on quantized inputs come nearest to ``weights`` on float inputs.

    min E|W xf - W* xq|^2 + ridge |W* - W|^2 over W*.
    """
    keep = ridge(square, TARGET_DAMPING)
    return torch.linalg.solve(square + keep, weights @ (cross + keep), left=False)
