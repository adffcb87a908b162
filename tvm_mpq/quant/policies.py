"""Who chooses the widths: a policy maps byte budgets to a BitPlan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import DoesNotFitError
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.bit_program import (
    Limit,
    flash_limit,
    paper_plan_text,
    sensitivity_bit_plan,
    streamed_limit,
    two_tensor_limits,
)
from tvm_mpq.quant.bit_search import RamModel, paper_bit_plan, uniform_bit_plan
from tvm_mpq.quant.network import FloatNetwork
from tvm_mpq.specs import WEIGHT_WIDTHS, WIDTHS, LayerSpec

if TYPE_CHECKING:
    from tvm_mpq.quant.sensitivity import DamageTable

POLICIES = ("paper", "sensitivity")
_IMAGES = 64
_RAM_ROUNDS = 40


class PaperPolicy:
    """Cuts by bytes alone (Algorithms 1 and 2 of arXiv 1905.13082)."""

    def __init__(self, layers: Sequence[LayerSpec], widths: Sequence[int] = WIDTHS) -> None:
        self._layers, self._widths = layers, widths

    def plan(self, flash: int, ram: int, ram_model: RamModel | None = None) -> BitPlan:
        """Widths for budgets in bytes, two tensors or what ``ram_model`` says limiting the RAM.

        Raises DoesNotFitError.
        """
        return paper_bit_plan(self._layers, flash, ram, ram_model=ram_model, widths=self._widths)

    def compared(self, _plan: BitPlan, _flash: int, _ram: int) -> list[Any]:
        """A table of policies; empty, as there is only this one."""
        return []


class SensitivityPolicy:
    """The widths of least measured damage under the same budgets, and under ``limits`` of weights.

    Damages are measured once, on the first use, and only of what the budgets ask to be cut.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        network: FloatNetwork,
        images: npt.NDArray[np.uint8],
        cache: Path | None = None,
        widths: Sequence[int] = WEIGHT_WIDTHS,
        limits: Sequence[Limit] = (),
    ) -> None:
        self._layers, self._network, self._cache = layers, network, cache
        self._widths, self._limits = tuple(widths), tuple(limits)
        self._images = images[:_IMAGES]
        self._damage: dict[bool, DamageTable] = {}

    def plan(self, flash: int, ram: int, ram_model: RamModel | None = None) -> BitPlan:
        """Widths for budgets in bytes. Raises DoesNotFitError.

        ``ram_model``: the bytes that the RAM limits, row-streamed; without it, two tensors.
        """
        eight = uniform_bit_plan(self._layers, 8, 8)
        need = ram_model(eight.activations)[0] if ram_model else eight.rw_bytes
        memory_model = "streamed" if ram_model else "two-tensor"
        if need <= ram and eight.ro_bytes <= flash and self._within_limits(eight):
            eight = replace(eight, policy="sensitivity", memory_model=memory_model)
            return replace(eight, flash_budget=flash, ram_budget=ram)
        damage = self._measured(need > ram)
        limits = [flash_limit(self._layers, flash, self._widths), *self._limits]
        if ram_model is None:
            limits += two_tensor_limits(self._layers, ram)
        for _ in range(_RAM_ROUNDS):
            plan = sensitivity_bit_plan(
                self._layers, damage, limits, flash, ram, self._widths, memory_model
            )
            need, alive = ram_model(plan.activations) if ram_model else (plan.rw_bytes, {})
            if need <= ram:
                return plan
            # The streamed bytes are not linear in the widths: whatever fills the memory now must
            # shrink, and the optimum is sought again.
            limits.append(streamed_limit(self._layers, plan.activations, need, alive, ram))
        raise DoesNotFitError(
            f"bit search: row by row, {need} bytes of RAM are needed, {need - ram} too many, after"
            f" {_RAM_ROUNDS} attempts; give more RAM, or take a lower resolution"
        )

    def _within_limits(self, plan: BitPlan) -> bool:
        widths = {("weights", name): bits for name, bits in plan.weights.items()}
        return all(limit.used(widths) <= limit.budget for limit in self._limits)

    def compared(self, plan: BitPlan, flash: int, ram: int) -> list[Any]:
        """``plan`` beside the paper's: policy, activations, weights, bytes, predicted damage.

        Empty where nothing had to be cut.
        """
        damage = self._damage.get(True) or self._damage.get(False)
        if damage is None:
            return []
        return [list(row) for row in paper_plan_text(self._layers, damage, plan, flash, ram)]

    def _measured(self, activations: bool) -> DamageTable:
        from tvm_mpq.quant.sensitivity import measure_damage

        if activations not in self._damage:
            eight = uniform_bit_plan(self._layers, 8, 8)
            self._damage[activations] = measure_damage(
                self._network, eight, self._images, self._cache, self._widths, activations
            )
        return self._damage[activations]
