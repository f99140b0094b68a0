"""Where tasks find their data: in this Python, in a folder of a known layout, or where settings say."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.examples import Examples, split_held_out
from splitfl.data.pictures import FILE, load_pictures
from splitfl.data.reading import stdlib
from splitfl.data.reading.corpus import Corpus
from splitfl.data.reading.e2e import load_e2e
from splitfl.data.reading.files import load_evaluation_file, load_files
from splitfl.data.reading.forms import Form
from splitfl.data.reading.hub import is_saved, load_evaluation_split, load_hub
from splitfl.data.reading.rows import SUFFIXES

T = TypeVar("T")


def topics(config: TaskConfig) -> Corpus:
    return _embedded(config, stdlib.topics, stdlib.AREA_NAMES)


def docstrings(config: TaskConfig) -> Corpus:
    return _embedded(config, stdlib.plain, ())


def _embedded(config: TaskConfig, load: Callable[[], Examples], label_names: tuple[str, ...]) -> Corpus:
    refuse_data(config, "classification or lm")
    _check_own_labels(config, label_names)
    train, held_out = split_held_out(load())
    return Corpus(train=train, held_out=held_out, label_names=label_names)


def refuse_data(config: TaskConfig, others: str) -> None:
    """ConfigError where `task.data` names data; `others` are the tasks that read them."""
    if config.data:
        raise ConfigError(
            f"task.data must be empty for task {config.name!r}, got {config.data!r}; "
            f"for data of your own take task {others}"
        )


def _check_own_labels(config: TaskConfig, label_names: tuple[str, ...]) -> None:
    if config.labels and config.labels != label_names:
        raise ConfigError(
            f"task.labels of task {config.name!r} are its own, {list(label_names)}, got {list(config.labels)}"
        )


def mnist(config: TaskConfig) -> Corpus:
    if not config.data:
        raise DataError(f"task {config.name!r} needs data: a folder with {FILE}; give it with --data")
    train, held_out = load_pictures(Path(config.data).expanduser())
    names = tuple(str(label) for label in range(int(train.labels.max()) + 1))
    _check_own_labels(config, names)
    return Corpus(train=train, held_out=held_out, label_names=names)


def e2e(config: TaskConfig) -> Corpus:
    if not config.data:
        raise DataError(f"task {config.name!r} needs data: a folder with train.txt; give it with --data")
    return load_e2e(Path(config.data).expanduser(), config.bad_rows)


def given(config: TaskConfig, form: Form, *, is_evaluation: bool = False) -> Corpus:
    """The corpus at a path, or by a name of the hub: `hf:NAME`, or NAME where no such file is."""
    by_path, by_name = (
        (load_evaluation_file, load_evaluation_split) if is_evaluation else (load_files, load_hub)
    )
    return located(
        config,
        f"a file, a folder with train and dev files ({', '.join(SUFFIXES)})",
        by_path=lambda path: by_path(path, config, form),
        by_name=lambda name: by_name(name, config, form),
    )


def located(config: TaskConfig, have: str, *, by_path: Callable[[Path], T], by_name: Callable[[str], T]) -> T:
    """What the reader of a path, or of a data set's name, makes of `task.data`.

    Raises DataError where nothing is named, which may be what tasks `have`, or hf:NAME, and for a path that
    does not exist.
    """
    if not config.data:
        raise DataError(
            f"task {config.name!r} needs data: {have}, or hf:NAME; give it with --data or as task.data"
        )
    path = Path(config.data).expanduser()
    if config.data.startswith("hf:"):
        return by_name(config.data.removeprefix("hf:"))
    if is_saved(path):
        return by_name(str(path))
    if path.exists():
        return by_path(path)
    if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*){0,2}", config.data) and path.suffix.lower() not in SUFFIXES:
        return by_name(config.data)
    raise DataError(f"there is no file or folder {config.data}; give an existing one, or hf:NAME")


PYTHON = """@manual{python,
  title = {The Python Standard Library},
  author = {{Python Software Foundation}},
  url = {https://docs.python.org/3/library/}
}"""

SST = """@inproceedings{socher2013recursive,
  title = {Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank},
  author = {Socher, Richard and Perelygin, Alex and Wu, Jean and Chuang, Jason and Manning, Christopher D.
    and Ng, Andrew and Potts, Christopher},
  booktitle = {Empirical Methods in Natural Language Processing (EMNLP)},
  pages = {1631--1642},
  year = {2013}
}"""

E2E = """@inproceedings{novikova2017e2e,
  title = {The {E2E} Dataset: New Challenges For End-to-End Generation},
  author = {Novikova, Jekaterina and Du{\\v{s}}ek, Ond{\\v{r}}ej and Rieser, Verena},
  booktitle = {SIGDIAL},
  pages = {201--206},
  year = {2017}
}"""

MNIST = """@article{lecun1998gradient,
  title = {Gradient-Based Learning Applied to Document Recognition},
  author = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal = {Proceedings of the IEEE},
  volume = {86},
  number = {11},
  pages = {2278--2324},
  year = {1998}
}"""
