"""What a deployment keeps so that it can be built again with other kernels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.files import convert, finish_install, read_json, read_text, sha256, write_text
from tvm_mpq.memory.rows import INPUT_BUFFERS
from tvm_mpq.memory.stages import MINIMIZE
from tvm_mpq.notes import Note
from tvm_mpq.quant.bit_plan import BitPlan
from tvm_mpq.quant.icn import ROUNDINGS
from tvm_mpq.specs import InputSpec, LayerSpec

if TYPE_CHECKING:
    from tvm_mpq._tvm_compat import IRModule

MEMORY_MODELS = ("streamed", "linked", "two-tensor")
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
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in (
            ("rounding", ROUNDINGS),
            ("memory_model", MEMORY_MODELS),
            ("minimize", MINIMIZE),
            ("input_buffer", INPUT_BUFFERS),
        ):
            if getattr(self, name) not in allowed:
                raise InvalidValueError(
                    f"recipe: {name} {getattr(self, name)!r}; allowed are {', '.join(allowed)}"
                )

    def save(self, folder: Path, module: IRModule) -> None:
        """Write both files into ``folder``."""
        from tvm_mpq._tvm_compat import ir

        text = ir.save_json(module)
        fields = asdict(self) | {"plan": self.plan.to_json()}
        write_text(folder / MODULE_FILE, text)
        write_text(folder / RECIPE_FILE, json.dumps(fields | {"digest": _digest(fields, text)}))

    @staticmethod
    def load(folder: Path) -> tuple[Recipe, IRModule]:
        """Read both files; InvalidValueError when one is missing or damaged."""
        from tvm_mpq._tvm_compat import ir

        finish_install(folder)
        try:
            fields, text = read_json(folder / RECIPE_FILE), read_text(folder / MODULE_FILE)
            # TVM trusts what it reads: it sees only what it wrote.
            if not isinstance(fields, dict) or fields.pop("digest", None) != _digest(fields, text):
                raise InvalidValueError(f"{folder / RECIPE_FILE}: damaged")
            fields["plan"] = BitPlan.from_json(fields["plan"])
            return convert(fields, Recipe, str(folder / RECIPE_FILE)), ir.load_json(text)
        except InvalidValueError as error:
            raise InvalidValueError(f"{error}; compile the network again") from None
        except Exception as error:  # of another TVM release
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise InvalidValueError(
                f"{folder / RECIPE_FILE}: not of this release ({last[:200]}); compile the network"
                " again"
            ) from None


def _digest(fields: dict[str, Any], module: str) -> str:
    return sha256((json.dumps(fields, sort_keys=True) + module).encode())
