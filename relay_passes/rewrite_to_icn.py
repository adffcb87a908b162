"""RewriteToIcn: annotated float blocks --> integer operators on codes.

    mpq.conv2d(x, w, g, h, w_bits=4, y_bits=8, y_ranges=...)           float32 NCHW
        --> mpq.icn_conv2d(X, W, M0, N0, Bq, Zw, x_zero_points=[0], y_zero_point=0, ...)

The input becomes the uint8 NHWC image; the last layer gives int32 logits on one scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from relay_passes.graph import (
    Node,
    Rebuilder,
    name_of,
    nodes,
    op_name,
    output_of,
    shape_of,
    unsupported,
)
from relay_passes.ops import WEIGHTED
from tvm_mpq._tvm_compat import IRModule, constant_array, is_constant, make_call, relax, tvm
from tvm_mpq.quant.calibration import rounding_shift, weight_codes
from tvm_mpq.quant.icn import (
    IcnParams,
    RealLayer,
    icn_params,
    join_params,
    logits_icn_params,
    pool_params,
)
from tvm_mpq.quant.quantization import LOGITS_BITS, Quantization
from tvm_mpq.quant.result import QuantizationResult
from tvm_mpq.specs import WIDTHS, InputSpec


@tvm.transform.module_pass(opt_level=0, name="RewriteToIcn")
class RewriteToIcn:
    """Quantize weights per channel and absorb scales, bias and batch norm into ICN integers.

    Offsets make up for the mean error of the rounded weights (``calibration.rounding_shift``).

    Parameters: ``rounding`` "nearest" (post-training) or "floor" (as trained); ``weight_method``
    "mse" or "max". The logits scale is attached to ``main`` as attribute ``mpq.logits_scale``.
    ``result``: codes, scales, offsets and ranges to use as they are (reconstruction, retraining);
    the widths on the calls must be those of its plan, and its rounding counts.

    Raises AccumulatorOverflowError, UnsupportedOperatorError (the network does not end in a dense
    layer).
    """

    def __init__(
        self,
        input_spec: InputSpec,
        rounding: str,
        weight_method: str,
        result: QuantizationResult | None = None,
    ) -> None:
        self.input_spec = result.input_spec if result else input_spec
        self.rounding = result.rounding if result else rounding
        self.weight_method = weight_method
        self.result = result

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """IRModule -> IRModule."""
        rewriter = _Rewriter(mod, self)
        rewritten = rewriter.transform()
        main = rewritten["main"].with_attr("mpq.logits_scale", float(rewriter.logits_scale))
        rewritten.update_func(rewritten.get_global_var("main"), main)
        return rewritten


class _Rewriter(Rebuilder):
    def __init__(self, mod: IRModule, options: RewriteToIcn) -> None:
        super().__init__(mod)
        self._options = options
        self._nodes = {node.var: node for node in nodes(mod)}
        self._last = output_of(mod)
        self._quant: dict[Any, Quantization] = {}
        self.logits_scale = 1.0
        last = self._nodes.get(self._last)
        if last is None or last.op != "dense" or last.attrs["activation"] != "none":
            found = last.op if last else "the input"
            raise unsupported(
                "main",
                f"the network ends in {found}",
                "It must end in a dense layer without activation, whose outputs are the logits",
            )

    def input(self, old: relax.Var) -> relax.Var:
        spec = self._options.input_spec
        self._quant[old] = Quantization(spec.scale, spec.zero_point, 8, spec.offset)
        _, channels, height, width = shape_of(old)
        return relax.Var(name_of(old), relax.TensorType((1, height, width, channels), "uint8"))

    def convert(self, var: relax.Var, value: Any) -> Any:
        node = self._nodes[var]
        sources = [self._quant[a] for a in node.args if not is_constant(a)]
        convert = getattr(self, f"_{node.op}", self._weighted)
        operands, attrs, quant = convert(node, sources)
        self._quant[var] = quant
        attrs |= {
            "name": node.name,
            "x_bits": [s.bits for s in sources],
            "y_bits": quant.bits,
            "x_zero_points": [s.zero_point for s in sources],
            "y_zero_point": quant.zero_point,
            "y_scale": quant.scale,
            "y_dtype": quant.dtype,
        }
        if self._reads_image(node):
            attrs["x_layout"] = "hwc8"
        activations = [self.new[a] for a in node.args if not is_constant(a)]
        constants = [relax.const(np.ascontiguousarray(operand)) for operand in operands]
        name = op_name(value).removeprefix("mpq.")
        return self.builder.emit(
            make_call(f"mpq.icn_{name}", activations + constants, attrs), name_hint=node.name
        )

    def _reads_image(self, node: Node) -> bool:
        if self._mod["main"].params[0] not in [a for a in node.args if not is_constant(a)]:
            return False
        if node.op not in WEIGHTED or node.op == "depthwise_conv2d":
            raise unsupported(
                node.name, f"{node.op} reads the image", "The first operator must be a convolution"
            )
        return True

    def _range(self, node: Node) -> Quantization:
        """The quantizer of a node's output from its calibrated range and its activation."""
        bits = node.attrs["y_bits"]
        if self._options.result:
            return Quantization.of_range(*self._options.result.ranges[node.name], bits)
        position = 2 * WIDTHS.index(bits)
        low, high = node.attrs["y_ranges"][position : position + 2]
        activation = node.attrs.get("activation", "none")
        if activation != "none":
            low = 0.0
        if activation == "clip":
            high = min(high, node.attrs["clip_max"])
        return Quantization.of_range(low, high, bits)

    def _weighted(self, node: Node, sources: list[Quantization]) -> Any:
        (x,) = sources
        attrs = {"w_bits": node.attrs["w_bits"]}
        bits = node.attrs.get("multiplier_bits", 32)
        attrs |= {} if bits == 32 else {"multiplier_bits": bits}
        layer = self._real_layer(node, x.offset)
        attrs |= {key: node.attrs[key] for key in ("strides", "padding") if key in node.attrs}
        if node.var == self._last:
            icn, codes, scale = logits_icn_params(layer, x.scale, x.zero_point, x.bits, bits)
            self.logits_scale = scale
            quant = Quantization(scale, 0, LOGITS_BITS)
        else:
            quant = self._range(node)
            icn, codes = icn_params(
                layer,
                x.scale,
                x.zero_point,
                x.bits,
                quant.scale,
                quant.zero_point,
                quant.bits,
                self._options.rounding,
                bits,
            )
        return _icn_operands(icn, codes), attrs, quant

    def _real_layer(self, node: Node, x_offset: float) -> RealLayer:
        if self._options.result:
            return replace(self._options.result.layers[node.name], x_offset=x_offset)
        weights, g, h = (constant_array(arg) for arg in node.args[1:])
        codes, zw, sw = weight_codes(weights, node.attrs["w_bits"], self._options.weight_method)
        h = h - g * rounding_shift(weights, codes, zw, sw, np.array(node.attrs["x_means"]))
        return RealLayer(node.name, codes, zw, sw, g, h, x_offset)

    def _add(self, node: Node, sources: list[Quantization]) -> Any:
        quant = self._range(node)
        m, shift = join_params("add", np.array([s.scale for s in sources]) / quant.scale)
        return [], {"m": m, "shift": shift[0], "nearest": self._nearest}, quant

    def _concat(self, node: Node, sources: list[Quantization]) -> Any:
        quant = self._range(node)
        m, shift = join_params("concat", np.array([s.scale for s in sources]) / quant.scale)
        return [], {"m": m, "shift": shift, "nearest": self._nearest}, quant

    def _max_pool2d(self, node: Node, sources: list[Quantization]) -> Any:
        return [], {key: node.attrs[key] for key in ("window", "strides", "padding")}, sources[0]

    def _global_avg_pool(self, node: Node, sources: list[Quantization]) -> Any:
        (x,) = sources
        pixels = int(np.prod(shape_of(node.args[0])[2:]))
        result = self._options.result
        has_range = result is not None and node.name in result.ranges
        quant = self._range(node) if has_range else Quantization(x.scale, x.zero_point, x.bits)
        m, shift, bq = pool_params(pixels, x.scale / quant.scale)
        return [], {"m": m, "shift": shift, "bq": bq}, quant

    @property
    def _nearest(self) -> int:
        return int(self._options.rounding == "nearest")


def _icn_operands(icn: IcnParams, codes: Any) -> list[Any]:
    return [codes, icn.m0, icn.n0, icn.bq, icn.zw]
