"""The unscheduled PrimFunc through LLVM equals the numpy reference, for every variant."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.harness import conv_spec, stored, weighted_case
from tvm_mpq._tvm_compat import IRModule, tvm
from tvm_mpq.kernels.layout import pack_map, unpack_map
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.specs import TensorSpec

pytestmark = pytest.mark.cc
tensor = TensorSpec.of_map
IMAGE = TensorSpec(3, 9, 11, 8, 128, "hwc8")
SPECS = [
    conv_spec("pointwise_conv2d", tensor(13, 3, 7, 8, 5), 5, 8, 3),
    conv_spec("dense", tensor(29, 1, 1, 4, 1), 11, 4, 3),
    conv_spec("dense", tensor(5, 3, 4, 8, 3), 3, 8, 3, (3, 4)),
    conv_spec("pointwise_conv2d", tensor(13, 3, 7, 8, 5), 5, 8, 4),
    conv_spec("pointwise_conv2d", tensor(13, 3, 7, 4, 5), 5, 4, 4),
    conv_spec("pointwise_conv2d", tensor(13, 3, 7, 8, 5), 5, 2, 2),
    conv_spec("pointwise_conv2d", tensor(13, 3, 7, 2, 1), 5, 8, 2),
    conv_spec("conv2d", tensor(3, 9, 7, 4, 3), 5, 4, 2, (3, 3), (2, 2), (1, 1, 1, 1)),
    conv_spec("conv2d", IMAGE, 7, 8, 8, (3, 3), (2, 2), (0, 0, 1, 1)),
    conv_spec("depthwise_conv2d", tensor(5, 7, 9, 8, 9), 5, 8, 8, (3, 3), (1, 1), (1,) * 4),
    conv_spec("dense", tensor(29, 1, 1, 8, 5), 11, 8, 4),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_untensorized_equals_the_reference(spec: KernelSpec) -> None:
    case = weighted_case(spec, 3)
    built = tvm.compile(IRModule({spec.symbol: primfunc(spec)}), target="llvm")
    x = pack_map(stored(case.inputs[0], spec.x), spec.x)
    shape, dtype = spec.output.buffer
    y = tvm.runtime.tensor(np.zeros(shape, dtype))
    weights = case.weights.reshape(-1) if spec.op == "depthwise_conv2d" else case.weights
    operands = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in (x, weights, case.icn)]
    built[spec.symbol](*operands, spec.x.height, shape[0], 0, spec.output.height, y)
    actual = unpack_map(y.numpy(), spec.output)
    assert (actual.reshape(-1) == case.expected.reshape(-1)).all()
