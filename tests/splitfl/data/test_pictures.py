"""Pictures come from a file of arrays, in an order of their own, as a model takes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.loader import Batches
from splitfl.data.pictures import load_pictures
from splitfl.data.pixels import MNIST_MEAN, MNIST_STD, Format, Pixels, shown
from splitfl.data.share import share
from splitfl.data.task import load_task
from tests.splitfl import shown as tiny


def arrays(**changes: Any) -> dict[str, Any]:
    some = {
        "x_train": np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3),
        "y_train": np.array([0, 1, 0, 1], dtype=np.uint8),
        "x_test": np.zeros((2, 3, 3), dtype=np.uint8),
        "y_test": np.array([1, 0], dtype=np.uint8),
    }
    return {name: value for name, value in {**some, **changes}.items() if value is not None}


def test_order_does_not_depend_on_the_file_s(tmp_path: Path) -> None:
    plain = arrays()
    np.savez(tmp_path / "mnist.npz", **plain)
    np.savez(
        tmp_path / "other.npz",
        **{**plain, "x_train": plain["x_train"][::-1], "y_train": plain["y_train"][::-1]},
    )
    (one, _), (other, _) = load_pictures(tmp_path), load_pictures(tmp_path / "other.npz")
    assert np.array_equal(one.pixels, other.pixels)
    assert np.array_equal(one.labels, other.labels)
    assert (np.diff(one.keys) > 0).all()


def test_every_picture_is_given_once_an_epoch_with_its_class(tmp_path: Path) -> None:
    train, _ = load_pictures(tiny.data(tmp_path))
    batches = Batches(Pixels(train, Format(side=8, channels=1)), batch_size=16, seed=0, client=1)
    epoch = [batches.batch(step) for step in range(len(batches))]
    assert [len(batch.ids_B) for batch in epoch] == [16, 16, 16, 12]
    assert sorted(torch.cat([batch.ids_B for batch in epoch]).tolist()) == list(range(60))
    for batch in epoch:
        rows = batch.inputs["pixel_values"][:, 0].sum(-1).argmax(1)
        assert torch.equal(rows // 2, batch.labels)
    whole = torch.cat([batch.ids_B for batch in batches.held_out(7)])
    assert whole.tolist() == list(range(60))


def test_pixels_have_no_mean_and_unit_variance_in_every_channel() -> None:
    white, black = np.full((1, 4, 4), 255, dtype=np.uint8), np.zeros((1, 4, 4), dtype=np.uint8)
    values = shown(np.concatenate([white, black]), Format(side=6, channels=3))
    assert values.shape == (2, 3, 6, 6)
    assert torch.allclose(values[0], torch.tensor((1 - MNIST_MEAN) / MNIST_STD))
    assert torch.allclose(values[1], torch.tensor(-MNIST_MEAN / MNIST_STD))


def test_a_natural_partition_gives_whole_classes(tmp_path: Path) -> None:
    train, _ = load_pictures(tiny.data(tmp_path))
    owned = [set(train.labels[indices]) for indices in share(train, 2, "natural")]
    assert owned[0].isdisjoint(owned[1])
    assert owned[0] | owned[1] == {0, 1, 2, 3}


def test_the_task_keeps_the_configured_number_of_samples(tmp_path: Path) -> None:
    task = load_task(TaskConfig(name="mnist", data=str(tiny.data(tmp_path)), limit=12, eval_limit=5))
    assert (len(task.train), len(task.held_out)) == (12, 5)
    assert task.label_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "lacks y_test; it must hold x_train, y_train, x_test, y_test"),
        ({"x_train": np.zeros((4, 3, 2), dtype=np.uint8)}, "x_train must be square greyscale images"),
        ({"x_train": np.zeros((4, 3, 3))}, "x_train must be square greyscale images .* got float64"),
        ({"y_train": np.array([0, 1])}, "y_train must be 4 whole numbers, got int64 \\(2,\\)"),
        ({"y_test": np.array([7, 0])}, "y_test has classes that y_train lacks: \\[7\\]"),
        ({"x_train": np.array([None])}, "cannot read .*allow_pickle"),
    ],
    ids=["an array missing", "not square", "not bytes", "too few labels", "unknown class", "a pickle"],
)
def test_a_file_of_another_kind_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", **arrays(**changes))
    with pytest.raises(DataError, match=message):
        load_pictures(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*mnist\.npz"):
        load_pictures(tmp_path)


def test_a_folder_without_the_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mnist\.npz: .*; give --data FOLDER with mnist\.npz"):
        load_pictures(tmp_path)
    with pytest.raises(DataError, match="task 'mnist' needs data"):
        load_task(TaskConfig(name="mnist"))
