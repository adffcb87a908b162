"""MetaSchedule, imported without the intrinsics of other machines.

``TuneContext`` imports ``tvm.s_tir.tensor_intrin``, which parses about a hundred CUDA and x86
functions (a minute); none of them is ours, so an empty module takes its place.
"""

from __future__ import annotations

import sys
import types

from tvm_mpq import _tvm_compat  # noqa: F401  (checks the versions first)

sys.modules.setdefault("tvm.s_tir.tensor_intrin", types.ModuleType("tvm.s_tir.tensor_intrin"))

from tvm.ir.utils import derived_object  # noqa: E402
from tvm.s_tir import meta_schedule  # noqa: E402

__all__ = ["derived_object", "meta_schedule"]
