"""Canonicalize: before and after, operator by operator, and what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from relay_passes import Canonicalize
from relay_passes.graph import shape_of
from tests.relay_passes.networks import SHAPE, Sequence, imported, op_counts, small_net
from tvm_mpq._tvm_compat import IRModule, relax
from tvm_mpq.errors import InvalidValueError, UnsupportedOperatorError
from tvm_mpq.frontends import from_torch

pytestmark = pytest.mark.null


class Padded(nn.Module):
    """A padding of its own before a convolution, as SAME needs with stride 2."""

    def __init__(self, widths: tuple[int, ...] = (0, 1, 0, 1), value: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.widths = widths
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.pad(x, self.widths, value=self.value))


def canonical(model: nn.Module) -> IRModule:
    return Canonicalize()(imported(model.eval()))


def test_small_net_before_and_after() -> None:
    before = imported(small_net())
    assert op_counts(before) == {
        "nn.conv2d": 4,
        "nn.batch_norm": 3,
        "clip": 2,
        "reshape": 2,
        "add": 4,
        "nn.relu": 2,
        "concat": 1,
        "nn.max_pool2d": 1,
        "zeros_like": 1,
        "mean": 1,
        "permute_dims": 1,
        "matmul": 1,
    }
    assert op_counts(Canonicalize()(before)) == {
        "nn.conv2d": 4,
        "nn.batch_norm": 3,
        "clip": 2,
        "reshape": 1,  # the flatten after the mean; those of constants are gone
        "add": 4,
        "nn.relu": 2,
        "concat": 1,
        "nn.max_pool2d": 1,
        "mean": 1,
        "matmul": 1,
    }


def test_twice_is_once() -> None:
    once = canonical(small_net())
    assert op_counts(Canonicalize()(once)) == op_counts(once)


def test_pad_becomes_the_windows_padding() -> None:
    mod = canonical(Padded())
    assert "nn.pad" not in op_counts(mod)
    (conv,) = (value for value in _calls(mod) if str(value.op.name) == "relax.nn.conv2d")
    # pad (left 0, right 1, top 0, bottom 1) + padding 1 --> top, left, bottom, right
    assert [int(v) for v in conv.attrs.padding] == [1, 1, 2, 2]
    assert [int(v) for v in conv.attrs.strides] == [2, 2]


def _calls(mod: IRModule) -> list[relax.Call]:
    values = [binding.value for block in mod["main"].body.blocks for binding in block.bindings]
    return [value for value in values if isinstance(value, relax.Call)]


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: functional.adaptive_avg_pool2d(x, 1),
        lambda x: functional.avg_pool2d(x, x.shape[2:]),
    ],
)
def test_every_spelling_of_a_mean_over_the_map(pool: object) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), _Apply(pool))
    counts = op_counts(canonical(model))
    assert counts.pop("nn.conv2d") == 1
    assert counts.pop("mean") == 1
    assert set(counts) <= {"add", "reshape"}


class _Apply(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)  # type: ignore[operator]


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_softmax_at_the_end_is_dropped(last: nn.Module) -> None:
    model = nn.Sequential(Sequence(torch.relu), last)
    assert op_counts(canonical(model)) == op_counts(canonical(model[0]))


def test_softmax_elsewhere_stays() -> None:
    """It moves values, so it must reach FuseBlocks, which refuses it."""
    counts = op_counts(canonical(Sequence(lambda x: torch.softmax(x, 1))))
    assert counts["nn.softmax"] == 1


def test_dropout_of_an_eval_model_leaves_nothing() -> None:
    model = nn.Sequential(Sequence(torch.relu), nn.Dropout(0.5))
    assert op_counts(canonical(model)) == op_counts(canonical(model[0]))


def test_result_is_no_tuple() -> None:
    mod = canonical(small_net())
    assert isinstance(mod["main"].ret_ty, relax.TensorType)
    assert shape_of(mod["main"].body.body) == (1, 5)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Sequence(lambda x: functional.max_pool2d(x, 2, 2, ceil_mode=True)), ["ceil_mode"]),
        (
            Sequence(lambda x: functional.max_pool2d(x, 2, 2, dilation=2)),
            ["max_pool2d", "dilation"],
        ),
        (Sequence(lambda x: functional.avg_pool2d(x, 2)), ["avg_pool2d", "[2, 2]", "whole map"]),
        (Sequence(lambda x: functional.adaptive_avg_pool2d(x, 2)), ["adaptive", "1x1"]),
        (Sequence(lambda x: x.mean(1, keepdim=True), 1), ["mean", "axes [1]"]),
        (nn.Conv2d(3, 4, 3, dilation=2), ["conv2d", "dilation [2, 2]", "Only dilation 1"]),
        (Padded(value=1.0), ["nn.pad", "other than 0"]),
    ],
)
def test_unsupported_forms(model: nn.Module, words: list[str]) -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        canonical(model)
    assert all(word in str(caught.value) for word in words), caught.value


def test_several_outputs() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.relu(x), x + x

    with pytest.raises(UnsupportedOperatorError, match="2 outputs.*single output"):
        canonical(Two())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(poison: float) -> None:
    model = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        model.weight[1, 2, 0, 0] = poison
    with pytest.raises(InvalidValueError, match=r"weight: 1 of 108 numbers are NaN or infinite"):
        canonical(model)


def test_batch_norm_in_training_mode() -> None:
    program = torch.export.export(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train(), (torch.zeros(1, 3, 8, 8),)
    )
    with pytest.raises(UnsupportedOperatorError, match=r"eval\(\)"):
        from_torch(program)


def test_a_batch_of_images() -> None:
    with pytest.raises(InvalidValueError, match=r"\[2, 3, 13, 14\].*one image at a time"):
        from_torch(nn.Conv2d(3, 4, 3).eval(), torch.zeros(2, 3, *SHAPE[:2]))


def test_a_dynamic_shape() -> None:
    height = torch.export.Dim("height", min=8, max=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            nn.Conv2d(3, 4, 3).eval(), (torch.zeros(1, 3, 16, 8),), dynamic_shapes=({2: height},)
        )
    with pytest.raises(InvalidValueError, match="dynamic.*fixed example input"):
        from_torch(program)


def test_unbound_weights() -> None:
    x = relax.Var("x", relax.TensorType((1, 3, 8, 8), "float32"))
    w = relax.Var("w", relax.TensorType((4, 3, 3, 3), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w]):
        with builder.dataflow():
            result = builder.emit_output(relax.op.nn.conv2d(x, w))
        builder.emit_func_output(result)
    with pytest.raises(InvalidValueError, match=r"2 inputs \(x, w\).*BindParams"):
        Canonicalize()(builder.get())


def test_nothing_is_printed_by_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """TVM warns of blocks that an exception leaves open; the user must see the error only."""
    with pytest.raises(UnsupportedOperatorError):
        canonical(nn.Conv2d(3, 4, 3, dilation=2))
    assert "BlockBuilder" not in capfd.readouterr().err


def test_constants_keep_their_values() -> None:
    """permute_dims of the classifier's weights is computed, not dropped."""
    model = small_net()
    (matmul,) = (c for c in _calls(canonical(model)) if str(c.op.name) == "relax.matmul")
    mod = canonical(model)
    bound = {b.var: b.value for block in mod["main"].body.blocks for b in block.bindings}
    (matmul,) = (c for c in _calls(mod) if str(c.op.name) == "relax.matmul")
    weights = bound.get(matmul.args[1], matmul.args[1]).value.numpy()
    expected = model.classifier.weight.detach().numpy().T  # type: ignore[union-attr]
    assert np.array_equal(weights, expected)
