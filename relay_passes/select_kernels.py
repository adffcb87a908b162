"""SelectKernels: write the chosen kernel on every integer operator.

mpq.icn_conv2d(...) --> the same with kernel="pw_x8w4y8_p4c2_smlad" and spec=<its record>
"""

from __future__ import annotations

from typing import Any

from relay_passes.graph import CallRewriter, shape_of, with_attrs
from relay_passes.ops import WEIGHTED
from relay_passes.rewrite_to_icn import LOGITS_BITS
from tvm_mpq._tvm_compat import IRModule, call_attrs, mutator, relax, tvm
from tvm_mpq.errors import DoesNotFitError
from tvm_mpq.kernels.choose import choose
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tuned import TunedTable
from tvm_mpq.specs import TensorSpec
from tvm_mpq.target import Target


@tvm.transform.module_pass(opt_level=0, name="SelectKernels")
class SelectKernels:
    """Choose a kernel for every integer operator; ``records``: see ``choose``.

    Raises DoesNotFitError, naming the layer, when no kernel keeps to the scratch limit.
    """

    def __init__(self, target: Target, records: TunedTable | None = None) -> None:
        self.target = target
        self.records = records

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        return _Selector(mod, self.target, self.records).transform()


@mutator
class _Selector(CallRewriter):
    def __init__(self, mod: IRModule, target: Target, records: TunedTable | None) -> None:
        super().__init__(mod)
        self._target = target
        self._records = records

    def rewrite(self, call: relax.Call) -> Any:
        attrs = call_attrs(call)
        try:
            spec = choose(kernel_spec(call), self._target, self._records)
        except DoesNotFitError as error:
            raise DoesNotFitError(f"layer {attrs['name']}: {error}") from error
        return with_attrs(call, kernel=spec.name, spec=spec.to_json())


def kernel_spec(call: relax.Call) -> KernelSpec:
    """The KernelSpec of an integer operator, before tiles are chosen."""
    attrs = call_attrs(call)
    op = str(call.op.name).removeprefix("mpq.icn_")
    inputs = tuple(
        _tensor(shape_of(arg), bits, zero, attrs.get("x_layout") == "hwc8")
        for arg, bits, zero in zip(call.args, attrs["x_bits"], attrs["x_zero_points"], strict=False)
    )
    output_shape = shape_of(call)
    kernel = tuple(attrs.get("window", (1, 1)))
    if op in WEIGHTED:
        kernel = shape_of(call.args[len(inputs)])[2:]
        if op == "conv2d" and output_shape[2:] == (1, 1):
            op = "dense"  # one pixel: no tile of pixels to fill
        elif op == "conv2d" and kernel == (1, 1) and not any(attrs["padding"]):
            op = "pointwise_conv2d"
    return KernelSpec(
        op=op,
        inputs=inputs,
        output=_tensor(output_shape, attrs["y_bits"], attrs["y_zero_point"], False),
        w_bits=attrs.get("w_bits", 0),
        kernel=(kernel[0], kernel[1]),
        strides=tuple(attrs.get("strides", (1, 1))),
        padding=tuple(attrs.get("padding", (0, 0, 0, 0))),
        multiplier_bits=attrs.get("multiplier_bits", 32),
    )


def _tensor(shape: tuple[int, ...], bits: int, zero_point: int, image: bool) -> TensorSpec:
    if image:
        _, height, width, channels = shape
        return TensorSpec(channels, height, width, bits, zero_point, "hwc8")
    _, channels, height, width = shape
    if bits == LOGITS_BITS:
        return TensorSpec(channels, 1, 1, bits, 0, "logits")
    return TensorSpec.of_map(channels, height, width, bits, zero_point)
