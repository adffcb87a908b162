"""Random views: pieces of their images, repeatable, blended where asked."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.quant.views import RandomViews

pytestmark = pytest.mark.null


def test_random_views_are_pieces_and_the_same_each_time() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), np.uint8)
    pairs = list(zip(images, "ab", strict=True))
    one, other = (RandomViews(pairs, (6, 6), seed=1) for _ in range(2))
    assert len(one) == 2
    places, mirrored = set(), set()
    for epoch, index in product(range(8), range(2)):
        one.set_epoch(epoch)
        other.set_epoch(epoch)
        view = one[index][0].numpy()
        assert one[index][1] == "ab"[index]
        assert np.array_equal(view, other[index][0].numpy())
        pieces = {
            (top, left, flip): images[index, top : top + 6, left : left + 6][:, ::flip]
            for top in range(4)
            for left in range(4)
            for flip in (1, -1)
        }
        (found,) = [key for key, piece in pieces.items() if np.array_equal(piece, view)]
        places.add(found[:2])
        mirrored.add(found[2])
    assert len(places) > 4 and mirrored == {1, -1}


def test_blended_views_are_mostly_of_their_own_image() -> None:
    pairs = [(np.full((9, 9, 3), value, np.uint8), value) for value in (0, 100)]
    for blended, count in ((0.0, 0), (0.5, 31), (1.0, 50)):
        views = RandomViews(pairs, (6, 6), blended=blended)
        seen = []
        for epoch in range(50):
            views.set_epoch(epoch)
            values = np.unique(views[1][0].numpy())
            assert len(values) == 1 and values[0] >= 50
            seen.append(values[0] < 100)
        assert sum(seen) <= count and any(seen) == bool(count)


@pytest.mark.parametrize("channels", [1, 3])
def test_zoomed_views_are_resized_pieces_of_several_sizes(channels: int) -> None:
    """On a ramp, the slope of a view tells the size of its piece."""
    ramp = np.broadcast_to(np.arange(60)[None, :, None], (60, 60, channels)).astype(np.uint8)
    views = RandomViews([(ramp, 0)], (20, 20), zoom=1.0)
    slopes = []
    for epoch in range(60):
        views.set_epoch(epoch)
        view = views[0][0].numpy()
        assert view.shape == (20, 20, channels)
        slopes.append(abs(int(view[10, 17, 0]) - int(view[10, 2, 0])) / 15)
    assert 0.4 < min(slopes) < 0.7 and 1.6 < max(slopes) < 2.1
    assert np.median(slopes) == pytest.approx(1.0, abs=0.25)


def test_colours_vary_around_those_of_the_image() -> None:
    image = np.random.default_rng(0).integers(90, 140, (20, 20, 3)).astype(np.uint8)
    views = RandomViews([(image, 0)], (20, 20), colour=0.4)
    seen = np.stack([view_of(views, epoch) for epoch in range(80)]).astype(np.float64)
    means, contrasts = seen.mean((1, 2, 3)), seen.std((1, 2)).mean(1)
    assert 0.58 < means.min() / image.mean() < 0.75 and 1.25 < means.max() / image.mean() < 1.42
    assert contrasts.max() > 1.5 * contrasts.min()
    assert np.array_equal(view_of(views, 3), view_of(views, 3))


def view_of(views: RandomViews, epoch: int) -> np.ndarray:
    views.set_epoch(epoch)
    return views[0][0].numpy()


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(InvalidValueError, match="image 0 is 4 x 9; expected at least 6 x 6"):
        RandomViews([(np.zeros((4, 9, 3), np.uint8), 0)], (6, 6))[0]
    with pytest.raises(InvalidValueError, match="blended 2; expected a share"):
        RandomViews([], (6, 6), blended=2)
    with pytest.raises(InvalidValueError, match="colour 1.5; expected a share"):
        RandomViews([], (6, 6), colour=1.5)
    with pytest.raises(InvalidValueError, match="zoom -1; expected 0 to 4"):
        RandomViews([], (6, 6), zoom=-1)
