"""Which tokens of prompts with completions, and of chats, are in the loss, and how they are packed."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.answers import Answers, Tokenised, written_prompt
from splitfl.data.batch import Batch
from splitfl.data.examples import Ints, gather
from splitfl.data.loader import tokenizer
from splitfl.data.reading.forms import ANSWERED
from splitfl.data.reading.rows import Tally, read_rows
from splitfl.data.task import load_task
from splitfl.data.text_kinds import Answered, Chat, ChatMessage, Text
from splitfl.models.inputs import packed_mask
from tests.splitfl import toy

Write = Callable[[str, str | bytes], Path]
USER = {"role": "user", "content": "a"}
UNMARKED = re.sub(r"{% (end)?generation %}", "", toy.CHAT_TEMPLATE)
PROMPT = Answered(prompt="the server", completion=" learns what")
TURNS = (
    ChatMessage("user", "what"),
    ChatMessage("assistant", "the link"),
    ChatMessage("user", "each"),
    ChatMessage("assistant", "client"),
)
CHAT = Chat(messages=TURNS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.chat_model(tmp_path_factory.mktemp("chat"))


def learnt(folder: Path, text: Text, *, template: str = "auto", loss_on: str = "answers") -> tuple[str, str]:
    """The sample's text, and what of it is in the loss."""
    encode = tokenizer(folder)
    (sample,) = Tokenised(encode, answers_only=loss_on == "answers", template=template).of([text])
    return encode.decode(sample.ids), encode.decode(sample.ids[sample.labels != -100])


def answers(folder: Path, texts: list[Text], **options: Any) -> Answers:
    settings = {"loss_on": "answers", "template": "auto", "max_length": 16} | options
    return Answers(gather(texts, None, [""] * len(texts)), tokenizer(folder), **settings)


def test_a_completion_and_the_end_token_are_learnt_and_its_prompt_is_not(folder: Path) -> None:
    assert learnt(folder, PROMPT) == ("the server learns what [SEP]", "learns what [SEP]")
    whole = "the server learns what [SEP]"
    assert learnt(folder, PROMPT, loss_on="all") == (whole, whole)


def test_an_end_token_that_is_there_is_not_put_twice(folder: Path) -> None:
    ended = Answered(prompt="the server", completion=" learns [SEP]")
    assert learnt(folder, ended) == ("the server learns [SEP]", "learns [SEP]")


def test_an_instruction_is_written_as_alpaca_has_it_and_a_prompt_as_it_is() -> None:
    given = Answered(prompt="Add.", completion="3", context="1 2")
    assert written_prompt(given, "auto") == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n"
        "1 2\n\n### Response:\n"
    )
    assert "Input" not in written_prompt(Answered(prompt="Add.", completion="3", context=""), "auto")
    assert written_prompt(given, "plain") == "Add.\n\n1 2"
    assert written_prompt(PROMPT, "auto") == "the server"
    assert written_prompt(PROMPT, "alpaca").endswith("### Instruction:\nthe server\n\n### Response:\n")


@pytest.mark.parametrize("template", [toy.CHAT_TEMPLATE, UNMARKED])
def test_of_a_chat_the_assistants_messages_are_learnt(template: str, tmp_path: Path) -> None:
    folder = toy.chat_model(tmp_path, template=template)
    said, in_loss = learnt(folder, CHAT)
    assert said == "client what [SEP] server the link [SEP] client each [SEP] server client [SEP]"
    assert in_loss == "the link [SEP] client [SEP]"
    assert learnt(folder, CHAT, loss_on="all") == (said, said)


def test_a_completion_of_messages_is_learnt_alone(folder: Path) -> None:
    _, in_loss = learnt(folder, Chat(messages=TURNS, prompt_length=3))
    assert in_loss == "client [SEP]"


def test_a_prompt_may_go_through_the_chat_template(folder: Path) -> None:
    assert learnt(folder, PROMPT, template="chat") == (
        "client the server [SEP] server learns what [SEP]",
        "learns what [SEP]",
    )


def test_a_template_that_rewrites_earlier_messages_must_mark_its_answers(tmp_path: Path) -> None:
    forgets = "{% for message in messages[-2:] %}" + UNMARKED.split("%}", 1)[1]
    folder = toy.chat_model(tmp_path, template=forgets)
    with pytest.raises(
        ConfigError, match=r"cannot be told from prompts: put {% generation %} .* task.loss_on"
    ):
        learnt(folder, CHAT)


def test_a_tokenizer_without_a_chat_template_cannot_take_chats(tmp_path: Path) -> None:
    folder = toy.model(tmp_path, "llama", "causal-lm")
    with pytest.raises(ConfigError, match=r"has no chat template, which chats need"):
        learnt(folder, CHAT)


def test_a_chat_that_the_template_refuses_is_named(tmp_path: Path) -> None:
    refuses = "{{ raise_exception('roles must alternate') }}"
    folder = toy.chat_model(tmp_path, template=refuses)
    with pytest.raises(DataError, match=r"begins with 'what' \(roles user, assistant, .*must alternate"):
        learnt(folder, CHAT)


def test_tokens_are_counted_and_samples_without_an_answer_are_left_out(folder: Path) -> None:
    long = Answered(prompt="the server learns what", completion=" each client knows")
    rows = answers(folder, [PROMPT, long], max_length=4)
    assert (len(rows), rows.skipped) == (1, 1)
    count = rows.count
    assert (count.texts, count.tokens, count.truncated_texts, count.truncated_tokens) == (2, 13, 2, 5)
    assert (count.learnt_tokens, count.unlearnt_texts, count.cut_prompts) == (2, 1, 0)


def test_a_prompt_whose_end_is_tokenised_with_the_completion_is_counted(folder: Path) -> None:
    joined = Answered(prompt="the ser", completion="ver learns")
    assert learnt(folder, joined) == ("the server learns [SEP]", "server learns [SEP]")
    assert answers(folder, [joined, PROMPT]).count.cut_prompts == 1


def test_a_padded_batch_has_no_label_on_prompts_and_padding(folder: Path) -> None:
    rows = answers(folder, [PROMPT, Answered(prompt="what", completion=" each client knows from")])
    batch = rows.collated(rows.shortest_first())
    assert batch.inputs["attention_mask"].sum(1).tolist() == [5, 6]
    assert (batch.labels != -100).sum(1).tolist() == [3, 5]
    assert torch.equal(batch.labels[batch.labels != -100], batch.inputs["input_ids"][batch.labels != -100])
    assert batch.inputs["input_ids"].shape[1] == 8


def texts_in(batch: Batch) -> list[tuple[Ints, Ints]]:
    """Tokens and labels of each text in packed rows."""
    found = []
    for row, positions in enumerate(batch.inputs["position_ids"]):
        real = packed_mask(positions[None])[0]
        starts = torch.nonzero((positions == 0) & real)[:, 0].tolist()
        for start, end in zip(starts, [*starts[1:], int(real.sum())], strict=True):
            found.append(
                (batch.inputs["input_ids"][row, start:end].numpy(), batch.labels[row, start:end].numpy())
            )
    return found


def test_packing_keeps_every_text_whole_and_in_as_few_rows_as_best_fit_needs(folder: Path) -> None:
    texts: list[Text] = [
        Answered(prompt=toy.said(n, 2), completion=" " + toy.said(n + 1, 1 + n % 7)) for n in range(20)
    ]
    plain, packed = (answers(folder, texts, packing=packing) for packing in ("truncate", "pack"))
    alone = plain.collated(np.arange(len(plain)))
    lengths = alone.inputs["attention_mask"].sum(1)
    batch = packed.collated(np.arange(len(packed)))
    assert len(packed) == -(-int(lengths.sum()) // 16)
    together = {ids.tobytes(): labels for ids, labels in texts_in(batch)}
    assert len(together) == len(plain)
    for row, length in enumerate(lengths):
        ids = alone.inputs["input_ids"][row, :length].numpy()
        assert together[ids.tobytes()][1:].tolist() == alone.labels[row, 1:length].tolist()
    assert all(labels[0] == -100 for labels in together.values())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "completion": "b"}, Answered(prompt="a", completion="b")),
        ({"Instruction": "a", "input": "", "Output": "b"}, Answered(prompt="a", completion="b", context="")),
        ({"question": "a", "answer": "b"}, Answered(prompt="a", completion="b")),
        ({"messages": [{"role": "user", "content": "a"}]}, Chat(messages=(ChatMessage("user", "a"),))),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            Chat(messages=(ChatMessage("user", "a"), ChatMessage("assistant", "b"))),
        ),
        (
            {"prompt": [USER], "completion": [{"role": "assistant", "content": "b"}]},
            Chat(messages=(ChatMessage("user", "a"), ChatMessage("assistant", "b")), prompt_length=1),
        ),
    ],
)  # fmt: skip
def test_rows_of_every_usual_layout_are_read(row: dict[str, Any], expected: Text, write: Write) -> None:
    in_lines = write("a.jsonl", json.dumps(row) + "\n")
    cells = [json.dumps(value) if isinstance(value, list) else value for value in row.values()]
    quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    in_table = write("a.csv", ",".join(row) + "\n" + quoted + "\n")
    for path in (in_lines, in_table):
        (read,) = read_rows(path, TaskConfig(), ANSWERED, Tally("refuse")).rows
        assert read.text == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, "the completion is missing or empty"),
        ({"prompt": "a", "completion": " "}, "the completion is missing or empty"),
        ({"prompt": "a", "completion": []}, "must both be strings or both be lists"),
        ({"messages": []}, "the messages must be a list of messages, got []"),
        ({"messages": ["a"]}, "message 1 must be an object, got 'a'"),
        ({"messages": [{"role": "user"}]}, "message 1: its content must be a string, got None"),
        ({"messages": [{**USER, "tool_calls": [1]}]}, "has 'tool_calls', which is not read"),
        ({"messages": [USER], "prompt": "b"}, "which are samples of two kinds"),
        ({"messages": [USER], "tools": "b"}, "the column 'tools', which is not read"),
        ({"prompt": "a", "question": "a", "completion": "b"}, "say in task.prompt_column which is"),
    ],
)  # fmt: skip
def test_a_row_that_is_none_is_refused_by_its_line(row: dict[str, Any], message: str, write: Write) -> None:
    path = write("a.jsonl", json.dumps(row) + "\n")
    with pytest.raises(DataError, match=re.escape(message)):
        read_rows(path, TaskConfig(), ANSWERED, Tally("refuse"))


def test_columns_are_named_by_settings(write: Write) -> None:
    path = write("a.csv", "topic,ask,reply\nx,a,b\n")
    config = TaskConfig(prompt_column="ask", completion_column="reply", ignore_columns=("topic",))
    (row,) = read_rows(path, config, ANSWERED, Tally("refuse")).rows
    assert row.text == Answered(prompt="a", completion="b")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lm", "prompt_column": "a"}, "task.prompt_column is not read by task 'lm', got 'a'"),
        ({"name": "lm", "loss_on": "all"}, "task.loss_on is not read by task 'lm', got 'all'"),
        ({"name": "sft", "text_column": "a"}, "task.text_column is not read by task 'sft'"),
        ({"name": "sft", "packing": "chunk"}, "must be 'auto', 'pack' or 'truncate' for task 'sft'"),
    ],
)
def test_a_setting_that_a_task_does_not_read_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_task(TaskConfig(**settings))  # type: ignore[arg-type]
