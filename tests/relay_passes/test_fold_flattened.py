"""FoldFlattened: what is done to features on their own goes into the dense layer, exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from relay_passes import Canonicalize, FoldFlattened
from relay_passes.evaluate import evaluate_float
from tests.relay_passes.networks import fused, imported, op_counts, random_images, randomized
from tvm_mpq.errors import UnsupportedOperatorError

pytestmark = pytest.mark.null
SHAPE = (4, 5, 3)
IMAGES = random_images(16, SHAPE)
REAL = torch.from_numpy(IMAGES.astype(np.float32) / 127.5 - 1.0).permute(0, 3, 1, 2)


class Tail(nn.Module):
    """Convolution, ``inner``, flatten, ``middle`` over the features, classifier."""

    def __init__(
        self,
        middle: Callable[[torch.Tensor], torch.Tensor] | nn.Module,
        channels: int = 6,
        pooled: bool = False,
        activation: bool = True,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.middle, self.pooled, self.activation = middle, pooled, activation
        features = channels if pooled else channels * SHAPE[0] * SHAPE[1]
        self.hidden = nn.Linear(features, hidden) if hidden else None
        self.classifier = nn.Linear(hidden or features, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        y = y.relu() if self.activation else y
        y = (y.mean((2, 3), keepdim=True) if self.pooled else y).flatten(1)
        y = self.hidden(y).relu() if self.hidden is not None else y
        return self.classifier(self.middle(y))


@pytest.fixture(autouse=True)
def quick_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are compared with torch here, which takes the place of the import's own proof."""
    monkeypatch.setattr("tvm_mpq.frontends.proof.check_import", lambda *_: None)


def check(model: nn.Module) -> None:
    """The blocks compute what torch does in float64."""
    mod = fused(model, SHAPE)
    assert op_counts(mod).keys() <= {
        "mpq.conv2d", "mpq.dense", "mpq.global_avg_pool"
    }  # fmt: skip
    wanted = model.double()(REAL.double()).detach().numpy()
    model.float()
    error = np.abs(evaluate_float(mod, REAL.numpy()) - wanted).max()
    assert error < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("channels", "activation"), [(1, True), (4, True), (5, False), (6, False), (20, True)]
)
def test_a_batch_norm_over_flattened_features(channels: int, activation: bool) -> None:
    """Whatever the channels are: one, as many as H or W, as many as H * W."""
    norm = nn.BatchNorm1d(channels * SHAPE[0] * SHAPE[1])
    check(randomized(Tail(norm, channels, activation=activation)))


F = 6 * SHAPE[0] * SHAPE[1]
A, B, C = torch.rand(3, F, generator=torch.Generator().manual_seed(0)) + 0.25
ROW = A[None]
STEPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "on the left": lambda x: A * (B + x),
    "one row": lambda x: x * ROW,
    "several": lambda x: (2.0 - x * A - B) / 3.0 + C,
    "dropout": lambda x: nn.functional.dropout(x, 0.5, False) * A,
}


@pytest.mark.parametrize("name", STEPS)
def test_constants_over_flattened_features(name: str) -> None:
    check(randomized(Tail(STEPS[name])))


def test_a_batch_norm_behind_a_pool_and_behind_an_activation() -> None:
    check(randomized(Tail(nn.BatchNorm1d(6), pooled=True)))
    check(randomized(Tail(nn.BatchNorm1d(7), hidden=7)))


def test_what_a_layer_absorbs_stays_with_it() -> None:
    """A batch norm right behind a dense layer is its own scale, not its reader's."""
    dense = nn.Sequential(nn.Flatten(), nn.Linear(60, 7), nn.BatchNorm1d(7), nn.Linear(7, 5))
    mod = Canonicalize()(imported(randomized(dense), SHAPE))
    assert op_counts(FoldFlattened()(mod)) == op_counts(mod)
    check(dense)


@pytest.mark.parametrize(
    "middle", [nn.Sequential(nn.BatchNorm1d(F), nn.ReLU()), lambda x: (x * A).relu()]
)
def test_an_activation_before_the_dense_layer_is_refused(
    middle: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    with pytest.raises(UnsupportedOperatorError):
        fused(randomized(Tail(middle)), SHAPE)
