"""A tokenizer that does not fit its model, or cannot be read, is refused in one sentence."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from splitfl.core.errors import ConfigError, CutError, ModelMissing
from splitfl.data.loader import tokenizer
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.splitfl import tiny, toy


@pytest.fixture
def place(tmp_path: Path) -> Path:
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv", rows=40)
    return tmp_path


def with_tokens(folder: Path, *, more: int = 0, pad: str = "") -> None:
    """Adds so many tokens that no text has, then the data's most frequent word, then a token to pad with."""
    own = AutoTokenizer.from_pretrained(folder)
    own.add_tokens([f"<{number}>" for number in range(more)])
    if pad:
        own.add_special_tokens({"pad_token": pad})
    own.save_pretrained(folder)


def head(place: Path) -> None:
    site = Experiment.of(toy.config(place))
    PieceLoader(config=site.config, task=site.task, num_blocks=site.num_blocks, device="cpu").head()


def test_a_pad_token_that_was_added_without_an_embedding_is_refused(place: Path) -> None:
    with_tokens(place / "model", more=tiny.VOCABULARY, pad="[NEW]")
    with pytest.raises(CutError, match=r"pads with token \d+, which is beyond the 61 embeddings"):
        head(place)


def test_a_token_of_the_data_without_an_embedding_is_refused_by_name(place: Path) -> None:
    with_tokens(place / "model", more=tiny.VOCABULARY)
    Experiment.of(toy.config(place)).batches(0)  # none of them is in the data
    text = (place / "data.tsv").read_text().replace("server", "<50>")
    (place / "data.tsv").write_text(text)
    with pytest.raises(
        ConfigError, match=r"the tokenizer has token \d+ \('<50>'\) and the model 61 embeddings"
    ):
        Experiment.of(toy.config(place)).batches(0)


@pytest.mark.parametrize("kind", ["Later", None])
def test_a_tokenizer_of_a_newer_library_is_named(kind: str | None, place: Path) -> None:
    path = place / "model" / "tokenizer.json"
    table = json.loads(path.read_text())
    table["model"] = {"type": kind}
    path.write_text(json.dumps(table))
    with pytest.raises(ModelMissing, match=r"the tokenizer in .*model cannot be read; .* newer") as raised:
        tokenizer(place / "model")
    assert "\n" not in str(raised.value)
