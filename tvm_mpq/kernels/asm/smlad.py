"""Cores on SMLAD: two MACs a multiply, halfword operands on both sides.

    mpq_core_smlad_k*  acc[channel][pixel] = start + sum over k of x * (w - Zw), 2 channels
    mpq_expand_w*      packed weight words of a pair of channels -> halfwords w - Zw in DTCM

Why the weights are expanded first: eight sums and two pointers leave four registers. With both
operands ready in DTCM these hold two weights and two pixels, so that every cycle issues one SMLAD
and up to one load; unpacking in the loop would need a fifth register, or wait. The expansion costs
0.75 cycles a weight and is shared by all pixels of a strip. It subtracts the zero point on the way
(UXTAB16 adds -Zw to both halves), so that sums of x are needed nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from tvm_mpq.kernels.asm import ops
from tvm_mpq.kernels.asm.function import function
from tvm_mpq.kernels.asm.ops import Op
from tvm_mpq.kernels.asm.scheduler import Scheduled, schedule_block

UNROLL = 8  # taps of an iteration; K is padded to it
_SUMS = tuple(f"r{i}" for i in range(4, 12))
_TEMPORARIES = ("r2", "r3", "r12", "lr")


def core_body(pixels: int, unroll: int = UNROLL) -> Scheduled:
    """One iteration: ``unroll`` taps x ``pixels`` x 2 channels.

    The first operands of the next iteration are loaded at its end, into the registers in which the
    loop expects them.
    """
    sums = _SUMS[:pixels], _SUMS[4 : 4 + pixels]
    free = (*_TEMPORARIES, *(r for r in _SUMS if r not in sums[0] + sums[1]))
    carried = dict(zip(("%a", "%b", "%x0", "%x1"), _TEMPORARIES, strict=True))
    steps = unroll // 2  # an SMLAD takes two taps
    block: list[Op] = []
    for step in range(steps):
        block += [op for op in _loads(step, pixels) if step or _value(op) not in carried]
        for pixel in range(pixels):
            for sum_, weight in zip(sums, "ab", strict=True):
                x, w = f"%x{pixel}.{step}", f"%{weight}.{step}"
                block.append(ops.multiply_add("smlad", sum_[pixel], x, w))
    block += [op for op in _loads(steps, pixels, carried) if _value(op) in carried]
    block += [ops.load("%end", "sp"), ops.compare("r0", "%end")]
    block += [ops.add("r0", "r0", 4 * pixels * steps), ops.add("r1", "r1", 8 * steps)]
    live_in = {f"{value}.0": register for value, register in carried.items()}
    live_out = [f"{value}.{steps}" for value in carried]
    return schedule_block(block, free, live_in=live_in, live_out=live_out, is_loop=True)


def _loads(step: int, pixels: int, pins: dict[str, str] | None = None) -> Iterator[Op]:
    """Two words of weights and one a pixel, in the order in which they are needed."""
    pins = pins or {}
    order = ["%a", "%x0", "%b", *(f"%x{pixel}" for pixel in range(1, pixels))]
    for value in order:
        base, place = ("r1", 8 * step + 4 * (value == "%b"))
        if value.startswith("%x"):
            base, place = ("r0", 4 * (pixels * step + int(value[2:])))
        yield ops.load(f"{value}.{step}", base, place, pin=pins.get(value))


def _value(op: Op) -> str:
    return op.names[0].split(".")[0]


def _group(pixels: int, unroll: int) -> list[str]:
    """All taps of one group of pixels: start values, the loop, and the sums to memory."""
    first, second = _SUMS[:pixels], _SUMS[4 : 4 + pixels]
    label = f".Lgroup{pixels}"
    return [
        f"{label}:",
        # x bytes of all iterations but the last.
        f"ldr r12, [sp, #{24 if pixels == 4 else 28}]",
        "ldr r3, [sp, #20]",
        "add r12, r0, r12",
        "str r12, [sp, #0]",
        "ldr r2, [sp, #8]",
        "cbnz r3, .Lstart" + str(pixels),
        "ldr r3, [sp, #16]",
        "add r3, r3, r2",
        f"ldm r2, {{{first[0]}-{first[-1]}}}",
        f"ldm r3, {{{second[0]}-{second[-1]}}}",
        f"b .Lready{pixels}",
        f".Lstart{pixels}:",
        f"ldr {first[0]}, [r3]",
        f"ldr {second[0]}, [r3, #4]",
        *(f"mov {r}, {first[0]}" for r in first[1:]),
        *(f"mov {r}, {second[0]}" for r in second[1:]),
        f".Lready{pixels}:",
        "ldr r1, [sp, #4]",
        "ldr r12, [r0]",
        "ldr lr, [r0, #4]",
        "ldr r2, [r1]",
        "ldr r3, [r1, #4]",
        f".Ltaps{pixels}:",
        *core_body(pixels, unroll).lines,
        f"bne .Ltaps{pixels}",
        "ldr r2, [sp, #8]",
        "ldr r3, [sp, #16]",
        f"ldr r12, [sp, #{32 if pixels == 4 else 36}]",
        "add r3, r3, r2",
        f"stm r2!, {{{first[0]}-{first[-1]}}}",
        "add r0, r0, r12",  # past the taps that other calls take
        f"stm r3, {{{second[0]}-{second[-1]}}}",
        "ldr r12, [sp, #12]",
        "str r2, [sp, #8]",
        f"subs r12, r12, #{pixels}",
        "str r12, [sp, #12]",
    ]


def core_text(unroll: int) -> str:
    """``mpq_core_smlad_k8`` and ``_k16``: the longer loop spends less on its end."""
    name = f"mpq_core_smlad_k{unroll}"
    comment = (
        f"void {name}(const void *x, const void *w, int32_t *acc, const int32_t *start,\n"
        "                    int32_t pixels, int32_t k, int32_t k_total, int32_t done)\n"
        f"4 pixels x 2 channels x {unroll} taps: {core_body(4, unroll).cycles:g} cycles;\n"
        f"2 pixels: {core_body(2, unroll).cycles:g}."
    )
    frame = 40
    return function(
        name,
        comment,
        [
            "push {r4-r11, lr}",
            f"sub sp, sp, #{frame}",
            "str r1, [sp, #4]",
            "str r2, [sp, #8]",
            "str r3, [sp, #20]",
            f"ldr r12, [sp, #{frame + 36}]",
            f"ldr r2, [sp, #{frame + 40}]",
            f"ldr r3, [sp, #{frame + 44}]",
            "str r12, [sp, #12]",
            "lsl r1, r12, #2",
            "str r1, [sp, #16]",
            "sub r3, r3, r2",
            "lsl r1, r2, #3",
            f"sub r1, r1, #{8 * unroll}",
            "str r1, [sp, #24]",
            "lsl r1, r2, #2",
            f"sub r1, r1, #{4 * unroll}",
            "str r1, [sp, #28]",
            "lsl r1, r3, #3",
            "str r1, [sp, #32]",
            "lsl r1, r3, #2",
            "str r1, [sp, #36]",
            "cmp r12, #4",
            "blt .Ltail",
            *_group(4, unroll),
            "cmp r12, #4",
            "bge .Lgroup4",
            ".Ltail:",
            "ldr r12, [sp, #12]",
            "cmp r12, #0",
            "ble .Ldone",
            # Two pixels take half the words of four for the taps that came before.
            f"ldr r1, [sp, #{frame + 48}]",
            "sub r0, r0, r1, lsl #2",
            *_group(2, unroll),
            ".Ldone:",
            f"add sp, sp, #{frame}",
            "pop {r4-r11, pc}",
        ],
    )


def expand_text(bits: int) -> str:
    """``mpq_expand_w8``, ``_w4``, ``_w3``, ``_w2``."""
    name = f"mpq_expand_w{bits}"
    block = expand_body(bits)
    comment = (
        f"void {name}(const void *w, void *out, int32_t k, uint32_t zero0, uint32_t zero1)\n"
        f"{8 * _quads(bits)} weights: {block.cycles:g} cycles. zero: -Zw in both halves."
    )
    # Bytes of a pair of channels: k * bits / 4.
    end = {
        8: ["add r2, r0, r2, lsl #1"],
        4: ["add r2, r0, r2"],
        3: ["sub r2, r2, r2, lsr #2", "add r2, r0, r2"],
        2: ["add r2, r0, r2, lsr #1"],
    }
    lines = ["push {r4-r9, lr}", "ldr r4, [sp, #28]", *end[bits], ".Lexpand:"]
    return function(name, comment, [*lines, *block.lines, "bne .Lexpand", "pop {r4-r9, pc}"])


def _quads(bits: int) -> int:
    """Groups of four taps in an iteration: whole words of both channels."""
    return 4 if bits == 3 else 2


def expand_body(bits: int) -> Scheduled:
    """Taps of two channels: UXTAB16 spreads two bytes and subtracts the zero point."""
    block: list[Op] = []
    words = _quads(bits) * bits // 4
    for word in range(words):
        block.append(ops.load(f"%w{word}", "r0", 4 * word))
    block += [ops.add("r0", "r0", 4 * words), ops.compare("r0", "r2")]
    for quad in range(_quads(bits)):
        fields = [_byte_field(block, bits, quad, channel) for channel in range(2)]
        for odd in range(2):
            for channel, zero in enumerate(("r3", "r4")):
                name = f"%{quad}{channel}{odd}"
                block.append(ops.extend_add_bytes(name, zero, fields[channel], 8 * odd))
            pair = (f"%{quad}0{odd}", f"%{quad}1{odd}")
            block.append(ops.store_pair(*pair, "r1", 16 * quad + 8 * odd))
    block.append(ops.add("r1", "r1", 16 * _quads(bits)))
    free = ("r5", "r6", "r7", "r8", "r9", "r12", "lr")
    return schedule_block(block, free, is_loop=True)


def _byte_field(block: list[Op], bits: int, quad: int, channel: int) -> str:
    """Appends what brings four taps of a channel into the bytes of one value."""
    if bits == 8:
        return f"%w{2 * quad + channel}"
    name = f"%f{quad}{channel}"
    if bits == 3:
        low = _masked(block, f"{name}l", f"%w{quad // 2}", 4 * (quad % 2) + 2 * channel, 2)
        high = _masked(block, f"{name}h", "%w2", 2 * quad + channel, 1)
        block.append(ops.shifted("orr", name, low, high, "lsl", 2))
        return name
    word, place = (quad, channel) if bits == 4 else (0, 2 * quad + channel)
    return _masked(block, name, f"%w{word}", bits * place, bits)


def _masked(block: list[Op], name: str, source: str, bit: int, width: int) -> str:
    """Bits [bit, bit + width) of every byte."""
    if bit:
        block.append(ops.shift_constant("lsr", f"{name}s", source, bit))
        source = f"{name}s"
    block.append(ops.and_constant(name, source, 0x01010101 * ((1 << width) - 1)))
    return name
