"""What a task reads of a row: the columns that it needs or may have, and the sample that they make."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from splitfl.core.errors import DataError
from splitfl.data.text_kinds import Answered, Chat, ChatMessage, Pair, Tagged, Text

USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text", "sentence", "sentence1", "premise", "question1"),
    "second_text": ("sentence2", "text_pair", "hypothesis", "question2"),
    "label": ("label", "labels"),
    "group": ("group",),
    "words": ("tokens", "words"),
    "tags": ("ner_tags", "tags"),
    "messages": ("messages", "conversations"),
    "prompt": ("prompt", "instruction", "question"),
    "context": ("input", "context"),
    "completion": ("completion", "output", "response", "answer"),
}
"""The names of columns that are read without a setting, by what they are."""

SPOKEN_BY: Final = {"human": "user", "gpt": "assistant"}
"""The roles of ShareGPT's files, where messages have `from` and `value`, as templates call them."""


_IN_PYTHON: Final = {
    "[{": re.compile(r"\s*\[\s*\{\s*'(role|content|from|value)'"),
    "[": re.compile(r"\s*\[\s*'.*'\s*\]\s*", re.DOTALL),
}
"""Lists of messages, and of words, as Python prints them, by how they begin."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """The columns of a task's rows and how a row's values are read.

    `roles` are what columns may be, and `needs` the sets of roles of which a row has exactly one.
    `by_position` are the columns of a table without a header. `text` makes the sample's text of the row's
    values by role, and raises DataError, without the place, for values that are none. `labels` says what a
    label is: a `class`, a `number`, a `set` of classes, `tags` (a class a word), or `none`.
    """

    roles: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...]
    text: Callable[[Mapping[str, object]], Text]
    by_position: Mapping[str, str] = field(default_factory=dict)
    labels: str = "none"

    @property
    def has_classes(self) -> bool:
        """Whether labels are names of classes."""
        return self.labels in ("class", "set", "tags")

    @property
    def is_labelled(self) -> bool:
        """Whether each sample has a label."""
        return self.labels != "none"


def string(values: Mapping[str, object], role: str) -> str:
    """The text in this role; DataError where it is missing, blank or no text."""
    value = values.get(role, "")
    if not isinstance(value, str):
        raise DataError(f"the {role} must be a string, got {value!r:.60}")
    if not value.strip():
        raise DataError(f"the {role} is missing or empty")
    return value


def _plain(values: Mapping[str, object]) -> Text:
    first = string(values, "text").strip()
    return Pair(first, string(values, "second_text").strip()) if "second_text" in values else first


def _tagged(values: Mapping[str, object]) -> Text:
    words, tags = (_words(values, role) for role in ("words", "tags"))
    if len(words) != len(tags):
        raise DataError(f"it has {len(words)} words and {len(tags)} tags")
    if unnamed := [tag for tag in tags if tag.strip() in ("", "-100")]:
        raise DataError(f"every word must have a tag that names a class, got {unnamed[0]!r}")
    return Tagged(words, tags)


def _words(values: Mapping[str, object], role: str) -> tuple[str, ...]:
    """The words of a list, of a JSON list in a cell, or between blanks."""
    value = values.get(role)
    if isinstance(value, str):
        value = listed(value, "[") or value.split()
    is_list = isinstance(value, list | tuple) and all(type(word) in (str, int) for word in value)
    if not is_list or not isinstance(value, list | tuple) or not value:
        raise DataError(f"the {role} must be a list of words, got {value!r:.60}")
    return tuple(map(str, value))


def _answered(values: Mapping[str, object]) -> Text:
    """A chat, or a prompt with its completion; either may be written as messages."""
    if "messages" in values:
        return Chat(messages=_messages(values, "messages"))
    prompt, completion = listed(values.get("prompt")), listed(values.get("completion"))
    if isinstance(prompt, Sequence) and isinstance(completion, Sequence):
        asked, said = (_messages(values, role) for role in ("prompt", "completion"))
        return Chat(messages=(*asked, *said), prompt_length=len(asked))
    if prompt is not None or completion is not None:
        raise DataError("the prompt and the completion must both be strings or both be lists of messages")
    context = values.get("context")
    if not isinstance(context, str | None):
        raise DataError(f"the context must be a string, got {context!r:.60}")
    return Answered(
        prompt=string(values, "prompt"),
        completion=string(values, "completion"),
        context=(context or "") if "context" in values else None,
    )


def _prompted(values: Mapping[str, object]) -> Text:
    """A prompt with its completion, both strings."""
    found = _answered(values)
    if isinstance(found, Chat):
        raise DataError("the prompt and the completion must be strings, got lists of messages")
    return found


def listed(value: object, beginning: str = "[{") -> list[object] | None:
    """The list that this is, in JSON too where a cell of a table holds it; None for anything else.

    Raises DataError for a list as Python prints it, with single quotes.
    """
    if isinstance(value, str) and value.lstrip().startswith(beginning):
        text = value
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            if _IN_PYTHON[beginning].match(text):
                raise DataError(
                    f"a list in a cell must be JSON, with double quotes; got {text:.60}"
                ) from None
            return None
    return list(value) if isinstance(value, list | tuple) else None


def _messages(values: Mapping[str, object], role: str) -> tuple[ChatMessage, ...]:
    found = listed(values[role])
    if not found:
        raise DataError(f"the {role} must be a list of messages, got {values[role]!r:.60}")
    return tuple(_message(number, item) for number, item in enumerate(found, start=1))


def _message(number: int, item: object) -> ChatMessage:
    if not isinstance(item, Mapping):
        raise DataError(f"message {number} must be an object, got {item!r:.60}")
    present = {str(key): value for key, value in item.items() if value is not None}
    names = ("from", "value") if "from" in present else ("role", "content")
    if unread := sorted(present.keys() - set(names)):
        raise DataError(
            f"message {number} has {', '.join(map(repr, unread))}, which is not read; a message has "
            "role and content"
        )
    if missing := [name for name in names if not isinstance(present.get(name), str)]:
        got = present.get(missing[0])
        raise DataError(f"message {number}: its {missing[0]} must be a string, got {got!r:.60}")
    role, content = (str(present[name]) for name in names)
    return ChatMessage(SPOKEN_BY.get(role, role) if names[0] == "from" else role, content)


PLAIN: Final = Form(roles=("text", "group"), needs=(("text",),), text=_plain, by_position={"text": "1"})
LABELLED: Final = Form(
    roles=("text", "second_text", "label", "group"),
    needs=(("text", "label"),),
    text=_plain,
    by_position={"text": "1", "label": "2"},
    labels="class",
)
SCORED: Final = replace(LABELLED, labels="number")
SEVERAL_LABELS: Final = replace(LABELLED, labels="set")
PICTURED: Final = Form(roles=(), needs=(), text=_plain, labels="class")
"""Pictures, which are files and have no columns."""
TAGGED: Final = Form(
    roles=("words", "tags", "group"), needs=(("words", "tags"),), text=_tagged, labels="tags"
)
PROMPTED: Final = Form(
    roles=("prompt", "context", "completion", "group"), needs=(("prompt", "completion"),), text=_prompted
)
ANSWERED: Final = Form(
    roles=("messages", "prompt", "context", "completion", "group"),
    needs=(("messages",), ("prompt", "completion")),
    text=_answered,
)
