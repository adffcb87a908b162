"""Expected cycles of a float network, from tuned kernels."""

from __future__ import annotations

import pytest

from relay_passes.latency import layer_cycles
from tests.relay_passes.networks import imported, random_images, small_net
from tvm_mpq.errors import InvalidValueError
from tvm_mpq.kernels.tuned import TunedRecord, TunedTable
from tvm_mpq.pipeline import calibrate, quantize
from tvm_mpq.quant.bit_search import uniform_bit_plan
from tvm_mpq.specs import WEIGHT_WIDTHS, InputSpec
from tvm_mpq.target import Target

pytestmark = pytest.mark.null


def test_cycles_scale_with_the_layer() -> None:
    """A table of every layer of the network at half a cycle a MAC gives just that."""
    model = calibrate(imported(small_net()), random_images(4), InputSpec())
    table = TunedTable()
    for bits in (8, 4, 2):
        plan = uniform_bit_plan(model.layers, 8, bits)
        program = quantize(model, plan, Target("stm32h7")).program
        specs = [step.spec for step in program.steps if step.spec.w_bits]
        table = table.over(TunedTable(TunedRecord.of(s, s.macs // 2) for s in specs))
    found = layer_cycles(model.module, WEIGHT_WIDTHS, table)
    macs = {layer.name: layer.macs for layer in model.layers if layer.weight_elements}
    assert set(found) == set(macs)
    for name, costs in found.items():
        assert set(costs) >= {8, 4, 2}
        assert all(cost == pytest.approx(macs[name] / 2, abs=1) for cost in costs.values())
    assert any(3 in costs for costs in found.values())


def test_unknown_layers_are_told() -> None:
    model = calibrate(imported(small_net()), random_images(4), InputSpec())
    with pytest.raises(
        InvalidValueError, match="no tuned kernel is near layer conv2d_0 .*leave the latency out"
    ):
        layer_cycles(model.module, WEIGHT_WIDTHS, TunedTable())
