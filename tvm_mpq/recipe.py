"""What a deployment keeps so that it can be built again with other kernels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.specs import InputSpec, LayerSpec

if TYPE_CHECKING:
    from tvm_mpq._tvm_compat import IRModule

RECIPE_FILE = "recipe.json"
MODULE_FILE = "integer.json"


@dataclass(frozen=True)
class Recipe:
    """The options of ``build`` that come after quantization, and its bit plan.

    The integer module, with canonical weights, lies beside it as TVM writes it: only the TVM
    release that wrote it reads it.
    """

    layers: tuple[LayerSpec, ...]
    plan: BitPlan
    input_spec: InputSpec
    rounding: str
    name: str
    memory_model: str
    minimize: str
    input_buffer: str
    policies: list[Any]

    def save(self, folder: Path, module: IRModule) -> None:
        """Write both files into ``folder``."""
        from tvm_mpq._tvm_compat import ir

        fields = asdict(self) | {"plan": self.plan.to_json()}
        (folder / RECIPE_FILE).write_text(json.dumps(fields))
        (folder / MODULE_FILE).write_text(ir.save_json(module))

    @staticmethod
    def load(folder: Path) -> tuple[Recipe, IRModule]:
        """Read both files; InvalidValueError when one is missing or damaged."""
        from tvm_mpq._tvm_compat import ir

        try:
            fields = json.loads((folder / RECIPE_FILE).read_text())
            layers = [
                layer | {name: tuple(layer[name]) for name in ("x", "x_elements")}
                for layer in fields["layers"]
            ]
            fields |= {
                "layers": tuple(LayerSpec(**layer) for layer in layers),
                "plan": BitPlan.from_json(fields["plan"]),
                "input_spec": InputSpec(**fields["input_spec"]),
            }
            return Recipe(**fields), ir.load_json((folder / MODULE_FILE).read_text())
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).name
            raise InvalidValueError(f"{folder}: no {missing}; compile the network again") from None
        except Exception as error:  # TVM raises whatever its JSON reader raises
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise InvalidValueError(
                f"{folder / RECIPE_FILE}: damaged ({last[:200]}); compile the network again"
            ) from None
