"""The arena as a picture: bytes over time, one box a buffer."""

from __future__ import annotations

from html import escape

from tvm_mpq.memory.arena import Buffer
from tvm_mpq.memory.stages import StagePlan

_WIDTH, _HEIGHT, _MARGIN = 1000, 500, 60
_COLOURS = {"image": "#e9a23b", "ring": "#5b8fd6", "whole": "#7fb77e"}
_MIN_LABEL_PIXELS = 11


def arena_svg(plan: StagePlan) -> str:
    """An SVG: time from left to right in layers, addresses from bottom to top in bytes.

    A buffer that lies over one that dies is drawn over it, both half transparent.
    """
    scale = (_HEIGHT - 2 * _MARGIN) / plan.arena_bytes
    boxes = [_box(plan, buffer, scale) for buffer in plan.arena.buffers]
    marks = [_mark(plan, stage) for stage in range(len(plan.stages))]
    title = (
        f"arena {plan.arena_bytes:,} bytes; {plan.streamed_layers} of {len(plan.graph.layers)}"
        " layers run row by row"
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="10">'
    )
    frame = f'<text x="{_MARGIN}" y="{_MARGIN // 2}" font-size="14">{title}</text>'
    return "\n".join([head, frame, *marks, *boxes, _axis(plan, scale), "</svg>", ""])


def _x(plan: StagePlan, layer: int) -> float:
    return _MARGIN + layer * (_WIDTH - 2 * _MARGIN) / len(plan.graph.layers)


def _box(plan: StagePlan, buffer: Buffer, scale: float) -> str:
    left = _x(plan, plan.stages[buffer.first_use][0])
    right = _x(plan, plan.stages[buffer.last_use][1])
    height = buffer.size * scale
    top = _HEIGHT - _MARGIN - plan.arena.offsets[buffer.name] * scale - height
    rows, of = plan.rings[buffer.name], plan.graph.tensors[buffer.name].height
    kind = "whole" if rows == of else "ring"
    kind = "image" if buffer.name == plan.graph.input else kind
    text = f"{escape(buffer.name)}: {buffer.size:,} bytes, {rows} of {of} rows"
    label = ""
    if height >= _MIN_LABEL_PIXELS:
        label = f'<text x="{left + 2:.1f}" y="{top + 10:.1f}">{escape(buffer.name)}</text>'
    return (
        f'<g><title>{text}</title><rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}"'
        f' height="{height:.1f}" fill="{_COLOURS[kind]}" fill-opacity="0.6" stroke="#333"'
        f' stroke-width="0.4"/>{label}</g>'
    )


def _mark(plan: StagePlan, stage: int) -> str:
    x = _x(plan, plan.stages[stage][0])
    bottom = _HEIGHT - _MARGIN
    return (
        f'<line x1="{x:.1f}" y1="{_MARGIN}" x2="{x:.1f}" y2="{bottom}" stroke="#ccc"/>'
        f'<text x="{x + 1:.1f}" y="{bottom + 12}">{stage}</text>'
    )


def _axis(plan: StagePlan, scale: float) -> str:
    lines = []
    for part in range(5):
        value = plan.arena_bytes * part // 4
        y = _HEIGHT - _MARGIN - value * scale
        lines.append(f'<text x="4" y="{y + 3:.1f}">{value:,}</text>')
    return "".join(lines)
