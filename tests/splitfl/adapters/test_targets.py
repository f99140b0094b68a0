"""Which modules are adapted, and which are trained whole beside their adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import add_adapters, trainable
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.cut import Piece
from splitfl.models.load import load_piece
from tests.splitfl import tiny
from tests.splitfl.adapters.test_kinds import CUT, pieces_of, train
from tests.splitfl.split_loss import assert_exact, loss

TEXT, LANGUAGE = "sequence-classification", "causal-lm"


def both(**settings: Any) -> AdapterConfig:
    return AdapterConfig(head=side_config(**settings), body=side_config(**settings))


def whole(folder: Path, kind: str, adapter: AdapterConfig) -> Piece:
    piece = load_piece(folder, kind, 0, num_labels=tiny.LABELS)
    add_adapters(piece, adapter, CUT, seed=0)
    return piece


@pytest.mark.parametrize("targets", ["all-linear", r".*layers\.(1|2)\.self_attn\.[qk]_proj"])
def test_a_pattern_and_all_linear_match_the_modules_that_peft_matches(targets: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "llama", LANGUAGE)
    config = LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(tiny.stock(folder, LANGUAGE), config)
    expected = {name for name in model.targeted_module_names}
    assert whole(folder, LANGUAGE, both(targets=(targets,))).adapters.keys() == expected


def test_adapters_are_in_the_blocks_that_are_named(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", TEXT)
    sides = AdapterConfig(
        head=side_config(layers_to_transform=(1,)),
        body=side_config(layers_to_transform=(3,), targets=("all-linear",)),
    )
    adapted = whole(folder, TEXT, sides).adapters
    assert {name.split(".")[3] for name in adapted} == {"1", "3"}
    assert {"bert.encoder.layer.3.output.dense", "bert.encoder.layer.1.attention.self.query"} <= set(adapted)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"targets": ("(query",)}, r"adapter.head.targets: '\(query' is no regular expression"),
        ({"targets": ("quer.*y",)}, r"adapter.head.targets: no module 'quer.\*y'; have .*query"),
        ({"layers_to_transform": (2,)}, r"adapter.head.layers_to_transform: no block 2 .*; have 0, 1"),
        (
            {"modules_to_save": ("nothing",)},
            r"adapter.head.modules_to_save: no module 'nothing'; have .*query",
        ),
    ],
)
def test_targets_without_a_match_are_refused(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", TEXT)
    for first, last in ((0, CUT), (CUT, None)):
        piece = load_piece(folder, TEXT, first, last, num_labels=tiny.LABELS)
        with pytest.raises(ConfigError, match=reason):
            add_adapters(piece, AdapterConfig(head=side_config(**settings), body=side_config()), CUT, seed=0)


def test_modules_that_are_bypassed_are_not_adapted(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "mamba", LANGUAGE)
    everywhere = load_piece(folder, LANGUAGE, 0, attention="eager")
    add_adapters(everywhere, both(targets=("all-linear",)), CUT, seed=0)
    assert {name.rpartition(".")[2] for name in everywhere.adapters} == {"in_proj", "x_proj"}
    piece = load_piece(folder, LANGUAGE, 0, attention="eager")
    with pytest.raises(ConfigError, match=r"head.targets: no module 'out_proj'; have in_proj, .*x_proj"):
        add_adapters(piece, both(targets=("out_proj",)), CUT, seed=0)


SAVED = AdapterConfig(
    head=side_config(rank=3, modules_to_save=("word_embeddings",)),
    body=side_config(rank=3, targets=("all-linear",), modules_to_save=("classifier", "3.output")),
)


@pytest.mark.parametrize("model_type", ["bert", pytest.param("roberta", marks=pytest.mark.slow)])
def test_modules_trained_whole_are_exact_in_pieces_and_loaded_by_peft(
    model_type: str, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "model", model_type, TEXT)
    pieces, unsplit = pieces_of(folder, TEXT, SAVED), whole(folder, TEXT, SAVED)
    assert unsplit.fresh == ()
    named = {
        f"{model_type}.embeddings.word_embeddings.weight",
        f"{model_type}.encoder.layer.3.output.dense.weight",
    }
    assert named <= trainable(unsplit).keys()
    assert any(name.startswith("classifier.") for name in trainable(unsplit))
    assert f"{model_type}.encoder.layer.3.output.dense" not in unsplit.adapters
    assert_exact(pieces, unsplit, TEXT)
    tensors, out = train(pieces), tmp_path / "out"
    export_adapter(
        out, tensors, whole=whole(folder, TEXT, SAVED), model_name="a-model", adapter=SAVED, cut=CUT
    )
    model = PeftModel.from_pretrained(tiny.stock(folder, TEXT, num_labels=tiny.LABELS), out)
    inputs, labels = tiny.batch(TEXT)
    with torch.no_grad():
        found = model.eval()(**inputs, labels=labels).loss
    torch.testing.assert_close(found, loss(pieces, TEXT).detach(), rtol=1e-5, atol=1e-6)


def test_embeddings_that_another_piece_shares_are_not_trained_whole(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "gpt2", LANGUAGE, tie_word_embeddings=True)
    sides = AdapterConfig(head=side_config(modules_to_save=("wte",)), body=side_config())
    piece = load_piece(folder, LANGUAGE, 0, CUT)
    with pytest.raises(CutError, match=r"transformer.wte.weight is tied to a tensor of another piece"):
        add_adapters(piece, sides, CUT, seed=0)


def test_modules_with_batch_norms_are_not_trained_whole(tmp_path: Path) -> None:
    sides = AdapterConfig(head=side_config("full"), body=side_config(targets=("1",), modules_to_save=("1",)))
    piece = load_piece("resnet18", "image-classification", 0, is_shape_only=True, num_labels=tiny.LABELS)
    with pytest.raises(ConfigError, match=r"adapter.body.modules_to_save must be empty for a resnet model"):
        add_adapters(piece, sides, CUT, seed=0)
