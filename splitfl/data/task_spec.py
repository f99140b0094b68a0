"""The specification of a task: what is learnt, by which head, and from which data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitfl.config import TaskConfig, one_of
from splitfl.core.errors import ConfigError
from splitfl.data.reading import sources
from splitfl.data.reading.corpus import Corpus
from splitfl.data.reading.forms import Form
from splitfl.data.reading.text_corpus import token_corpus
from splitfl.data.reading.text_pieces import TextSource

CLASSIFICATION = "sequence-classification"
LANGUAGE_MODEL = "causal-lm"
ANSWER_MODEL = "seq2seq-lm"
IMAGES = "image-classification"
TOKENS = "token-classification"
KINDS: Final = (CLASSIFICATION, TOKENS, LANGUAGE_MODEL, ANSWER_MODEL, IMAGES)


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One task. A package registers another by an entry point of the group `splitfl.tasks`.

    `kind` is the model's head, as in `Task`. The data come from one of three: `form` is that of the rows in
    `task.data`; `corpus` returns them (`evaluation` those of `splitfl eval --data`, if they are others);
    `texts` returns text of any size, which is read as tokens of the run's model. `source` says where they are
    from if `task.data` is empty. `packing` is that of `task.packing` "auto": truncate, pack or chunk.
    `citation` is BibTeX or "".

    Raises ConfigError for an unknown kind or packing, and a task without data.
    """

    about: str
    kind: str
    form: Form | None = None
    corpus: Callable[[TaskConfig], Corpus] | None = None
    evaluation: Callable[[TaskConfig], Corpus] | None = None
    texts: Callable[[TaskConfig], TextSource] | None = None
    source: str = ""
    packing: str = "truncate"
    citation: str = ""

    def __post_init__(self) -> None:
        one_of("TaskSpec.kind", self.kind, KINDS)
        one_of("TaskSpec.packing", self.packing, ("truncate", "pack", "chunk"))
        if self.form is None and self.corpus is None and self.texts is None:
            raise ConfigError("TaskSpec must have a form, a corpus or texts, got none of them")

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
