"""A model, its words and its data so small that a whole run takes a second."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from splitfl.config import RunConfig
from splitfl.methods.registry import METHODS
from splitfl.methods.settings import optional
from splitfl.models.families import CAUSAL_LM, SEQ2SEQ_LM, SEQUENCE_CLASSIFICATION
from splitfl.setup.experiment_file import from_dict, overridden
from tests.splitfl import tiny

TEXT = "the server learns what each client knows from hidden states and gradients that cross a link"
WORDS = TEXT.split()
LABELS = ("air", "wire")


def model(
    folder: Path,
    model_type: str = "bert",
    kind: str = SEQUENCE_CLASSIFICATION,
    *,
    is_base: bool = False,
    **changes: Any,
) -> Path:
    """A tiny checkpoint of four blocks with a tokenizer of whole words, as a hub's folder holds them.

    `is_base` leaves out what stands on the base model, which is then made anew and trained.
    """
    return tiny.write_copy(
        folder,
        repr(("toy", model_type, kind, is_base, changes)),
        lambda made: _save(made, model_type, kind, is_base, changes),
    )


def _save(folder: Path, model_type: str, kind: str, is_base: bool, changes: dict[str, Any]) -> None:
    whole = tiny.whole(model_type, kind, num_labels=len(LABELS), **changes)
    (whole.base_model if is_base else whole).save_pretrained(folder)
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    assert special[tiny.PADDING] == "[PAD]"
    numbers = {word: i for i, word in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)


def data(path: Path, rows: int = 120, *, labelled: bool = True) -> Path:
    """Sentences of 1 to 15 words; which of two classes one is from shows in its first word."""
    header = "text\tlabel\tgroup" if labelled else "text"
    lines = []
    for row in range(rows):
        words = [WORDS[(row * 7 + 3 * i * i) % len(WORDS)] for i in range(1 + row * 11 % 15)]
        label = LABELS[WORDS.index(words[0]) % 2]
        lines.append(f"{' '.join(words)}\t{label}\tgroup-{row % 6}" if labelled else " ".join(words))
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def place(*, is_base: bool = False, rows: int = 120) -> Any:
    """A module's fixture: a folder with `model` and the sentences `data.tsv`."""

    @pytest.fixture(scope="module")
    def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("place")
        model(folder / "model", is_base=is_base)
        data(folder / "data.tsv", rows)
        return folder

    return made


def table(folder: Path, **tables: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run of two clients for two rounds of three steps with the model and data in `folder`.

    What the method does not read is left out, and what it needs is there.
    """
    plain: dict[str, Any] = {
        "model": {"name": str(folder / "model")},
        "adapter": {"head": {"rank": 2}, "body": {"rank": 3}},
        "task": {"name": "classification", "data": str(folder / "data.tsv"), "max_length": 16},
        "federation": {"clients": 2, "rounds": 2, "local_steps": 3},
        "train": {"batch_size": 8, "head_lr": 1e-2, "body_lr": 1e-2},
        "transport": {"name": "inproc", "timeout_s": 20.0},
        "client": {"device": "cpu"},
        "server": {"device": "cpu"},
    }
    name = tables.get("method", {}).get("name", "sfl-v2")
    for unread in optional(RunConfig()).keys() - (METHODS[name].reads if name in METHODS else set()):
        table, _, key = unread.partition(".")
        plain.get(table, {}).pop(key, None)
    if name in METHODS:
        plain = overridden(plain, METHODS[name].needs)
    return {name: {**plain.get(name, {}), **tables.get(name, {})} for name in {**plain, **tables}}


def config(folder: Path, **tables: dict[str, Any]) -> RunConfig:
    """The same as `table`, resolved."""
    return from_dict(table(folder, **tables))


CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "server {% generation %}{{ message.content }} [SEP]{% endgeneration %} "
    "{% else %}client {{ message.content }} [SEP] {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}server {% endif %}"
)


def chat_model(
    folder: Path, model_type: str = "llama", template: str = CHAT_TEMPLATE, **changes: Any
) -> Path:
    """A tiny language model whose tokenizer has a chat template and an end token."""
    model(folder, model_type, CAUSAL_LM, **changes)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "[SEP]"
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def answer_model(folder: Path, model_type: str = "t5") -> Path:
    """A tiny encoder-decoder whose tokenizer has an end token."""
    model(folder, model_type, SEQ2SEQ_LM)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(folder)
    return folder


def said(number: int, words: int) -> str:
    """So many words, in an order of their own."""
    return " ".join(WORDS[(number * 7 + 3 * at * at + at) % len(WORDS)] for at in range(words))


def prompts(path: Path, rows: int = 60) -> Path:
    """JSON lines of prompts of 2 to 6 words with completions of 1 to 8."""
    table = [
        {"prompt": f"{said(row, 2 + row % 5)} what", "completion": f" {said(row + 1, 1 + row % 8)}"}
        for row in range(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return path


def chats(path: Path, rows: int = 60) -> Path:
    """JSON lines of chats of two turns each way."""
    turns = ("user", "assistant", "user", "assistant")
    table = [
        [{"role": role, "content": said(row + at, 1 + (row + at) % 4)} for at, role in enumerate(turns)]
        for row in range(rows)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in table), encoding="utf-8")
    return path
