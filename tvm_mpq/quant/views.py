"""Random views of few images: other crops in every epoch, the same ones when a run is repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage
from PIL import ImageEnhance
from torch.utils.data import Dataset

from tvm_mpq.errors import InvalidValueError

Image = npt.NDArray[np.uint8]
_LARGEST_ZOOM = 4.0


class RandomViews(Dataset[tuple[torch.Tensor, Any]]):
    """Crops of (uint8 [H, W, C], label) pairs at random places, half of them mirrored.

    Without zoom crops are not resized: things keep the size that they have in whole images.

    Parameters
    ----------
    data: a dataset, or a list, of images at least as large as ``size``, [height, width].
    blended: share of the crops that another image's crop is mixed into, half of it at most, for
        distillation: of images that it was trained on the float network is surer than of new ones,
        and says less about its other classes. The label is that of the larger part.
    zoom: crops are up to 2**zoom times larger or smaller than ``size`` and resized to it. colour:
        share by which saturation, contrast and brightness vary. Both stand for the images that are
        not among the few: from another camera, at another distance.

    Raises InvalidValueError, when an item is read: an image smaller than ``size``.
    """

    def __init__(
        self,
        data: Any,
        size: tuple[int, int],
        seed: int = 0,
        blended: float = 0.0,
        zoom: float = 0.0,
        colour: float = 0.0,
    ) -> None:
        for name, value in (("blended", blended), ("colour", colour)):
            if not 0.0 <= value <= 1.0:
                raise InvalidValueError(f"views: {name} {value}; expected a share, 0 to 1")
        if not 0.0 <= zoom <= _LARGEST_ZOOM:
            raise InvalidValueError(f"views: zoom {zoom}; expected 0 to {_LARGEST_ZOOM}")
        self._data, self._size, self._seed, self._blended = data, size, seed, blended
        self._zoom, self._colour = zoom, colour
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
        largest = min(image.shape[0] / height, image.shape[1] / width)
        if largest < 1.0:
            raise InvalidValueError(
                f"views: image {index} is {image.shape[0]} x {image.shape[1]}; expected at least"
                f" {height} x {width}"
            )
        size = min(2.0 ** random.uniform(-self._zoom, self._zoom), largest) if self._zoom else 1.0
        rows, columns = round(height * size), round(width * size)
        top, left = random.integers(0, [image.shape[0] + 1 - rows, image.shape[1] + 1 - columns])
        view = image[top : top + rows, left : left + columns]
        if self._zoom or self._colour:
            view = self._varied(view, random)
        return (view[:, ::-1] if random.random() < 0.5 else view), label

    def _varied(self, view: Image, random: np.random.Generator) -> Image:
        height, width = self._size
        picture = PillowImage.fromarray(view[:, :, 0] if view.shape[2] == 1 else view)
        picture = picture.resize((width, height), PillowImage.Resampling.BILINEAR)
        for enhance in (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness):
            factor = random.uniform(1.0 - self._colour, 1.0 + self._colour)
            picture = enhance(picture).enhance(factor)
        return np.array(picture).reshape(height, width, view.shape[2])
