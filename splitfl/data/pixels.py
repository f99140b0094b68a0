"""Batches of images in the input format of a model."""

# B batch, C channels, H height, W width

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from splitfl.data.batch import Batch
from splitfl.data.examples import Ints
from splitfl.data.pictures import Pictures

MNIST_MEAN, MNIST_STD = 0.1307, 0.3081
"""Of the training images' pixels in [0, 1]; the usual values, verified on the data."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A model's input format: pixels per side, channels, and tokens per image."""

    side: int
    channels: int
    tokens: int = 0


class Pixels:
    """Images in a model's input format; implements `splitfl.data.loader.Rows`."""

    skipped = 0

    def __init__(self, pictures: Pictures, shown: Format) -> None:
        self._pictures = pictures
        self._shown = shown

    def __len__(self) -> int:
        return len(self._pictures)

    def shortest_first(self) -> Ints:
        """All indices in order: images have equal size."""
        return np.arange(len(self))

    def collated(self, indices: Ints) -> Batch:
        return Batch(
            ids_B=torch.tensor(indices, dtype=torch.int64),
            inputs={"pixel_values": shown(self._pictures.pixels[indices], self._shown)},
            labels=torch.from_numpy(self._pictures.labels[indices]),
            tokens=self._shown.tokens,
        )


def shown(pixels_BHW: npt.NDArray[np.uint8], to: Format) -> Tensor:
    """(B, C, H, W) float32, normalised by MNIST's mean and deviation, resized bilinearly, channels equal."""
    values_B1HW = torch.from_numpy(pixels_BHW).to(torch.float32).div_(255)[:, None]
    if values_B1HW.shape[-1] != to.side:
        values_B1HW = torch.nn.functional.interpolate(
            values_B1HW, size=(to.side, to.side), mode="bilinear", align_corners=False
        )
    normal_B1HW = (values_B1HW - MNIST_MEAN) / MNIST_STD
    return normal_B1HW.expand(-1, to.channels, -1, -1).contiguous()
