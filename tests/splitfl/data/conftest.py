"""Data for these tests: small examples, a local tokenizer in a hub's layout, files on demand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from splitfl.data.examples import Examples, gather

TEXT = "the server learns what each client knows from hidden states and gradients that cross a link"
WORDS = TEXT.split()


def sentence(number: int) -> str:
    """A text that no other number gives, two to ten words long."""
    return " ".join(WORDS[(number * 7 + i) % len(WORDS)] for i in range(1 + number % 9)) + f" {number}"


@pytest.fixture
def examples() -> Examples:
    """300 sentences of three classes and twelve groups."""
    numbers = range(300)
    return gather([sentence(i) for i in numbers], [i % 3 for i in numbers], [f"g{i % 12}" for i in numbers])


@pytest.fixture
def unlabelled(examples: Examples) -> Examples:
    """The same without classes."""
    return Examples(texts=examples.texts, labels=None, groups=examples.groups, keys=examples.keys)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Writes a file into a fresh folder and says where."""

    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@pytest.fixture(scope="session")
def word_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of whole words, saved the way a hub's folder holds one."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", *WORDS, *map(str, range(300))]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("words")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def byte_pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's layout of old: vocab.json and merges.txt and nothing else."""
    folder = tmp_path_factory.mktemp("pairs")
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789", "\u0120", "th", "the", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    return folder
