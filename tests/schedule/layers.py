"""Small layers with several kernels to choose from, and a place whose cycles are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tvm_mpq.errors import BoardFaultError
from tvm_mpq.kernels.choose import candidates
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.micro.places import Place
from tvm_mpq.micro.single_layer import Layer
from tvm_mpq.specs import TensorSpec
from tvm_mpq.target import Target

TARGET = Target("stm32h7")
tensor = TensorSpec.of_map


def pointwise(channels: int = 8, size: int = 4, bits: int = 4, zero_point: int = 0) -> KernelSpec:
    x = tensor(channels, size, size, bits, zero_point)
    return KernelSpec("pointwise_conv2d", (x,), tensor(4, size, size, bits), bits)


def depthwise(size: int = 4, bits: int = 8) -> KernelSpec:
    maps = tensor(4, size, size, bits)
    return KernelSpec("depthwise_conv2d", (maps,), maps, bits, (3, 3), (1, 1), (1, 1, 1, 1))


def candidates_of(layer: KernelSpec) -> list[KernelSpec]:
    return candidates(layer, TARGET)


class FakePlace:
    """Gives ``cost`` of a kernel as its cycles, and lists the kernels that it ran."""

    name = "fake"
    model = "1"

    def __init__(self, cost: Callable[[KernelSpec], int], batch: int = 1) -> None:
        self.cost, self.batch = cost, batch
        self.ran: list[KernelSpec] = []

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def build(self, layer: Layer, folder: Path) -> None:
        (folder / "built").touch()

    def start(self, layer: Layer, folder: Path) -> Callable[[], int]:
        assert (folder / "built").exists()
        self.ran.append(layer.spec)
        cycles = self.cost(layer.spec)
        return lambda: cycles if cycles > 0 else _fail(layer)


def _fail(layer: Layer) -> int:
    raise BoardFaultError(f"{layer.spec.name} faulted")
