"""Each piece that is to learn has something to learn with."""

from pathlib import Path
from typing import Any

import pytest

from splitfl.adapters.inject import trainable
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.splitfl import shown, tiny, toy

SECOND, LAST = "layer.1.attention.self.query", "layer.3.attention.self.query"


place = toy.place(rows=40)


def pieces(place: Path, **tables: dict[str, Any]) -> PieceLoader:
    site = Experiment.of(toy.config(place, **tables))
    return PieceLoader(config=site.config, task=site.task, num_blocks=site.num_blocks, device="cpu")


def test_a_body_whose_targets_are_all_in_the_tail_is_refused(place: Path) -> None:
    adapter = {"head": {"rank": 2}, "body": {"rank": 2, "targets": [LAST]}}
    made = pieces(place, method={"name": "ushape"}, partition={"tail_blocks": 1}, adapter=adapter)
    assert trainable(made.tail())
    assert trainable(made.head())
    with pytest.raises(
        ConfigError, match=r"adapter.body.targets .*layer.3.* leave nothing to train in blocks 2..2"
    ):
        made.body()


def test_a_shallower_head_whose_targets_are_all_above_it_is_refused(place: Path) -> None:
    adapter = {"head": {"rank": 2, "targets": [SECOND]}, "body": {"rank": 2}}
    made = pieces(place, adapter=adapter)
    assert trainable(made.head())
    assert not trainable(made.head(1, is_bare=True))
    with pytest.raises(
        ConfigError, match=r"adapter.head.targets .*layer.1.* leave nothing to train in blocks 0..0"
    ):
        made.head(1)


@pytest.mark.parametrize("targets", [["classifier"], ["query", "classifier"]])
def test_a_new_classifier_as_the_bodys_target_is_refused(targets: list[str], tmp_path: Path) -> None:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv", rows=40)
    with pytest.raises(
        ConfigError, match="'classifier' matches only classifier, which is not in the checkpoint"
    ):
        pieces(tmp_path, adapter={"head": {"rank": 2}, "body": {"rank": 2, "targets": targets}}).head()


def test_robertas_longest_text_leaves_out_the_positions_of_its_padding(tmp_path: Path) -> None:
    toy.model(tmp_path / "model", "roberta")
    header, *rows = toy.data(tmp_path / "data.tsv", rows=40).read_text().splitlines()
    long = [f"{' '.join(toy.WORDS * 4)} {row}" for row in rows]
    (tmp_path / "data.tsv").write_text("\n".join([header, *long]) + "\n")
    with pytest.raises(ConfigError, match=r"at most the model's 38 \(40 positions, of which 2 .*, got 39"):
        Experiment.of(toy.config(tmp_path, task={"max_length": 39}))
    site = Experiment.of(toy.config(tmp_path, task={"max_length": 38}))
    batch = site.batches(0).batch(0)
    assert batch.inputs["input_ids"].shape[1] == 38
    pieces(tmp_path, task={"max_length": 38}).head()(batch.inputs)


def test_the_length_of_texts_means_nothing_for_pictures(tmp_path: Path) -> None:
    name = str(tiny.save(tmp_path / "vit", "vit", "image-classification", num_labels=4))
    lora = {"head": {"kind": "lora"}, "body": {"kind": "lora"}}
    Experiment.of(shown.config(tmp_path, shown.SMALL_NET, model={"name": name}, adapter=lora))


@pytest.mark.parametrize("name", ["sfl-v2", "cse-fsl", "ushape"])
def test_a_model_of_one_block_cannot_be_cut_by_any_method(name: str, tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    tiny.save(tmp_path / "model", "bert", "sequence-classification", num_hidden_layers=1, num_labels=2)
    toy.data(tmp_path / "data.tsv", rows=40)
    with pytest.raises(ConfigError, match="a model of one block cannot be cut"):
        Experiment.of(toy.config(tmp_path, method={"name": name}))
