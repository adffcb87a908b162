"""Every generated assembly file by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import product

from tvm_mpq.kernels.asm import depthwise, lines, umlal
from tvm_mpq.kernels.asm.epilogue import store_block_text, store_sums_text, store_text
from tvm_mpq.kernels.asm.smlad import core_text, expand_text

_FILES: dict[str, Callable[[], str]] = {
    **{f"mpq_core_smlad_k{unroll}.S": partial(core_text, unroll) for unroll in (8, 16)},
    **{f"mpq_expand_w{bits}.S": partial(expand_text, bits) for bits in (8, 4, 2)},
    **{f"mpq_store_y{bits}.S": partial(store_text, bits) for bits in (8, 4, 2)},
    **{f"mpq_store_y{bits}_low.S": partial(store_text, bits, True) for bits in (8, 4, 2)},
    **{f"mpq_store_sums_y{bits}_low.S": partial(store_sums_text, bits) for bits in (8, 4, 2)},
    **{f"mpq_store_block_y{bits}.S": partial(store_block_text, bits) for bits in (8, 4, 2)},
    **{
        f"{depthwise.name_of(*shape)}.S": partial(depthwise.text, *shape)
        for shape in product((1, 2), (8, 4, 2), depthwise.PITCHES)
    },
    **{
        f"{lines.name_of(*shape)}.S": partial(lines.text, *shape)
        for shape in product((8, 4, 2), (0, 1))
    },
}


@cache
def _all() -> tuple[tuple[str, str], ...]:
    return (*((name, text()) for name, text in _FILES.items()), *umlal.all_texts().items())


def assembly_sources() -> dict[str, str]:
    """Assembly text by file name."""
    return dict(_all())
