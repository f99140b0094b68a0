"""Labelled images from an .npz file, in an order that does not depend on the file's."""

# N images, H height, W width

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitfl.core.errors import DataError
from splitfl.data.examples import Ints

FILE = "mnist.npz"
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Greyscale images (N, H, W) uint8 with labels (N,), sorted by their unique keys, as texts are."""

    pixels: npt.NDArray[np.uint8]
    labels: Ints
    keys: Ints

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def groups(self) -> tuple[str, ...]:
        """The label of each image as its group: a natural partition assigns whole classes to clients."""
        return tuple(str(label) for label in self.labels)

    def take(self, indices: Ints) -> "Pictures":
        """The images at these indices, in this order."""
        return Pictures(pixels=self.pixels[indices], labels=self.labels[indices], keys=self.keys[indices])

    def first(self, limit: int) -> "Pictures":
        """The first `limit` images; 0 is all."""
        return self if limit == 0 else self.take(np.arange(min(limit, len(self))))


def load_pictures(data: Path) -> tuple[Pictures, Pictures]:
    """The training and held-out images in mnist.npz, given as the file or its folder.

    Raises DataError if it is missing, damaged, or has other arrays than Keras's MNIST.
    """
    path = data / FILE if data.is_dir() else data
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if missing := [name for name in ARRAYS if name not in archive]:
                raise DataError(f"{path} lacks {', '.join(missing)}; it must hold {', '.join(ARRAYS)}")
            arrays = {name: archive[name] for name in ARRAYS}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"cannot read {path}: {str(error) or type(error).__name__}; give --data FOLDER with {FILE}"
        ) from None
    train = _gathered(path, "train", arrays["x_train"], arrays["y_train"])
    held_out = _gathered(path, "test", arrays["x_test"], arrays["y_test"])
    if unknown := sorted(set(held_out.labels.tolist()) - set(train.labels.tolist())):
        raise DataError(f"{path}: y_test has classes that y_train lacks: {unknown}")
    return train, held_out


def _gathered(path: Path, part: str, pixels: npt.NDArray[np.uint8], labels: Ints) -> Pictures:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or not pixels.size:
        got = f"{pixels.dtype} {pixels.shape}"
        raise DataError(f"{path}: x_{part} must be square greyscale images (N, H, H) uint8, got {got}")
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: y_{part} must be {len(pixels)} whole numbers, got {labels.dtype} {labels.shape}"
        )
    digests = [hashlib.blake2b(one.tobytes(), digest_size=8).digest() for one in pixels]
    keys = np.array([int.from_bytes(digest, "little") >> 1 for digest in digests], dtype=np.int64)
    by_key = np.lexsort((np.arange(len(keys)), keys))
    return Pictures(pixels=pixels[by_key], labels=labels[by_key].astype(np.int64), keys=keys[by_key])
