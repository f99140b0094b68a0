"""Batches of images in the input format of a model."""

# B batch, C channels, H height, W width

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from splitfl.core.errors import ConfigError, DataError, ModelMissing
from splitfl.core.folder_cache import cached_by_files
from splitfl.data.batch import Batch
from splitfl.data.examples import Examples, Ints
from splitfl.data.pictures import Pictures
from splitfl.data.text_kinds import PictureFile

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

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


class PictureFiles:
    """Pictures as a model takes them, through the image processor of its folder; see `Rows`."""

    skipped = 0

    def __init__(self, examples: Examples, model_folder: Path, shown: Format) -> None:
        self._examples = examples
        self._processor: Any = _processor(model_folder)
        self._shown = shown
        if shown.channels != 3:
            raise ConfigError(
                f"pictures of files have 3 channels, and the model in {model_folder} takes {shown.channels}"
            )

    def __len__(self) -> int:
        return len(self._examples)

    def shortest_first(self) -> Ints:
        """See Rows: all are of one size, and stay in their order."""
        return torch.arange(len(self)).numpy()

    def collated(self, indices: Ints) -> Batch:
        """See Rows. Raises ConfigError where the processor makes pictures of another size than the model."""
        files = [self._examples.texts[index] for index in indices]
        pictures = [_opened(file) for file in files if isinstance(file, PictureFile)]
        values_BCHW = self._processor(pictures, return_tensors="pt")["pixel_values"]
        side = self._shown.side
        if values_BCHW.shape[-2:] != (side, side):
            got = "x".join(map(str, values_BCHW.shape[-2:]))
            raise ConfigError(
                f"preprocessor_config.json makes pictures of {got} and the model takes {side}x{side}: set "
                "its size and crop_size"
            )
        assert self._examples.labels is not None
        return Batch(
            ids_B=torch.tensor(indices, dtype=torch.int64),
            inputs={"pixel_values": values_BCHW.to(torch.float32)},
            labels=torch.from_numpy(self._examples.labels[indices]),
            tokens=self._shown.tokens,
        )


@cached_by_files
def _processor(folder: Path) -> "BaseImageProcessor":
    from transformers import AutoImageProcessor

    if not (folder / "preprocessor_config.json").is_file():
        raise ModelMissing(
            f"{folder} has no preprocessor_config.json, which says how the model's pictures are scaled: take "
            "it from the checkpoint, or write one by save_pretrained of an image processor of transformers"
        )
    load: Any = AutoImageProcessor.from_pretrained
    made: BaseImageProcessor = load(folder, local_files_only=True)
    return made


def _opened(file: PictureFile) -> Image.Image:
    """The picture upright, as its camera noted, as in transformers' `load_image`."""
    try:
        with Image.open(file.path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot read {file.path}: {error}") from None


def shown(pixels_BHW: npt.NDArray[np.uint8], to: Format) -> Tensor:
    """(B, C, H, W) float32, normalised by MNIST's mean and deviation, resized bilinearly, channels equal."""
    values_B1HW = torch.from_numpy(pixels_BHW).to(torch.float32).div_(255)[:, None]
    if values_B1HW.shape[-1] != to.side:
        values_B1HW = torch.nn.functional.interpolate(
            values_B1HW, size=(to.side, to.side), mode="bilinear", align_corners=False
        )
    normal_B1HW = (values_B1HW - MNIST_MEAN) / MNIST_STD
    return normal_B1HW.expand(-1, to.channels, -1, -1).contiguous()
