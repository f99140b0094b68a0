"""The task of a run: its corpus, and what to do with it."""

from dataclasses import dataclass, replace
from pathlib import Path

from splitfl.config import TaskConfig, one_of
from splitfl.core.errors import ConfigError
from splitfl.data.classes import CheckpointClasses, numbered_by_checkpoint
from splitfl.data.reading.corpus import Corpus
from splitfl.data.reading.forms import ANSWERED, PROMPTED, SCORED, SEVERAL_LABELS, USUAL, Form
from splitfl.data.samples import Samples
from splitfl.data.task_spec import ANSWER_MODEL, CLASSIFICATION, LANGUAGE_MODEL, TaskSpec
from splitfl.data.tasks import TASKS


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A corpus and what to do with it.

    `kind` is the model's head: sequence-classification, token-classification, causal-lm, seq2seq-lm or
    image-classification. `form` is that of rows of one's own data, `packing` is pack, chunk or truncate.
    `source` says where the data came from, `citation` is BibTeX or "".
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


def load_task(
    config: TaskConfig, checkpoint: CheckpointClasses | None = None, model_folder: Path | None = None
) -> Task:
    """The task that the settings name, cut down to `limit` and `eval_limit` samples.

    Classes are numbered as `checkpoint` does where it names them and the settings do not. Tasks of texts of
    any size need `model_folder`, the local folder with the tokenizer. Raises
    ConfigError for an unknown name or data where none belong, DataError for data that are missing or
    malformed.
    """
    spec = _spec(config)
    corpus = spec.load(config, model_folder)
    if checkpoint is not None and corpus.label_names and not config.labels:
        numbering = numbered_by_checkpoint(corpus.label_names, checkpoint)
        corpus = corpus if numbering is None else corpus.renumbered(numbering)
    corpus = replace(
        corpus,
        train=corpus.train.first(config.limit),
        held_out=corpus.held_out.first(config.eval_limit),
    )
    return _task(config, spec, corpus)


def load_evaluation(config: TaskConfig, model_folder: Path | None = None) -> Task:
    """The task with nothing but what to measure on: all of the data that the settings name.

    `model_folder` is that of `load_task`. Raises as that does, and DataError for classes that
    `config.labels` does not name.
    """
    spec = _spec(config)
    has_classes = spec.kind == CLASSIFICATION if spec.form is None else spec.form.has_classes
    if has_classes and not config.labels:
        raise ConfigError("task.labels must name the classes of the run that is to be measured")
    corpus = spec.load(config, model_folder, is_evaluation=True)
    return _task(config, spec, corpus)


def kind_of(config: TaskConfig) -> str:
    """The model's head for this task; ConfigError for an unknown one."""
    return _spec(config).kind


def _spec(config: TaskConfig) -> TaskSpec:
    if config.name not in TASKS:
        one_of("task.name", config.name, TASKS)
    spec = TASKS[config.name]
    if spec.kind != LANGUAGE_MODEL and config.packing not in ("auto", "truncate"):
        have = "an answer" if spec.kind == ANSWER_MODEL else "a class"
        raise ConfigError(
            f"task.packing must be 'auto' or 'truncate' for task {config.name!r}, whose samples have {have} "
            f"each, got {config.packing!r}"
        )
    if spec.texts is not None and config.packing not in ("auto", "pack"):
        raise ConfigError(
            f"task.packing must be 'auto' or 'pack' for task {config.name!r}, got {config.packing!r}"
        )
    if spec.form is PROMPTED and config.template == "chat":
        raise ConfigError(
            f"task.template must be 'auto', 'plain' or 'alpaca' for task {config.name!r}, got 'chat'"
        )
    if spec.form is ANSWERED and config.packing == "chunk":
        raise ConfigError(
            f"task.packing must be 'auto', 'pack' or 'truncate' for task {config.name!r}: a part of an "
            "answer without its prompt is no sample; got 'chunk'"
        )
    _check_read(config, spec.form)
    return spec


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


def _task(config: TaskConfig, spec: TaskSpec, corpus: Corpus) -> Task:
    return Task(
        name=config.name,
        kind=spec.kind,
        form=spec.form,
        corpus=corpus,
        packing=spec.packing if config.packing == "auto" else config.packing,
        source=config.data or spec.source,
        citation=spec.citation,
    )
