"""Dense layers: a matrix-vector product that reads the weights once, four channels at a time.

    x   uint8 [k]; UXTB16 makes (x0, x2) and (x1, x3) of a word, shared by the four channels
    w   words [k / codes of a word][4 channels]; the order of codes in a word (layout.py) is the one
        in which UXTB16, or one AND with a shifted operand, yields the pairs that meet those of x

SMLAD takes two products. Flash lines cost 10 cycles for 32 bytes beside the multiplies.
"""

from __future__ import annotations

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block

CHANNELS = 4
K_UNIT = 16
_SUMS = ("r4", "r5", "r6", "r7")
_MASK = "r3"
_FREE = ("r2", "r8", "r9", "r10", "r11", "r12", "lr")


def body(bits: int) -> Scheduled:
    """``K_UNIT`` taps of four channels."""
    block: list[Op] = []
    per_word = 32 // bits
    # Words of x that are taken together: a word of weights, as far as registers hold its x.
    together = min(per_word // 4, 2)
    for first in range(0, K_UNIT // 4, together):
        for j in range(first, first + together):
            block.append(ops.load(f"%x{j}", "r0", 4 * j))
            block += [_pair(f"%e{j}", f"%x{j}", 8, 0), _pair(f"%o{j}", f"%x{j}", 8, 1)]
        for c in range(CHANNELS):
            word = f"%w{c}.{first}"
            block.append(ops.load(word, "r1", 4 * (4 * first // per_word * CHANNELS + c)))
            for j in range(first, first + together):
                for odd, x in enumerate((f"%e{j}", f"%o{j}")):
                    pair = f"%q{c}.{j}.{odd}"
                    block.append(_pair(pair, word, bits, 2 * (4 * j % per_word) // 4 + odd))
                    block.append(ops.multiply_add("smlad", _SUMS[c], x, pair))
    block += [ops.load("%end", "sp"), ops.add("r0", "r0", K_UNIT), ops.compare("r0", "%end")]
    block.append(ops.add("r1", "r1", K_UNIT * CHANNELS * bits // 8))
    free = _FREE if bits < 8 else (*_FREE, _MASK)
    return schedule_block(block, free, is_loop=True)


def _pair(to: str, word: str, bits: int, place: int) -> Op:
    """Pair ``place`` of a word. AND, unlike UXTB16, may go in either slot."""
    if bits == 8:
        even = ops.and_constant(to, word, 0x00FF00FF)
        return ops.extend_bytes(to, word, 8) if place else even
    if place == 0:
        return ops.logical("and", to, _MASK, word)
    return ops.shifted("and", to, _MASK, word, "lsr", bits * place)


def text(bits: int) -> str:
    """``mpq_dense_w8``, ``_w4``, ``_w2``."""
    name, block = f"mpq_dense_w{bits}", body(bits)
    comment = (
        f"void {name}(const void *x, const void *w, void *acc, int32_t k)\n"
        f"{K_UNIT * CHANNELS} MACs: {block.cycles:g} cycles."
    )
    lines = [
        "push {r2, r4-r11, lr}",
        "sub sp, sp, #8",
        "add r3, r3, r0",
        "str r3, [sp, #0]",
        f"ldm r2, {{{', '.join(_SUMS)}}}",
        *([f"mov r3, #{((1 << bits) - 1) * 0x10001:#x}"] if bits < 8 else []),
        ".Ltaps:",
        *block.lines,
        "bne .Ltaps",
        "add sp, sp, #8",
        "pop {r2}",
        f"stm r2, {{{', '.join(_SUMS)}}}",
        "pop {r4-r11, pc}",
    ]
    return function(name, comment, lines)
