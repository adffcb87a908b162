"""Every generated assembly file by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product
from pathlib import Path

from tvm_mpq.files import cached
from tvm_mpq.kernels.asm import dense, depthwise, depthwise_halves, depthwise_lanes, lines, umlal
from tvm_mpq.kernels.asm.epilogue import store_block_text, store_sums_text, store_text
from tvm_mpq.kernels.asm.smlad import core_text, expand_text
from tvm_mpq.progress import track
from tvm_mpq.specs import WEIGHT_WIDTHS


def _cores(outputs: dict[int, tuple[int, ...]]) -> Iterator[tuple[int, int, int]]:
    """Stride, y bits and outputs of a pass of every depthwise core."""
    for stride, (bits, units) in product((1, 2), outputs.items()):
        yield from ((stride, bits, unit) for unit in units)


def _line_shapes() -> Iterator[tuple[int, int, int, int, int]]:
    """x bits, left, apart, words of a pass and whether they are a line."""
    for (bits, passes), *flags in product(lines.WORDS.items(), (0, 1), (0, 1), (0, 1)):
        left, apart, whole = flags
        yield from ((bits, left, apart, words, whole) for words in passes)


_FILES: dict[str, Callable[[], str]] = {
    **{f"mpq_core_smlad_k{unroll}.S": partial(core_text, unroll) for unroll in (8, 16)},
    **{f"mpq_expand_w{bits}.S": partial(expand_text, bits) for bits in WEIGHT_WIDTHS},
    **{f"mpq_store_y{bits}.S": partial(store_text, bits) for bits in (8, 4, 2)},
    **{f"mpq_store_y{bits}_low.S": partial(store_text, bits, True) for bits in (8, 4, 2)},
    **{f"mpq_dense_w{bits}.S": partial(dense.text, bits) for bits in (8, 4, 2)},
    **{f"mpq_store_sums_y{bits}_low.S": partial(store_sums_text, bits) for bits in (8, 4, 2)},
    **{f"mpq_store_block_y{bits}.S": partial(store_block_text, bits) for bits in (8, 4, 2)},
    **{f"mpq_store_block_y{b}_m16.S": partial(store_block_text, b, True) for b in (8, 4, 2)},
    **{
        f"{family.name_of(*shape)}.S": partial(family.text, *shape)
        for family in (depthwise, depthwise_lanes)
        for shape in _cores(family.UNITS)
    },
    **{
        f"{depthwise_halves.name_of(*shape)}.S": partial(depthwise_halves.text, *shape)
        for shape in depthwise_halves.SHAPES
    },
    **{f"{lines.name_of(*shape)}.S": partial(lines.text, *shape) for shape in _line_shapes()},
    **umlal.generators(),
}


def _generate() -> dict[str, str]:
    files = track(list(_FILES.items()), "scheduling the micro-kernels, once on this machine")
    return {name: text() for name, text in files}


def _cache_name() -> str:
    """Of the file that belongs to these very generators and rules of the core."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for folder in ("kernels", "emulator"):
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    digest.update((package / "specs.py").read_bytes())
    return f"assembly-{digest.hexdigest()[:16]}.json"


@cache
def _all() -> dict[str, str]:
    """Scheduling all kernels takes many seconds, so the texts are kept between processes."""
    data, _ = cached(_cache_name(), lambda: json.dumps(_generate()).encode())
    texts: dict[str, str] = json.loads(data)
    return texts


def assembly_sources() -> dict[str, str]:
    """Assembly text by file name."""
    return dict(_all())
