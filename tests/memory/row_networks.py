"""Row graphs for the planner's tests: MobileNetV1, random chains and graphs with skip edges."""

from __future__ import annotations

from hypothesis import strategies as st

from benchmarks.mobilenet_v1 import BLOCKS, same_padding, scaled_channels
from tvm_mpq.memory.rows import RowGraph, RowLayer, RowTensor
from tvm_mpq.specs import TensorSpec


class Network:
    """Builds a RowGraph layer by layer."""

    def __init__(self, height: int, row_bytes: int, by_rows: bool) -> None:
        self.layers = [RowLayer("camera", (), "x", height)] if by_rows else []
        self.tensors = {"x": RowTensor("x", height, row_bytes)}

    def add(self, layer: RowLayer, row_bytes: int, min_bytes: int = 0) -> str:
        """Append a layer; the name of its output."""
        height = 1 if layer.accumulates else layer.steps
        tensor = RowTensor(layer.output, height, row_bytes, min_bytes)
        self.tensors[layer.output] = tensor
        self.layers.append(layer)
        return layer.output

    def graph(self) -> RowGraph:
        """The finished graph; its result leaves the arena."""
        output = self.layers[-1].output
        last = self.tensors[output]
        self.tensors[output] = RowTensor(output, last.height, last.row_bytes, in_arena=False)
        return RowGraph(tuple(self.layers), self.tensors, "x", output)


def mobilenet(width: float, resolution: int, by_rows: bool = False, bits: int = 8) -> RowGraph:
    """MobileNetV1 as rows, every activation at ``bits``."""
    net = Network(resolution, resolution * 3, by_rows)

    def row_bytes(channels: int, size: int) -> int:
        return TensorSpec.of_map(channels, size, size, bits).row_bytes

    size, channels = -(-resolution // 2), scaled_channels(32, width)
    top = same_padding(resolution, 3, 2)[0]
    x = net.add(RowLayer("conv1", ("x",), "conv1", size, 3, 2, top), row_bytes(channels, size))
    for number, (wide, stride) in enumerate(BLOCKS, 1):
        top, size = same_padding(size, 3, stride)[0], -(-size // stride)
        layer = RowLayer(f"dw{number}", (x,), f"dw{number}", size, 3, stride, top)
        x = net.add(layer, row_bytes(channels, size))
        channels = scaled_channels(wide, width)
        x = net.add(RowLayer(f"pw{number}", (x,), f"pw{number}", size), row_bytes(channels, size))
    pool = RowLayer("pool", (x,), "pool", size, accumulates=True)
    x = net.add(pool, channels, 4 * channels)
    net.add(RowLayer("fc", (x,), "fc", 1), 4000)
    return net.graph()


@st.composite
def random_graphs(draw: st.DrawFn) -> RowGraph:
    """Convolutions, pools, adds and concats on maps of odd sizes; each tensor may be read again."""
    heights = {"x": draw(st.integers(1, 23))}
    net = Network(heights["x"], draw(st.integers(1, 40)), draw(st.booleans()))
    for index in range(draw(st.integers(1, 9))):
        name = f"l{index}"
        recent = list(heights)[-3:]
        source = recent[-1] if index == 0 else draw(st.sampled_from(recent))
        twins = [other for other in recent if heights[other] == heights[source]]
        band = draw(st.sampled_from([1, 1, 2, 3]))
        if draw(st.integers(0, 2)) == 0:
            inputs = (source, draw(st.sampled_from(twins)))
            layer = RowLayer(name, inputs, name, heights[source], band=band)
        else:
            window, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
            top, bottom = draw(st.integers(0, window - 1)), draw(st.integers(0, window - 1))
            steps = (heights[source] + top + bottom - window) // stride + 1
            if steps < 1:
                window, stride, top, steps = 1, 1, 0, heights[source]
            layer = RowLayer(name, (source,), name, steps, window, stride, top, band)
        heights[name] = layer.steps
        net.add(layer, 4 * draw(st.integers(1, 30)))
    if draw(st.booleans()):
        last = list(heights)[-1]
        net.add(RowLayer("pool", (last,), "pool", heights[last], accumulates=True), 8, 32)
        net.add(RowLayer("fc", ("pool",), "fc", 1), 12)
    return net.graph()
