"""NaN and infinity are refused where they come in: further on they turn into codes, silently."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_mpq.errors import InvalidValueError


def check_finite(what: str, values: Any, fix: str) -> None:
    """Raise InvalidValueError unless all numbers of an array are finite.

    ``what`` names the user's layer and which of its values these are; ``fix`` is what to do.
    """
    finite = np.isfinite(values)
    if not finite.all():
        bad = finite.size - int(np.count_nonzero(finite))
        raise InvalidValueError(
            f"{what}: {bad} of {finite.size} numbers are NaN or infinite; {fix}"
        )
