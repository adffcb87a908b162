"""Who chooses the widths: a policy maps byte budgets to a BitPlan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.bit_program import (
    flash_limit,
    fullest_limit,
    paper_plan_text,
    sensitivity_bit_plan,
    two_tensor_limits,
)
from tvm_mpq.quant.bit_search import RamModel, paper_bit_plan, uniform_bit_plan
from tvm_mpq.quant.network import FloatNetwork
from tvm_mpq.specs import WEIGHT_WIDTHS, WIDTHS, LayerSpec

POLICIES = ("paper", "sensitivity")
_IMAGES = 64


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
    """The widths of least measured damage under the same budgets.

    Damages are measured once, on the first use; those of activations only if the RAM asks for cuts.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        network: FloatNetwork,
        images: npt.NDArray[np.uint8],
        cache: Path | None = None,
        widths: Sequence[int] = WEIGHT_WIDTHS,
    ) -> None:
        self._layers, self._network, self._cache = layers, network, cache
        self._widths = tuple(widths)
        self._images = images[:_IMAGES]
        self._damage: dict[bool, Any] = {}

    def plan(self, flash: int, ram: int, ram_model: RamModel | None = None) -> BitPlan:
        """Widths for budgets in bytes. Raises DoesNotFitError.

        ``ram_model`` (row streaming) knows bytes only for given widths: solve, ask it, and where it
        says too much add a limit on the tensors that fill the memory there, until it agrees.
        """
        eight = uniform_bit_plan(self._layers, 8, 8)
        needed = eight.rw_bytes if ram_model is None else ram_model(eight.activations)[0]
        damage = self._measured(needed > ram)
        limits = [flash_limit(self._layers, flash, self._widths)]
        if ram_model is None:
            limits += two_tensor_limits(self._layers, ram)
            return sensitivity_bit_plan(self._layers, damage, limits, flash, ram, self._widths)
        while True:
            plan = sensitivity_bit_plan(
                self._layers, damage, limits, flash, ram, self._widths, "streamed"
            )
            needed, alive = ram_model(plan.activations)
            if needed <= ram:
                return plan
            limits.append(fullest_limit(self._layers, plan.activations, needed, alive, ram))

    def compared(self, plan: BitPlan, flash: int, ram: int) -> list[Any]:
        """``plan`` beside the paper's: policy, activations, weights, bytes, predicted damage."""
        damage = self._damage.get(True) or self._damage[False]
        return [list(row) for row in paper_plan_text(self._layers, damage, plan, flash, ram)]

    def _measured(self, activations: bool) -> Any:
        from tvm_mpq.quant.sensitivity import measure_damage

        if activations not in self._damage:
            eight = uniform_bit_plan(self._layers, 8, 8)
            self._damage[activations] = measure_damage(
                self._network, eight, self._images, self._cache, self._widths, activations
            )
        return self._damage[activations]
