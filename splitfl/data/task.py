"""What is learnt: a table of tasks, and how each finds its data."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from splitfl.config import TaskConfig, one_of
from splitfl.data import stdlib
from splitfl.data.corpus import Corpus
from splitfl.data.e2e import load_e2e
from splitfl.data.examples import Examples, split_held_out
from splitfl.data.files import load_files
from splitfl.data.hub import load_hub
from splitfl.data.pictures import FILE, Pictures, load_pictures
from splitfl.data.rows import SUFFIXES
from splitfl.errors import ConfigError, DataError

CLASSIFICATION = "sequence-classification"
LANGUAGE_MODEL = "causal-lm"
IMAGES = "image-classification"


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A corpus and what to do with it.

    `kind` is the model's head: sequence-classification, causal-lm or image-classification. `source` says
    where the data came from, `citation` is BibTeX or "".
    """

    name: str
    kind: str
    label_names: tuple[str, ...]
    train: Examples | Pictures
    held_out: Examples | Pictures
    skipped_rows: int
    source: str
    citation: str


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A row of the table: what it is, in one line, and where its corpus and its fame come from."""

    about: str
    kind: str
    corpus: Callable[[TaskConfig], Corpus]
    citation: str = ""


def load_task(config: TaskConfig) -> Task:
    """The task that the settings name, cut down to `limit` and `eval_limit` samples.

    Raises ConfigError for an unknown name or data where none belong, DataError for data
    that are missing or malformed.
    """
    one_of("task.name", config.name, TASKS)
    entry = TASKS[config.name]
    corpus = entry.corpus(config)
    return Task(
        name=config.name,
        kind=entry.kind,
        label_names=corpus.label_names,
        train=corpus.train.first(config.limit),
        held_out=corpus.held_out.first(config.eval_limit),
        skipped_rows=corpus.skipped_rows,
        source=config.data or "the standard library of this Python",
        citation=entry.citation,
    )


def _topics(config: TaskConfig) -> Corpus:
    return _embedded(config, stdlib.topics, stdlib.AREA_NAMES)


def _docstrings(config: TaskConfig) -> Corpus:
    return _embedded(config, stdlib.plain, ())


def _embedded(config: TaskConfig, load: Callable[[], Examples], label_names: tuple[str, ...]) -> Corpus:
    if config.data:
        raise ConfigError(
            f"task.data must be empty for task {config.name!r}, got {config.data!r}; "
            "for data of your own take task classification or lm"
        )
    train, held_out = split_held_out(load())
    return Corpus(train=train, held_out=held_out, label_names=label_names, skipped_rows=0)


def _labelled(config: TaskConfig) -> Corpus:
    return _given(config, labelled=True)


def _mnist(config: TaskConfig) -> Corpus:
    if not config.data:
        raise DataError(f"task {config.name!r} needs data: a folder with {FILE}; give it with --data")
    train, held_out = load_pictures(Path(config.data).expanduser())
    names = tuple(str(label) for label in range(int(train.labels.max()) + 1))
    return Corpus(train=train, held_out=held_out, label_names=names, skipped_rows=0)


def _e2e(config: TaskConfig) -> Corpus:
    if not config.data:
        raise DataError(f"task {config.name!r} needs data: a folder with train.txt; give it with --data")
    return load_e2e(Path(config.data).expanduser(), config.bad_rows)


def _unlabelled(config: TaskConfig) -> Corpus:
    return _given(config, labelled=False)


def _given(config: TaskConfig, *, labelled: bool) -> Corpus:
    """The corpus at a path, or by a name of the hub: `hf:NAME`, or NAME where no such file is."""
    if not config.data:
        raise DataError(
            f"task {config.name!r} needs data: a file, a folder with train and dev files "
            f"({', '.join(SUFFIXES)}), or hf:NAME; give it with --data or as task.data"
        )
    path = Path(config.data).expanduser()
    if config.data.startswith("hf:"):
        return load_hub(config.data.removeprefix("hf:"), labelled=labelled, bad_rows=config.bad_rows)
    if path.exists():
        return load_files(path, labelled=labelled, bad_rows=config.bad_rows)
    if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*){0,2}", config.data) and path.suffix.lower() not in SUFFIXES:
        return load_hub(config.data, labelled=labelled, bad_rows=config.bad_rows)
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

TASKS = {
    "stdlib-topics": TaskEntry(
        about="which of eleven areas a docstring of Python's standard library is from (needs no data)",
        kind=CLASSIFICATION,
        corpus=_topics,
        citation=PYTHON,
    ),
    "stdlib-lm": TaskEntry(
        about="language modelling of the same docstrings (needs no data)",
        kind=LANGUAGE_MODEL,
        corpus=_docstrings,
        citation=PYTHON,
    ),
    "classification": TaskEntry(
        about="texts with labels of your own: a file, a folder or hf:NAME in task.data",
        kind=CLASSIFICATION,
        corpus=_labelled,
    ),
    "lm": TaskEntry(
        about="language modelling of texts of your own: a file, a folder or hf:NAME in task.data",
        kind=LANGUAGE_MODEL,
        corpus=_unlabelled,
    ),
    "sst2": TaskEntry(
        about="the sentiment of film reviews; a folder with train.tsv and dev.tsv in task.data",
        kind=CLASSIFICATION,
        corpus=_labelled,
        citation=SST,
    ),
    "e2e": TaskEntry(
        about="to say in a text what a line of properties says; a folder with train.txt and test.txt",
        kind=LANGUAGE_MODEL,
        corpus=_e2e,
        citation=E2E,
    ),
    "mnist": TaskEntry(
        about="which digit a picture shows; a folder with mnist.npz, as Keras has it, in task.data",
        kind=IMAGES,
        corpus=_mnist,
        citation=MNIST,
    ),
}
