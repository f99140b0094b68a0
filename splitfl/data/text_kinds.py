"""What one sample can be: plain text, a pair of texts, a picture, a prompt with its completion, or a chat.

Each has a canonical form as `str`, which names and orders the samples.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """Two texts that have a label together."""

    first: str
    second: str

    def __str__(self) -> str:
        return json.dumps([self.first, self.second], ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A prompt and its completion, which is learnt; `context` is an instruction's input, if rows have it."""

    prompt: str
    completion: str
    context: str | None = None

    def __str__(self) -> str:
        return json.dumps([self.prompt, self.context, self.completion], ensure_ascii=False)


@dataclass(frozen=True)
class ChatMessage:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A conversation. The first `prompt_length` messages are its prompt and the others its completion.

    Where that is 0, the messages of role assistant are the answers.
    """

    messages: tuple[ChatMessage, ...]
    prompt_length: int = 0

    def __str__(self) -> str:
        turns = [[message.role, message.content] for message in self.messages]
        return json.dumps([self.prompt_length, *turns], ensure_ascii=False)


@dataclass(frozen=True)
class Tagged:
    """The words of a sentence, and a class for each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return json.dumps([self.words, self.tags], ensure_ascii=False)


@dataclass(frozen=True)
class PictureFile:
    """One picture, named by what it shows: wherever it lies, it is the same sample."""

    path: Path = field(compare=False)
    digest: str

    def __str__(self) -> str:
        return self.digest


Text = str | Pair | Answered | Chat | Tagged | PictureFile
