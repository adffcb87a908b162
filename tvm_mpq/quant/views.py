"""Random views of few images: other crops in every epoch, the same ones when a run is repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from tvm_mpq.errors import InvalidValueError

Image = npt.NDArray[np.uint8]


class RandomViews(Dataset[tuple[torch.Tensor, Any]]):
    """Crops of (uint8 [H, W, C], label) pairs at random places, half of them mirrored.

    Crops are not resized, so that things keep the size that they have in whole images.

    Parameters
    ----------
    data: a dataset, or a list, of images at least as large as ``size``, [height, width].
    blended: share of the crops that another image's crop is mixed into, half of it at most, for
        distillation: of images that it was trained on the float network is surer than of new ones,
        and says less about its other classes. The label is that of the larger part.

    Raises InvalidValueError, when an item is read: an image smaller than ``size``.
    """

    def __init__(
        self, data: Any, size: tuple[int, int], seed: int = 0, blended: float = 0.0
    ) -> None:
        if not 0.0 <= blended <= 1.0:
            raise InvalidValueError(f"views: blended {blended}; expected a share, 0 to 1")
        self._data, self._size, self._seed, self._blended = data, size, seed, blended
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Whose views to show."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        random = np.random.default_rng((self._seed, self._epoch, index))
        view, label = self._view(index, random)
        if random.random() < self._blended:
            share, other = random.uniform(0.5, 1.0), int(random.integers(len(self)))
            mixed = share * view + (1.0 - share) * self._view(other, random)[0]
            view = np.rint(mixed).astype(np.uint8)
        return torch.from_numpy(np.ascontiguousarray(view)), label

    def _view(self, index: int, random: np.random.Generator) -> tuple[Image, Any]:
        image, label = self._data[index]
        image, (height, width) = np.asarray(image), self._size
        rows, columns = image.shape[0] + 1 - height, image.shape[1] + 1 - width
        if min(rows, columns) < 1:
            raise InvalidValueError(
                f"views: image {index} is {image.shape[0]} x {image.shape[1]}; expected at least"
                f" {height} x {width}"
            )
        top, left = random.integers(0, [rows, columns])
        view = image[top : top + height, left : left + width]
        return (view[:, ::-1] if random.random() < 0.5 else view), label
