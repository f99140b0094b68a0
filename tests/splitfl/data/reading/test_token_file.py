"""A source's tokens: written once, whole or not at all, and the same as those of texts in memory."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.examples import Examples
from splitfl.data.loader import Batches, tokenizer
from splitfl.data.reading.text_corpus import token_corpus
from splitfl.data.reading.text_pieces import Document, TextSource
from splitfl.data.reading.token_file import tokenised
from splitfl.data.share import share
from splitfl.data.task import load_evaluation, load_task
from splitfl.data.texts import Texts
from splitfl.data.token_pieces import TokenPieces, check_tokens
from splitfl.data.token_windows import Windows
from splitfl.models.untrained import FOLDER
from tests.full_disk import full_disk
from tests.splitfl.data.conftest import TEXT

BYTES = FOLDER / "gpt2-bytes"
END = 256
Write = Callable[[str, str | bytes], Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "splitfl" / "tokens"


def source_of(*texts: str, held_out: str | None = None) -> TextSource:
    """Documents of these texts, each of a group of its own; one may be held out."""
    is_split = held_out is not None
    documents = [(text, False if is_split else None) for text in texts]
    documents += [(held_out, True)] if held_out is not None else []

    def read() -> Iterator[Document]:
        for number, (text, part) in enumerate(documents):
            name = f"document {number}"
            yield Document(
                name=name, group=f"g{number}", open=partial(BytesIO, text.encode()), is_held_out=part
            )

    return TextSource(name="these texts", version=repr(documents), documents=read)


def unread(source: TextSource) -> TextSource:
    """The same source, which cannot be read a second time."""
    return replace(source, documents=lambda: pytest.fail("read twice"))


def train_of(source: TextSource) -> TokenPieces:
    """The pieces to train on."""
    train = token_corpus(source, BYTES, is_evaluation=False).train
    assert isinstance(train, TokenPieces)
    return train


def test_the_tokens_are_those_of_the_tokenizer_with_an_end_token_after_each_document() -> None:
    texts = "def f():\r\n\treturn 1\n", "\N{EURO SIGN}" * 6000, "", "last"
    file = tokenised(source_of(*texts), BYTES)
    encode = tokenizer(BYTES)
    expected = [[*encode(text)["input_ids"], END] for text in texts if text]
    assert file.pieces.tokens.tolist() == [token for own in expected for token in own]
    assert file.pieces.tokens.dtype == np.uint16
    assert (file.documents, file.text_bytes) == (3, sum(len(text.encode()) for text in texts))
    assert len(file.pieces) == 4  # the second document has two pieces


def test_a_source_is_tokenised_once_and_again_when_it_is_another_one() -> None:
    source = source_of("one", held_out="two")
    first = tokenised(source, BYTES)
    again = tokenised(unread(source), BYTES)
    assert again.pieces.tokens.tolist() == first.pieces.tokens.tolist()
    assert again.pieces.keys.tolist() == first.pieces.keys.tolist()
    assert len(tokenised(source_of("one more", held_out="two"), BYTES).pieces.tokens) > len(
        first.pieces.tokens
    )


def test_processes_that_need_the_same_tokens_make_them_once() -> None:
    source, reads = source_of("text\n" * 20_000), []

    def counted() -> Iterator[Document]:
        reads.append(1)
        return source.documents()

    threads = [
        threading.Thread(target=tokenised, args=(replace(source, documents=counted), BYTES)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(reads) == 1


def test_an_interrupted_process_leaves_nothing_that_is_taken_for_tokens(cache: Path) -> None:
    source = source_of("one", "two")

    def interrupted() -> Iterator[Document]:
        yield next(source.documents())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenised(replace(source, documents=interrupted), BYTES)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    key = next(cache.iterdir()).stem
    (cache / f"{key}.partial").mkdir()  # of a killed process
    (cache / f"{key}.partial" / "tokens.bin").write_bytes(b"half")
    assert len(tokenised(source, BYTES).pieces) == 2
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".lock"]


@pytest.mark.parametrize("damaged", ["tokens.bin", "index.npz", "about.json"])
def test_damaged_tokens_are_made_again(cache: Path, damaged: str, caplog: pytest.LogCaptureFixture) -> None:
    source = source_of("one", "two")
    before = tokenised(source, BYTES).pieces.tokens.tolist()
    (path,) = cache.glob(f"*/{damaged}")
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        assert tokenised(source, BYTES).pieces.tokens.tolist() == before
    assert "is damaged and made again" in caplog.text


def test_a_full_disk_is_one_error_that_names_the_folder(cache: Path) -> None:
    with (
        full_disk(4096),
        pytest.raises(DataError, match=r"cannot store the tokens of these texts in .*/tokens"),
    ):
        tokenised(source_of("x" * 9000), BYTES)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_without_a_cache_folder_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DataError, match="there is none: set XDG_CACHE_HOME to a folder"):
        tokenised(source_of("text"), BYTES)


def test_batches_are_those_of_the_same_texts_in_memory() -> None:
    """The identity: packed from a file, or from texts in memory, a sample has the same tokens."""
    texts = [f"document {n}: " + "words and words\n" * (n % 7) for n in range(60)]
    pieces = train_of(source_of(*texts, held_out="held out"))
    examples = Examples(texts=tuple(texts), labels=None, groups=("",) * 60, keys=pieces.keys)
    encode = tokenizer(BYTES)
    whole = Texts(examples, encode, kind="causal-lm", max_length=32, packing="pack", num_embeddings=257)
    ours = Batches(Windows(pieces, max_length=32, pad_id=END), batch_size=5, seed=3, client=1)
    theirs = Batches(whole, batch_size=5, seed=3, client=1)
    assert len(ours) == len(theirs) > 10
    for step in range(len(ours) + 2):
        got, expected = ours.batch(step), theirs.batch(step)
        assert torch.equal(got.ids_B, expected.ids_B)
        assert torch.equal(got.inputs["input_ids"], expected.inputs["input_ids"])
        assert torch.equal(got.inputs["attention_mask"], expected.inputs["attention_mask"])
        assert torch.equal(got.labels, expected.labels)
    for got, expected in zip(ours.held_out(7), theirs.held_out(7), strict=True):
        assert torch.equal(got.inputs["input_ids"], expected.inputs["input_ids"])


@pytest.mark.parametrize("max_length", [2, 7, 31, 4096])
def test_every_token_of_every_client_is_in_one_sample(max_length: int) -> None:
    pieces = train_of(source_of(*("ab" * n for n in range(1, 40)), held_out="held out"))
    for indices in share(pieces, 3, "natural"):
        own = pieces.take(indices)
        rows = Windows(own, max_length=max_length, pad_id=END)
        tokens = [rows._row(index) for index in range(len(rows))]
        expected = [pieces.tokens[a:b] for a, b in zip(own.starts, own.ends, strict=True)]
        packed = np.concatenate(expected)
        assert np.concatenate(tokens).tolist() == packed[: len(packed) - rows.skipped].tolist()
        assert rows.skipped == (len(packed) % max_length == 1)


def test_a_limit_is_a_choice_by_the_texts_hash_in_the_order_of_the_corpus() -> None:
    pieces = train_of(source_of(*(f"text {n}" for n in range(30)), held_out="held out"))
    some = pieces.first(4)
    assert some.keys.tolist() == [key for key in pieces.keys if key in sorted(pieces.keys)[:4]]
    assert pieces.first(0) is pieces


def test_the_same_text_twice_has_two_keys() -> None:
    keys = tokenised(source_of("copy", "copy"), BYTES).pieces.keys
    assert keys[0] != keys[1]


def test_pieces_are_held_out_by_their_text_and_all_are_measured_in_an_evaluation() -> None:
    texts = [f"text {n}" for n in range(100)]
    split = token_corpus(source_of(*texts), BYTES, is_evaluation=False)
    assert 3 < len(split.held_out) < 25
    assert len(split.train) + len(split.held_out) == 100
    backwards = token_corpus(source_of(*texts[::-1]), BYTES, is_evaluation=False)
    assert set(backwards.held_out.keys) == set(split.held_out.keys)
    assert len(token_corpus(source_of(*texts), BYTES, is_evaluation=True).held_out) == 100
    measured = token_corpus(source_of(*texts, held_out="x"), BYTES, is_evaluation=True)
    assert (len(measured.train), len(measured.held_out)) == (0, 1)


def test_a_corpus_without_text_or_too_small_is_refused() -> None:
    with pytest.raises(DataError, match=r"^these texts has no text$"):
        token_corpus(source_of("", ""), BYTES, is_evaluation=False)
    with pytest.raises(
        DataError, match="these texts has 1 pieces of up to 16 KiB, too few to hold one in 10"
    ):
        token_corpus(source_of("small"), BYTES, is_evaluation=False)


def test_a_client_with_less_than_a_batch_is_refused() -> None:
    pieces = train_of(source_of("a" * 99, "b" * 400, held_out="x"))
    check_tokens(pieces, [(1,), (0,), ()], 10, 10)
    with pytest.raises(DataError, match=r"client 1 would have 100 tokens, fewer than the 101 of a batch"):
        check_tokens(pieces, [(1,), (0,)], 1, 101)


def test_a_corpus_of_ones_own_is_a_task(write: Write) -> None:
    folder = write("a", "").parent / "texts"
    for name in ("train", "dev"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.txt").write_text(f"of {name}\n" * 50)
    config = TaskConfig(name="corpus", data=str(folder))
    task = load_task(config, model_folder=BYTES)
    assert (task.kind, task.packing, len(task.train), len(task.held_out)) == ("causal-lm", "pack", 1, 1)
    assert task.corpus.sources == (f"{folder}: 800 bytes in 2 documents, read as 2 pieces of up to 16 KiB",)
    assert len(load_evaluation(config, BYTES).held_out) == 1
    with pytest.raises(ConfigError, match=r"task.packing must be 'auto' or 'pack' .*, got 'chunk'"):
        load_task(replace(config, packing="chunk"), model_folder=BYTES)


IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from splitfl.config import TaskConfig
from splitfl.data.loader import Batches
from splitfl.data.task import load_task
from splitfl.data.token_windows import Windows

def batches(data):
    task = load_task(TaskConfig(name="corpus", data=data), model_folder=Path(folder))
    return Batches(Windows(task.train, max_length=128, pad_id=0), batch_size=16, seed=0, client=0)

folder, small, big, allowed = sys.argv[1:]
batches(small).batch(0)  # after which the libraries have what they need
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
used = int(status["VmData"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(allowed), resource.RLIM_INFINITY))
ours = batches(big)
for step in range(0, len(ours), 7):
    ours.batch(step)
print(ours.num_samples)
"""


@pytest.mark.slow
def test_a_file_is_read_in_less_memory_than_its_size(tmp_path: Path, word_folder: Path) -> None:
    """All memory that the process may get is a quarter of the text's size, and less than its tokens have."""
    allowed = 8_000_000
    lines = [f"{number} {TEXT}\n" for number in range(4 * allowed // len(TEXT))]
    size = (tmp_path / "big.txt").write_text("".join(lines))
    (tmp_path / "small.txt").write_text("".join(lines[:5000]))
    arguments = [str(word_folder), *(str(tmp_path / name) for name in ("small.txt", "big.txt")), str(allowed)]
    program = [sys.executable, "-c", IN_LITTLE_MEMORY, *arguments]
    found = subprocess.run(program, capture_output=True, text=True, timeout=280, check=False)
    assert found.stderr == ""
    tokens = int(found.stdout) * 128
    assert 2 * tokens > allowed
    assert tokens > 0.8 * len(lines) * len(TEXT.split())
    assert size > 4 * allowed
