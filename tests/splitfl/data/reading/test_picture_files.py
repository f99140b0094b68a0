"""Pictures in folders of their classes, through the model's own image processor."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import splitfl
from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError, ModelMissing
from splitfl.data.pixels import Format, PictureFiles
from splitfl.data.task import Task, load_evaluation, load_task
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load
from tests.splitfl import tiny, toy

SIDE = 12


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (10 + number % 5, 14, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def pictures(folder: Path, count: int = 40, first: int = 0) -> Path:
    for number in range(first, first + count):
        picture(folder / ("cat", "dog")[number % 2] / f"{number}.png", number)
    return folder


def task_of(folder: Path, **settings: object) -> Task:
    return load_task(TaskConfig(name="image-folder", data=str(folder), **settings))  # type: ignore[arg-type]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny.save(tmp_path / "model", "vit", "image-classification", num_labels=2)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_folders_are_classes_and_held_out_pictures_stay_where_they_are(tmp_path: Path) -> None:
    task = task_of(pictures(tmp_path / "all"))
    assert task.label_names == ("cat", "dog")
    assert len(task.train) + len(task.held_out) == 40
    pictures(tmp_path / "split" / "train", 20)
    pictures(tmp_path / "split" / "validation", 6, first=20)
    task = task_of(tmp_path / "split")
    assert (len(task.train), len(task.held_out)) == (20, 6)
    measured = TaskConfig(name="image-folder", data=str(tmp_path / "split"), labels=("dog", "cat"))
    assert len(load_evaluation(measured).held_out) == 6


def test_a_picture_is_the_same_sample_wherever_it_lies(tmp_path: Path) -> None:
    one, other = task_of(pictures(tmp_path / "one")), task_of(pictures(tmp_path / "other"))
    assert one.train.keys.tolist() == other.train.keys.tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [("notes.txt", "is no picture; files of pictures end in .png"), ("broken.png", "cannot be read")],
)
def test_a_file_that_is_no_picture_is_refused_or_skipped(name: str, message: str, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "all")
    (folder / "cat" / name).write_text("no picture")
    with pytest.raises(DataError, match=message):
        task_of(folder)
    assert task_of(folder, bad_rows="skip").corpus.skipped_rows == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cat/deep.png", np.full((4, 4), 40_000, dtype=np.uint16), r"has more than 8 bits .*I;16"),
        ("cat/moving.gif", None, "has several frames"),
        ("loose.png", np.zeros((4, 4, 3), dtype=np.uint8), "is in no folder of a class"),
    ],
)
def test_a_picture_that_would_be_read_as_another_is_refused(
    name: str, content: np.ndarray | None, message: str, tmp_path: Path
) -> None:
    path = pictures(tmp_path / "all") / name
    if content is None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    else:
        Image.fromarray(content).save(path)
    with pytest.raises(DataError, match=message):
        task_of(tmp_path / "all")


def test_hidden_folders_are_no_classes_and_names_of_parts_may_be_in_capitals(tmp_path: Path) -> None:
    pictures(tmp_path / "Train", 20)
    picture(tmp_path / "Train" / ".ipynb_checkpoints" / "0.png", 0)
    picture(tmp_path / "Train" / "cat" / ".thumbnails" / "0.png", 0)
    pictures(tmp_path / "Testing", 6, first=20)
    task = task_of(tmp_path)
    assert task.label_names == ("cat", "dog")
    assert (len(task.train), len(task.held_out)) == (20, 6)


def test_a_picture_is_turned_as_its_camera_noted(tmp_path: Path, model: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    noted = Image.Exif()
    noted[0x0112] = 3  # turned by 180 degrees
    for name, shown, exif in (("cat/0", pixels[::-1, ::-1], Image.Exif()), ("dog/0", pixels, noted)):
        path = tmp_path / "all" / "train" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.ascontiguousarray(shown)).save(path, exif=exif)
    pictures(tmp_path / "all" / "dev", 2)
    rows = PictureFiles(task_of(tmp_path / "all").train, model, Format(side=SIDE, channels=3))  # type: ignore[arg-type]
    upright, turned = rows.collated(np.arange(2)).inputs["pixel_values"]
    assert torch.equal(upright, turned)


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="task 'image-folder' needs data: a folder with a folder of pictures"):
        load_task(TaskConfig(name="image-folder"))
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        task_of(tmp_path / "nowhere")


def test_pictures_are_those_of_the_models_own_processor(tmp_path: Path, model: Path) -> None:
    task = task_of(pictures(tmp_path / "all"))
    rows = PictureFiles(task.train, model, Format(side=SIDE, channels=3))  # type: ignore[arg-type]
    batch = rows.collated(np.arange(3))
    files = [text.path for text in task.train.texts[:3]]  # type: ignore[union-attr]
    processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    expected = processor([Image.open(path).convert("RGB") for path in files], return_tensors="pt")
    assert torch.equal(batch.inputs["pixel_values"], expected["pixel_values"])
    assert [task.label_names[label] for label in batch.labels] == [path.parent.name for path in files]


def test_a_processor_that_does_not_fit_is_refused(tmp_path: Path, model: Path) -> None:
    task = task_of(pictures(tmp_path / "all"))
    rows = PictureFiles(task.train, model, Format(side=16, channels=3))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="makes pictures of 12x12 and the model takes 16x16"):
        rows.collated(np.arange(2))
    with pytest.raises(ConfigError, match=r"have 3 channels, and the model in .* takes 1"):
        PictureFiles(task.train, model, Format(side=SIDE, channels=1))  # type: ignore[arg-type]
    (model / "preprocessor_config.json").unlink()
    with pytest.raises(ModelMissing, match=re.escape("has no preprocessor_config.json, which says how")):
        PictureFiles(task.train, model, Format(side=SIDE, channels=3))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_on_pictures_is_measured_as_stock_peft_does(tmp_path: Path, model: Path) -> None:
    task = {"name": "image-folder", "data": str(pictures(tmp_path / "all"))}
    settings = toy.table(tmp_path, task=task, federation={"partition": "iid"})
    result = splitfl.run(settings, out=tmp_path)
    again = measure_adapter(Experiment.of(load(result.folder / "config.json")), result.folder / "adapter")
    assert {name: result.summary.final[name] for name in again} == pytest.approx(again, abs=1e-5)
