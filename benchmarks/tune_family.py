"""The table of tuned kernels that ships with the package: MobileNetV1's layers and their like.

``python -m benchmarks.tune_family [--folder DIR] [--tracker HOST:PORT] [--trials N]``

Measures single layers of every width (0.25 to 1.0) on the board model and writes
``tvm_mpq/kernels/tuned.json``. Other image sizes, output widths and networks go by the nearest
class: see ``LayerClass``. The databases stay in the folder, so that a run that was interrupted goes
on; Ctrl-C keeps what is done and writes no table.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from tvm_mpq.kernels.choose import candidates
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tuned import SHIPPED
from tvm_mpq.micro.places import as_place
from tvm_mpq.micro.tuning import tune_layers
from tvm_mpq.specs import WIDTHS, TensorSpec
from tvm_mpq.target import Target

TARGET = Target("stm32h7")
TRIALS = 3
MULTIPLIERS = (0.25, 0.5, 0.75, 1.0)
# Pointwise layers of MobileNetV1 at 224: (input channels at width 1.0, rows and columns).
POINTWISE = (
    *((32, 112), (64, 56), (128, 56), (128, 28), (256, 28)),
    *((256, 14), (512, 14), (512, 7), (1024, 7)),
)
# Rows and columns of depthwise layers at 224; those of other image sizes lie between.
DEPTHWISE = (112, 56, 28, 14, 7)
IMAGES = (224, 192, 160, 128, 96)
_WIDE = 40
_DEEP = 128


def layers() -> Iterator[KernelSpec]:
    """Every layer to measure, with few output channels: they only repeat the same work."""
    yield from _pointwise()
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
    """Only those whose weights stay in the cache.

    Deeper layers read theirs from flash once a strip. With the few output channels that are
    measured here they would lie in the cache, and small strips would look good: there the estimate
    decides, which counts flash lines.
    """
    shapes = {(int(c * m), size) for m, (c, size) in product(MULTIPLIERS, POINTWISE)}
    shapes = {(channels, size) for channels, size in shapes if channels < _DEEP}
    for (channels, size), x, w in product(sorted(shapes), WIDTHS, WIDTHS):
        out = 8 if size > _WIDE else 16
        maps = (TensorSpec.of_map(c, size, size, x) for c in (channels, out))
        yield KernelSpec("pointwise_conv2d", (next(maps),), next(maps), w)


def _depthwise(size: int, stride: int, x_bits: int, w_bits: int) -> KernelSpec:
    out = -(-size // stride)
    padding = (0, 0, 1, 1) if stride == 2 and size % 2 == 0 else (1, 1, 1, 1)
    x, y = (TensorSpec.of_map(8, s, s, x_bits) for s in (size, out))
    strides = (stride, stride)
    return KernelSpec("depthwise_conv2d", (x,), y, w_bits, (3, 3), strides, padding)


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
    arguments = parser.parse_args()
    started = time.monotonic()
    place = as_place("emulator", arguments.tracker)
    result = tune_layers(
        list(layers()), promising, arguments.folder, place, trials=arguments.trials
    )
    for kernel, why in result.failures.items():
        print(f"not measured: {kernel}: {why}", file=sys.stderr)
    if result.stopped:
        sys.exit("stopped: the same command goes on")
    result.table.save(SHIPPED)
    faster = [
        result.estimated[key] / record.cycles
        for key, record in result.table.records.items()
        if key in result.estimated and record.cycles < result.estimated[key]
    ]
    print(
        f"{len(result.table.records)} records, {result.measured} kernels measured,"
        f" {result.known} known, {time.monotonic() - started:.0f} s;"
        f" the estimate was slower in {len(faster)} classes"
        f" (at most {max(faster, default=1.0):.3f} times)"
    )


if __name__ == "__main__":
    main()
