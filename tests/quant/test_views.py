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


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(InvalidValueError, match="image 0 is 4 x 9; expected at least 6 x 6"):
        RandomViews([(np.zeros((4, 9, 3), np.uint8), 0)], (6, 6))[0]
    with pytest.raises(InvalidValueError, match="blended 2; expected a share"):
        RandomViews([], (6, 6), blended=2)
