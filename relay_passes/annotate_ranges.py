"""AnnotateRanges: what each activation spans, from calibration images.

    mpq.conv2d(..., name="conv2d_0")
        --> the same with y_ranges=[low8, high8, low4, high4, low2, high2], x_means=[...]

``x_means``, on layers with weights, is the mean of each input channel: it tells how far rounded
weights shift the output. max_pool2d and global_avg_pool keep the range of their input and get none
of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from relay_passes.evaluate import evaluate_float
from relay_passes.graph import CallRewriter, name_of, nodes, shape_of, with_attrs
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule, call_attrs, mutator, relax, tvm
from tvm_mpq.errors import CalibrationError
from tvm_mpq.images import to_real
from tvm_mpq.progress import track
from tvm_mpq.quant.calibration import RunningHistogram, RunningMean
from tvm_mpq.specs import InputSpec

_BATCH = 8
KEEPS_RANGE = ("max_pool2d", "global_avg_pool")


@tvm.transform.module_pass(opt_level=0, name="AnnotateRanges")
class AnnotateRanges:
    """Run the float blocks on ``images`` and attach ranges to every block.

    Parameters
    ----------
    images: uint8 [N, H, W, C], N at least 1. method: ``"mse"`` or ``"max"``.

    Raises CalibrationError for missing images, a wrong dtype or shape, or non-finite activations.
    """

    def __init__(self, images: npt.NDArray[np.uint8], input_spec: InputSpec, method: str) -> None:
        self.images = images
        self.input_spec = input_spec
        self.method = method

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        check_images(self.images, shape_of(mod["main"].params[0]))
        histograms: dict[str, RunningHistogram] = {}
        means: dict[str, RunningMean] = {}

        def observe(layer: str, tensor: Any) -> None:
            name = f"the output of {layer}"
            histograms.setdefault(layer, RunningHistogram(name)).update(tensor.numpy())
            means.setdefault(layer, RunningMean()).update(tensor.numpy())

        batches = range(0, len(self.images), _BATCH)
        for start in track(batches, "calibrating"):
            batch = self.images[start : start + _BATCH]
            evaluate_float(mod, to_real(batch, self.input_spec), observe)
        ranges = {name: histogram.ranges(self.method) for name, histogram in histograms.items()}
        found = {name: mean.mean.tolist() for name, mean in means.items()}
        return _Annotator(mod, ranges, found).transform()


@mutator
class _Annotator(CallRewriter):
    def __init__(
        self, mod: IRModule, ranges: dict[str, list[float]], means: dict[str, list[float]]
    ) -> None:
        super().__init__(mod)
        self._ranges = ranges
        names = {node.var: node.name for node in nodes(mod)}
        names[mod["main"].params[0]] = name_of(mod["main"].params[0])
        self._x_means = {
            node.name: means[names[node.args[0]]] for node in nodes(mod) if node.op in WEIGHTED
        }

    def rewrite(self, call: relax.Call) -> Any:
        if str(call.op.name).removeprefix("mpq.") in KEEPS_RANGE:
            return call
        name = call_attrs(call)["name"]
        found: dict[str, Any] = {"y_ranges": self._ranges[name]}
        if name in self._x_means:
            found["x_means"] = self._x_means[name]
        return with_attrs(call, **found)


def check_images(images: Any, shape: tuple[int, ...]) -> None:
    """Raise CalibrationError unless ``images`` is uint8 [N >= 1, H, W, C] of NCHW ``shape``."""
    _, channels, height, width = shape
    wanted = f"uint8 [N, {height}, {width}, {channels}]"
    if images is None or (hasattr(images, "__len__") and len(images) == 0):
        raise CalibrationError(
            f"calibration: no images; give build(calibration=) an array of {wanted}, typically a"
            " few hundred images of the kind the network will see"
        )
    try:
        array = np.asarray(images)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, tensors of a GPU
        raise CalibrationError(f"calibration: no array ({error}); expected {wanted}") from None
    if array.dtype != np.uint8 or array.shape[1:] != (height, width, channels):
        raise CalibrationError(
            f"calibration: found {array.dtype} {list(array.shape)}; expected {wanted}"
        )
