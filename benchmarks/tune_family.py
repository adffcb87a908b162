"""The table of tuned kernels that ships with the package: MobileNetV1's layers and their like.

``python -m benchmarks.tune_family [--folder DIR] [--tracker HOST:PORT] [--trials N]``

Measures single layers of every width (0.25 to 1.0) on the board model and writes
``tvm_mpq/kernels/tuned.json``. Other image sizes, output widths and networks go by the nearest
class: see ``LayerClass``. The databases stay in the folder, so that a run that was interrupted goes
on; Ctrl-C keeps what is done and writes no table. ``--only pointwise`` or ``--only others``
leaves the other records.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from tvm_mpq.kernels.choose import candidates
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tuned import SHIPPED, shipped_table
from tvm_mpq.micro.places import as_place
from tvm_mpq.micro.tuning import tune_layers
from tvm_mpq.specs import WIDTHS, TensorSpec
from tvm_mpq.target import Target

TARGET = Target("stm32h7")
TRIALS = 3
MULTIPLIERS = (0.75, 1.0, 0.5, 0.25)
# Pointwise layers of MobileNetV1 at 224: (input channels at width 1.0, rows and columns, output
# channels); of two with one class the one with more weights.
POINTWISE = (
    *((512, 14, 512), (256, 14, 512), (512, 7, 1024), (1024, 7, 1024), (128, 28, 256)),
    *((256, 28, 256), (128, 56, 128), (64, 56, 128), (32, 112, 64)),
)
# Rows and columns of depthwise layers at 224; those of other image sizes lie between.
DEPTHWISE = (112, 56, 28, 14, 7)
IMAGES = (224, 192, 160, 128, 96)


def layers(only: str = "") -> Iterator[KernelSpec]:
    """Every layer to measure, or those of one group."""
    for name, group in GROUPS.items():
        if only in ("", name):
            yield from group()


def _others() -> Iterator[KernelSpec]:
    """Depthwise and dense layers and the first one, with few output channels."""
    for size, stride, (x, w) in product(DEPTHWISE, (1, 2), product(WIDTHS, WIDTHS)):
        yield _depthwise(size, stride, x, w)
    for size, w in product(IMAGES, WIDTHS):
        image = TensorSpec(3, size, size, 8, 128, "hwc8")
        map_ = TensorSpec.of_map(8, size // 2, size // 2, 8)
        yield KernelSpec("conv2d", (image,), map_, w, (3, 3), (2, 2), (0, 0, 1, 1))
    for multiplier, x, w in product(MULTIPLIERS, WIDTHS, WIDTHS):
        vector = TensorSpec.of_map(int(1024 * multiplier), 1, 1, x)
        logits = TensorSpec(100, 1, 1, 32, 0, "logits")
        yield KernelSpec("dense", (vector,), logits, w)


def _pointwise() -> Iterator[KernelSpec]:
    """With the output channels that they have in the network, of which ``canonical`` takes enough.

    These share the packing of a strip, and deep layers read their weights from flash once a strip
    where the cache does not hold them: with few channels, other kernels would look best.
    """
    for channels, size, out in _shapes():
        for x, w in product(WIDTHS, WIDTHS):
            maps = (TensorSpec.of_map(c, size, size, x) for c in (channels, out))
            yield KernelSpec("pointwise_conv2d", (next(maps),), next(maps), w)


def _shapes() -> Iterator[tuple[int, int, int]]:
    """Input channels, size and the most output channels, in the order of POINTWISE."""
    found: dict[tuple[int, int], int] = {}
    for (channels, size, out), multiplier in product(POINTWISE, MULTIPLIERS):
        key = (int(channels * multiplier), size)
        found[key] = max(found.get(key, 0), int(out * multiplier))
    yield from ((*key, out) for key, out in found.items())


def _depthwise(size: int, stride: int, x_bits: int, w_bits: int) -> KernelSpec:
    out = -(-size // stride)
    padding = (0, 0, 1, 1) if stride == 2 and size % 2 == 0 else (1, 1, 1, 1)
    x, y = (TensorSpec.of_map(8, s, s, x_bits) for s in (size, out))
    strides = (stride, stride)
    return KernelSpec("depthwise_conv2d", (x,), y, w_bits, (3, 3), strides, padding)


GROUPS: dict[str, Callable[[], Iterator[KernelSpec]]] = {
    "pointwise": _pointwise,
    "others": _others,
}


def promising(layer: KernelSpec) -> list[KernelSpec]:
    """The candidates of ``layer`` but for the plain kernel, which never wins beside another one."""
    found = candidates(layer, TARGET)
    return [spec for spec in found if spec.variant] or found


def main() -> None:
    """Tune, and write the table."""
    parser = argparse.ArgumentParser(description="Tune the kernels that ship with the package")
    parser.add_argument("--folder", default="build/tuning", type=Path, help="for the databases")
    parser.add_argument("--tracker", help="HOST:PORT of a TVM RPC tracker")
    parser.add_argument("--trials", type=int, default=TRIALS, help="candidates of a layer")
    parser.add_argument("--only", default="", choices=GROUPS, help="one group of layers")
    arguments = parser.parse_args()
    started = time.monotonic()
    place = as_place("emulator", arguments.tracker)
    wanted = list(layers(arguments.only))
    result = tune_layers(wanted, promising, arguments.folder, place, trials=arguments.trials)
    for kernel, why in result.failures.items():
        print(f"not measured: {kernel}: {why}", file=sys.stderr)
    if result.stopped:
        sys.exit("stopped: the same command goes on")
    table = result.table.over(shipped_table()) if arguments.only else result.table
    table.save(SHIPPED)
    faster = [
        result.estimated[key] / record.cycles
        for key, record in result.table.records.items()
        if key in result.estimated and record.cycles < result.estimated[key]
    ]
    print(
        f"{len(table.records)} records, {result.measured} kernels measured,"
        f" {result.known} known, {time.monotonic() - started:.0f} s;"
        f" the estimate was slower in {len(faster)} classes"
        f" (at most {max(faster, default=1.0):.3f} times)"
    )


if __name__ == "__main__":
    main()
