"""What is learnt: a table of tasks, and how each finds its data."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from splitfl.config import TaskConfig, one_of
from splitfl.core.errors import ConfigError, DataError
from splitfl.data import stdlib
from splitfl.data.classes import CheckpointClasses, numbered_by_checkpoint
from splitfl.data.corpus import Corpus
from splitfl.data.e2e import load_e2e
from splitfl.data.examples import Examples, split_held_out
from splitfl.data.files import load_evaluation_file, load_files
from splitfl.data.forms import ANSWERED, LABELLED, PLAIN, USUAL, Form
from splitfl.data.hub import load_evaluation_split, load_hub
from splitfl.data.pictures import FILE, Pictures, load_pictures
from splitfl.data.rows import SUFFIXES

CLASSIFICATION = "sequence-classification"
LANGUAGE_MODEL = "causal-lm"
IMAGES = "image-classification"


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A corpus and what to do with it.

    `kind` is the model's head: sequence-classification, causal-lm or image-classification. `form` is that
    of rows of one's own data, `packing` is pack, chunk or truncate. `source` says where the data came from,
    `citation` is BibTeX or "".
    """

    name: str
    kind: str
    form: Form | None
    corpus: Corpus
    packing: str
    source: str
    citation: str

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes' names by number; none for a language model."""
        return self.corpus.label_names

    @property
    def has_answers(self) -> bool:
        """Whether samples are prompts with completions, or chats."""
        return self.form is ANSWERED

    @property
    def train(self) -> Examples | Pictures:
        """What is learnt from."""
        return self.corpus.train

    @property
    def held_out(self) -> Examples | Pictures:
        """What is measured on."""
        return self.corpus.held_out


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A row of the table: what it is, in one line, and where its corpus and its fame come from.

    A task has either a `form`, of the rows of one's own data, or a `corpus` of its own.
    """

    about: str
    kind: str
    form: Form | None = None
    corpus: Callable[[TaskConfig], Corpus] | None = None
    packing: str = "truncate"
    citation: str = ""

    def load(self, config: TaskConfig, *, is_evaluation: bool = False) -> Corpus:
        """The data; where it `is_evaluation` all of one's own are to measure on."""
        if self.form is not None:
            return _given(config, self.form, is_evaluation=is_evaluation)
        assert self.corpus is not None
        return self.corpus(config)


def load_task(config: TaskConfig, checkpoint: CheckpointClasses | None = None) -> Task:
    """The task that the settings name, cut down to `limit` and `eval_limit` samples.

    Classes are numbered as `checkpoint` does where it names them and the settings do not. Raises
    ConfigError for an unknown name or data where none belong, DataError for data that are missing or
    malformed.
    """
    entry = _entry(config)
    corpus = entry.load(config)
    if checkpoint is not None and corpus.label_names and not config.labels:
        numbering = numbered_by_checkpoint(corpus.label_names, checkpoint)
        corpus = corpus if numbering is None else corpus.renumbered(numbering)
    corpus = replace(
        corpus,
        train=corpus.train.first(config.limit),
        held_out=corpus.held_out.first(config.eval_limit),
    )
    return _task(config, entry, corpus)


def load_evaluation(config: TaskConfig) -> Task:
    """The task with nothing but what to measure on: all of the data that the settings name.

    Raises as `load_task` does, and DataError for classes that `config.labels` does not name.
    """
    entry = _entry(config)
    if entry.kind == CLASSIFICATION and not config.labels:
        raise ConfigError("task.labels must name the classes of the run that is to be measured")
    corpus = entry.load(config, is_evaluation=True)
    return _task(config, entry, corpus)


def kind_of(config: TaskConfig) -> str:
    """The model's head for this task; ConfigError for an unknown one."""
    return _entry(config).kind


def _entry(config: TaskConfig) -> TaskEntry:
    one_of("task.name", config.name, TASKS)
    entry = TASKS[config.name]
    if entry.kind != LANGUAGE_MODEL and config.packing not in ("auto", "truncate"):
        raise ConfigError(
            f"task.packing must be 'auto' or 'truncate' for task {config.name!r}, whose samples have a class "
            f"each, got {config.packing!r}"
        )
    if entry.form is ANSWERED and config.packing == "chunk":
        raise ConfigError(
            f"task.packing must be 'auto', 'pack' or 'truncate' for task {config.name!r}: a part of an "
            "answer without its prompt is no sample; got 'chunk'"
        )
    _check_read(config, entry.form)
    return entry


def _check_read(config: TaskConfig, form: Form | None) -> None:
    """ConfigError for settings that this task does not read."""
    roles = () if form is None else form.roles
    unread = [f"{role}_column" for role in USUAL if role not in roles]
    unread += [] if form is ANSWERED else ["loss_on", "template"]
    for name in unread:
        if getattr(config, name) != getattr(TaskConfig(), name):
            raise ConfigError(
                f"task.{name} is not read by task {config.name!r}, got {getattr(config, name)!r}"
            )


def _task(config: TaskConfig, entry: TaskEntry, corpus: Corpus) -> Task:
    return Task(
        name=config.name,
        kind=entry.kind,
        form=entry.form,
        corpus=corpus,
        packing=entry.packing if config.packing == "auto" else config.packing,
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
    _check_own_labels(config, label_names)
    train, held_out = split_held_out(load())
    return Corpus(train=train, held_out=held_out, label_names=label_names)


def _check_own_labels(config: TaskConfig, label_names: tuple[str, ...]) -> None:
    if config.labels and config.labels != label_names:
        raise ConfigError(
            f"task.labels of task {config.name!r} are its own, {list(label_names)}, got {list(config.labels)}"
        )


def _mnist(config: TaskConfig) -> Corpus:
    if not config.data:
        raise DataError(f"task {config.name!r} needs data: a folder with {FILE}; give it with --data")
    train, held_out = load_pictures(Path(config.data).expanduser())
    names = tuple(str(label) for label in range(int(train.labels.max()) + 1))
    _check_own_labels(config, names)
    return Corpus(train=train, held_out=held_out, label_names=names)


def _e2e(config: TaskConfig) -> Corpus:
    if not config.data:
        raise DataError(f"task {config.name!r} needs data: a folder with train.txt; give it with --data")
    return load_e2e(Path(config.data).expanduser(), config.bad_rows)


def _given(config: TaskConfig, form: Form, *, is_evaluation: bool = False) -> Corpus:
    """The corpus at a path, or by a name of the hub: `hf:NAME`, or NAME where no such file is."""
    if not config.data:
        raise DataError(
            f"task {config.name!r} needs data: a file, a folder with train and dev files "
            f"({', '.join(SUFFIXES)}), or hf:NAME; give it with --data or as task.data"
        )
    by_path, by_name = (
        (load_evaluation_file, load_evaluation_split) if is_evaluation else (load_files, load_hub)
    )
    path = Path(config.data).expanduser()
    if config.data.startswith("hf:"):
        return by_name(config.data.removeprefix("hf:"), config, form)
    if path.exists():
        return by_path(path, config, form)
    if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*){0,2}", config.data) and path.suffix.lower() not in SUFFIXES:
        return by_name(config.data, config, form)
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
        packing="pack",
        citation=PYTHON,
    ),
    "classification": TaskEntry(
        about="texts with labels of your own: a file, a folder or hf:NAME in task.data",
        kind=CLASSIFICATION,
        form=LABELLED,
    ),
    "lm": TaskEntry(
        about="language modelling of texts of your own: a file, a folder or hf:NAME in task.data",
        kind=LANGUAGE_MODEL,
        form=PLAIN,
        packing="pack",
    ),
    "sft": TaskEntry(
        about="answers to prompts and in chats of your own: a file, a folder or hf:NAME in task.data",
        kind=LANGUAGE_MODEL,
        form=ANSWERED,
    ),
    "sst2": TaskEntry(
        about="the sentiment of film reviews; a folder with train.tsv and dev.tsv in task.data",
        kind=CLASSIFICATION,
        form=LABELLED,
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
