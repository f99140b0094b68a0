"""What is learnt: a table of tasks, and how each finds its data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from splitfl.config import TaskConfig, one_of
from splitfl.core.errors import ConfigError
from splitfl.data.classes import CheckpointClasses, numbered_by_checkpoint
from splitfl.data.reading import sources
from splitfl.data.reading.corpus import Corpus
from splitfl.data.reading.forms import (
    ANSWERED,
    LABELLED,
    PICTURED,
    PLAIN,
    PROMPTED,
    SCORED,
    SEVERAL_LABELS,
    TAGGED,
    USUAL,
    Form,
)
from splitfl.data.reading.picture_files import load_picture_evaluation, load_picture_folder
from splitfl.data.reading.text_corpus import own_texts, stdlib_source, token_corpus
from splitfl.data.reading.text_pieces import TextSource
from splitfl.data.samples import Samples

CLASSIFICATION = "sequence-classification"
LANGUAGE_MODEL = "causal-lm"
ANSWER_MODEL = "seq2seq-lm"
IMAGES = "image-classification"
TOKENS = "token-classification"


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A corpus and what to do with it.

    `kind` is the model's head: sequence-classification, token-classification, causal-lm, seq2seq-lm or
    image-classification. `form` is that
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
    def num_labels(self) -> int | None:
        """How many numbers a classifier gives; None for a language model."""
        return 1 if self.problem_type == "regression" else len(self.label_names) or None

    @property
    def problem_type(self) -> str:
        """What transformers calls the loss of a classifier."""
        labels = "class" if self.form is None else self.form.labels
        several = {"number": "regression", "set": "multi_label_classification"}
        return several.get(labels, "single_label_classification")

    @property
    def has_answers(self) -> bool:
        """Whether samples are prompts with completions, or chats."""
        return self.form in (ANSWERED, PROMPTED)

    @property
    def train(self) -> Samples:
        """What is learnt from."""
        return self.corpus.train

    @property
    def held_out(self) -> Samples:
        """What is measured on."""
        return self.corpus.held_out


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A row of the table of tasks: a description in one line, and the sources of its corpus and name.

    `form` is that of the rows of one's own data. A task with a `corpus` of its own finds its data by that,
    and all there is to measure on by `evaluation`, where that is another. That of a task with `texts` may be
    larger than memory, and is read as tokens of the run's model.
    """

    about: str
    kind: str
    form: Form | None = None
    corpus: Callable[[TaskConfig], Corpus] | None = None
    evaluation: Callable[[TaskConfig], Corpus] | None = None
    texts: Callable[[TaskConfig], TextSource] | None = None
    packing: str = "truncate"
    citation: str = ""

    def load(
        self, config: TaskConfig, model_folder: Path | None = None, *, is_evaluation: bool = False
    ) -> Corpus:
        """The data; where it `is_evaluation` all of one's own are to measure on."""
        if self.texts is not None:
            assert model_folder is not None, "no tokens without a tokenizer"
            return token_corpus(self.texts(config), model_folder, is_evaluation=is_evaluation)
        own = (self.evaluation or self.corpus) if is_evaluation else self.corpus
        if own is not None:
            return own(config)
        assert self.form is not None
        return sources.given(config, self.form, is_evaluation=is_evaluation)


def load_task(
    config: TaskConfig, checkpoint: CheckpointClasses | None = None, model_folder: Path | None = None
) -> Task:
    """The task that the settings name, cut down to `limit` and `eval_limit` samples.

    Classes are numbered as `checkpoint` does where it names them and the settings do not. Tasks of texts of
    any size need `model_folder`, the local folder with the tokenizer. Raises
    ConfigError for an unknown name or data where none belong, DataError for data that are missing or
    malformed.
    """
    entry = _entry(config)
    corpus = entry.load(config, model_folder)
    if checkpoint is not None and corpus.label_names and not config.labels:
        numbering = numbered_by_checkpoint(corpus.label_names, checkpoint)
        corpus = corpus if numbering is None else corpus.renumbered(numbering)
    corpus = replace(
        corpus,
        train=corpus.train.first(config.limit),
        held_out=corpus.held_out.first(config.eval_limit),
    )
    return _task(config, entry, corpus)


def load_evaluation(config: TaskConfig, model_folder: Path | None = None) -> Task:
    """The task with nothing but what to measure on: all of the data that the settings name.

    `model_folder` is that of `load_task`. Raises as that does, and DataError for classes that
    `config.labels` does not name.
    """
    entry = _entry(config)
    has_classes = entry.kind == CLASSIFICATION if entry.form is None else entry.form.has_classes
    if has_classes and not config.labels:
        raise ConfigError("task.labels must name the classes of the run that is to be measured")
    corpus = entry.load(config, model_folder, is_evaluation=True)
    return _task(config, entry, corpus)


def kind_of(config: TaskConfig) -> str:
    """The model's head for this task; ConfigError for an unknown one."""
    return _entry(config).kind


def _entry(config: TaskConfig) -> TaskEntry:
    one_of("task.name", config.name, TASKS)
    entry = TASKS[config.name]
    if entry.kind != LANGUAGE_MODEL and config.packing not in ("auto", "truncate"):
        have = "an answer" if entry.kind == ANSWER_MODEL else "a class"
        raise ConfigError(
            f"task.packing must be 'auto' or 'truncate' for task {config.name!r}, whose samples have {have} "
            f"each, got {config.packing!r}"
        )
    if entry.texts is not None and config.packing not in ("auto", "pack"):
        raise ConfigError(
            f"task.packing must be 'auto' or 'pack' for task {config.name!r}, got {config.packing!r}"
        )
    if entry.form is PROMPTED and config.template == "chat":
        raise ConfigError(
            f"task.template must be 'auto', 'plain' or 'alpaca' for task {config.name!r}, got 'chat'"
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
    unread += [] if form is ANSWERED else ["loss_on"]
    unread += [] if form in (ANSWERED, PROMPTED) else ["template"]
    unread += [] if form is SEVERAL_LABELS else ["label_separator"]
    unread += [] if form is not SCORED else ["labels"]
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


TASKS = {
    "stdlib-topics": TaskEntry(
        about="which of eleven areas a docstring of Python's standard library is from (needs no data)",
        kind=CLASSIFICATION,
        corpus=sources.topics,
        citation=sources.PYTHON,
    ),
    "stdlib-lm": TaskEntry(
        about="language modelling of the same docstrings (needs no data)",
        kind=LANGUAGE_MODEL,
        corpus=sources.docstrings,
        packing="pack",
        citation=sources.PYTHON,
    ),
    "stdlib-source": TaskEntry(
        about="language modelling of the source of Python's standard library, 12 MB (needs no data)",
        kind=LANGUAGE_MODEL,
        texts=stdlib_source,
        packing="pack",
        citation=sources.PYTHON,
    ),
    "classification": TaskEntry(
        about="texts with labels of your own: a file, a folder or hf:NAME in task.data",
        kind=CLASSIFICATION,
        form=LABELLED,
    ),
    "regression": TaskEntry(
        about="texts, or pairs of texts, with a number each of your own, such as a similarity",
        kind=CLASSIFICATION,
        form=SCORED,
    ),
    "multi-label": TaskEntry(
        about="texts with any number of classes each of your own",
        kind=CLASSIFICATION,
        form=SEVERAL_LABELS,
    ),
    "token-classification": TaskEntry(
        about="words of sentences with a class each of your own, such as names of persons and places",
        kind=TOKENS,
        form=TAGGED,
    ),
    "lm": TaskEntry(
        about="language modelling of texts of your own: a file, a folder or hf:NAME in task.data",
        kind=LANGUAGE_MODEL,
        form=PLAIN,
        packing="pack",
    ),
    "corpus": TaskEntry(
        about="language modelling of texts of your own of any size: a text file, a folder of them or hf:NAME",
        kind=LANGUAGE_MODEL,
        form=PLAIN,
        texts=own_texts,
        packing="pack",
    ),
    "sft": TaskEntry(
        about="answers to prompts and in chats of your own: a file, a folder or hf:NAME in task.data",
        kind=LANGUAGE_MODEL,
        form=ANSWERED,
    ),
    "seq2seq": TaskEntry(
        about="answers of an encoder-decoder to prompts of your own: a file, a folder or hf:NAME",
        kind=ANSWER_MODEL,
        form=PROMPTED,
    ),
    "sst2": TaskEntry(
        about="the sentiment of film reviews; a folder with train.tsv and dev.tsv in task.data",
        kind=CLASSIFICATION,
        form=LABELLED,
        citation=sources.SST,
    ),
    "e2e": TaskEntry(
        about="to say in a text what a line of properties says; a folder with train.txt and test.txt",
        kind=LANGUAGE_MODEL,
        corpus=sources.e2e,
        citation=sources.E2E,
    ),
    "image-folder": TaskEntry(
        about="pictures of your own in folders named after their classes, in a folder in task.data",
        kind=IMAGES,
        form=PICTURED,
        corpus=load_picture_folder,
        evaluation=load_picture_evaluation,
    ),
    "mnist": TaskEntry(
        about="which digit a picture shows; a folder with mnist.npz, as Keras has it, in task.data",
        kind=IMAGES,
        corpus=sources.mnist,
        citation=sources.MNIST,
    ),
}
