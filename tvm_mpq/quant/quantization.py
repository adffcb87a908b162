"""How the codes of one tensor become real numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOGITS_BITS = 32


@dataclass(frozen=True)
class Quantization:
    """How codes of a tensor become real: real = scale * (code - zero_point) + offset."""

    scale: float
    zero_point: int
    bits: int
    offset: float = 0.0

    @staticmethod
    def of_range(low: float, high: float, bits: int) -> Quantization:
        """The uniform quantizer of [low, high]; 0 is always a code."""
        steps = (1 << bits) - 1
        scale = (high - low) / steps
        return Quantization(scale, int(np.clip(round(-low / scale), 0, steps)), bits)

    @property
    def max_code(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def dtype(self) -> str:
        """The Relax dtype that shows the width."""
        return "int32" if self.bits == LOGITS_BITS else f"uint{self.bits}"
