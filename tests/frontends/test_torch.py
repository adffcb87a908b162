"""torch modules and exported programs to Relax, and what cannot be imported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from relay_passes.graph import shape_of
from tests.relay_passes.networks import SHAPE, SmallNet, op_counts, small_net
from tvm_mpq.errors import InvalidValueError, UnsupportedOperatorError
from tvm_mpq.frontends import from_torch, load_exported_program

pytestmark = pytest.mark.null

EXAMPLE = torch.zeros(1, SHAPE[2], *SHAPE[:2])


def test_one_input_and_bound_weights() -> None:
    main = from_torch(small_net(), EXAMPLE)["main"]
    assert [shape_of(parameter) for parameter in main.params] == [(1, 3, 13, 14)]


def test_module_program_and_file_are_the_same(tmp_path: Path) -> None:
    program = torch.export.export(small_net(), (EXAMPLE,))
    torch.export.save(program, tmp_path / "model.pt2")
    counts = [
        op_counts(mod)
        for mod in (
            from_torch(small_net(), EXAMPLE),
            from_torch(program),
            load_exported_program(tmp_path / "model.pt2"),
        )
    ]
    assert counts[0] == counts[1] == counts[2] and counts[0]["nn.conv2d"] == 4


def test_training_mode() -> None:
    with pytest.raises(InvalidValueError, match=r"training mode; call model\.eval\(\)"):
        from_torch(SmallNet().train(), EXAMPLE)


def test_no_example_input() -> None:
    with pytest.raises(InvalidValueError, match="example_input is NoneType; expected a float32"):
        from_torch(small_net())


def test_a_model_that_torch_cannot_export() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InvalidValueError, match="torch.export failed"):
        from_torch(Branching().eval(), EXAMPLE)


@pytest.mark.parametrize(
    "function",
    [lambda x: torch.fft.fft(x).real, lambda x: torch.max_pool2d(x, 2, padding=1)],
    ids=["unknown operator", "a form the importer trips over"],
)
def test_an_operator_that_tvm_does_not_import(function: object) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)  # type: ignore[operator]

    with pytest.raises(UnsupportedOperatorError, match="TVM cannot import it: .*Rewrite") as caught:
        from_torch(Odd().eval(), EXAMPLE)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_program(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="no such file"):
        load_exported_program(tmp_path / "none.pt2")
    torch.save(small_net().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InvalidValueError, match="not a torch exported program.*torch.export.save"):
        load_exported_program(tmp_path / "weights.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_models_of_other_types_say_so(dtype: torch.dtype, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    example, name = torch.zeros(1, 3, 4, 4), str(dtype).removeprefix("torch.")
    with pytest.raises(InvalidValueError, match=rf"it is {name} .*example_input.float\(\)"):
        from_torch(model, example.to(dtype))
    model.to(dtype)
    for given in (example, example.to(dtype)):
        with pytest.raises(InvalidValueError, match=rf"is {name} \(0.weight\); call model.float"):
            from_torch(model, given)
    torch.export.save(torch.export.export(model, (example.to(dtype),)), tmp_path / "a.pt2")
    with pytest.raises(InvalidValueError, match=rf"is {name} .*before torch.export"):
        load_exported_program(tmp_path / "a.pt2")
    assert from_torch(model.float(), example) is not None
