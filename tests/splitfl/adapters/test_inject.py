"""Adapters of the pieces are the adapter of the whole: same names, same values, same logits once exported."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import add_adapters, install, train_all, trainable
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.checkpoint.source import resolve
from splitfl.models.cut import Piece, ranges
from splitfl.models.families import LANGUAGE_MODELS
from splitfl.models.load import load_piece
from tests.quick import quick
from tests.splitfl import tiny

CLASSIFICATION = "sequence-classification"
UNEQUAL = AdapterConfig(head=side_config(rank=2, alpha=3.0), body=side_config(rank=5, alpha=20.0))


def adapted(
    folder: Path, kind: str, cut: int, tail: int = 0, adapter: AdapterConfig = UNEQUAL
) -> list[Piece]:
    attention = tiny.attention_of(folder)
    pieces = [
        load_piece(folder, kind, blocks.start, blocks.stop, attention=attention, num_labels=tiny.LABELS)
        for blocks in ranges(tiny.BLOCKS, cut, tail)
    ]
    for piece in pieces:
        add_adapters(piece, adapter, cut, seed=0)
    return pieces


def unsplit(folder: Path, kind: str, cut: int) -> Piece:
    """The whole with the same adapters."""
    whole = load_piece(folder, kind, 0, attention=tiny.attention_of(folder), num_labels=tiny.LABELS)
    add_adapters(whole, UNEQUAL, cut, seed=0)
    return whole


def train(pieces: list[Piece]) -> dict[str, Tensor]:
    """Moves every trainable tensor somewhere, and gives them all by name."""
    chance = torch.Generator().manual_seed(1)
    for piece in pieces:
        install(piece, {n: torch.randn(v.shape, generator=chance) / 5 for n, v in trainable(piece).items()})
    return {name: value for piece in pieces for name, value in trainable(piece).items()}


def logits(pieces: list[Piece], inputs: dict[str, Tensor], labels: Tensor | None = None) -> Tensor:
    context, state = pieces[0].context_of(inputs), inputs
    with torch.no_grad():
        for piece in pieces[:-1]:
            state = piece(state, context)
        result = pieces[-1](state, context, labels).logits
    assert isinstance(result, Tensor)
    return result


@pytest.mark.parametrize(
    "is_base",
    [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["task checkpoint", "base checkpoint"],
)
@pytest.mark.parametrize(("model_type", "kind"), tiny.SOME)
def test_peft_loads_the_export_on_the_whole_and_gives_the_same_logits(
    model_type: str, kind: str, is_base: bool, tmp_path: Path
) -> None:
    model = tiny.whole(model_type, kind)
    (model.base_model if is_base else model).save_pretrained(tmp_path / "model")
    pieces = adapted(tmp_path / "model", kind, cut=1, tail=1)
    assert bool(pieces[-1].fresh) == (is_base and model.base_model is not model)
    tensors = train(pieces)
    out = tmp_path / "adapter"
    whole = unsplit(tmp_path / "model", kind, 1)
    export_adapter(out, tensors, whole=whole, model_name="a-model", adapter=UNEQUAL, cut=1)
    whole = tiny.stock(tmp_path / "model", kind, num_labels=tiny.LABELS)
    loaded = PeftModel.from_pretrained(whole, out).eval()
    inputs, labels = tiny.batch(kind)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs, labels=labels).logits, logits(pieces, inputs, labels))
    own = [] if kind in LANGUAGE_MODELS else ["config.json"]
    files = ["adapter_config.json", "adapter_model.safetensors", *own]
    assert sorted(path.name for path in out.iterdir()) == files


@pytest.mark.parametrize("source", quick(["minilm", "gpt2"], "gpt2"))
def test_the_export_fits_a_whole_with_tied_embeddings(source: str, tmp_path: Path) -> None:
    if source == "gpt2":
        folder = tiny.save(tmp_path / "model", "gpt2", "causal-lm", tie_word_embeddings=True)
    else:
        folder = resolve(source)
    *pieces, whole = (load_piece(folder, "causal-lm", *blocks) for blocks in ((0, 2), (2,), (0,)))
    for piece in (*pieces, whole):
        add_adapters(piece, UNEQUAL, 2, seed=0)
    tensors = train(pieces)
    export_adapter(tmp_path / "out", tensors, whole=whole, model_name=source, adapter=UNEQUAL, cut=2)
    changes = {} if source == "gpt2" else {"is_decoder": True}
    loaded = PeftModel.from_pretrained(tiny.stock(folder, "causal-lm", **changes), tmp_path / "out").eval()
    inputs, _ = tiny.batch("causal-lm")
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, logits(pieces, inputs))


def test_an_adapter_that_the_unsplit_model_lacks_is_not_exported_as_anything_else(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", "bert", CLASSIFICATION)
    head, body = adapted(folder, CLASSIFICATION, 2)
    with pytest.raises(ConfigError, match=r"cannot export .*lora_A.weight: .* has no such adapter in"):
        export_adapter(tmp_path, train([head, body]), whole=head, model_name="m", adapter=UNEQUAL, cut=2)


def test_an_export_is_replaced_by_a_later_one(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", "bert", CLASSIFICATION)
    for cut in (1, 2):
        pieces = adapted(folder, CLASSIFICATION, cut)
        whole = unsplit(folder, CLASSIFICATION, cut)
        export_adapter(tmp_path / "out", train(pieces), whole=whole, model_name="m", adapter=UNEQUAL, cut=cut)
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (settings["r"], set(settings["rank_pattern"].values())) == (2, {5})
    assert len(settings["rank_pattern"]) == 4


@pytest.mark.parametrize("cut", quick([1, 2, 3], 2))
def test_first_values_do_not_depend_on_the_cut_of_the_pieces(cut: int, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "llama", "causal-lm")
    whole = load_piece(folder, "causal-lm", 0)
    add_adapters(whole, UNEQUAL, cut, seed=0)
    pieces = adapted(folder, "causal-lm", cut)
    own = {name: value for piece in pieces for name, value in trainable(piece).items()}
    assert own.keys() == trainable(whole).keys()
    assert all(torch.equal(own[name], value) for name, value in trainable(whole).items())
    assert all(not value.any() for name, value in own.items() if "lora_B" in name)


def test_names_on_the_wire_are_the_unsplit_models() -> None:
    head = load_piece("minilm", CLASSIFICATION, 0, 1)
    add_adapters(head, UNEQUAL, 1, seed=0)
    path = "bert.encoder.layer.0.attention.self"
    assert list(trainable(head)) == [
        f"{path}.{part}.lora_{side}.weight" for part in ("query", "value") for side in "AB"
    ]


def test_first_values_spread_as_pefts_do(tmp_path: Path) -> None:
    head = load_piece("minilm", CLASSIFICATION, 0, 1)
    add_adapters(head, AdapterConfig(head=side_config(), body=side_config()), 1, seed=0)
    first = next(iter(trainable(head).values()))
    bound = 384**-0.5
    assert first.abs().max() <= bound
    assert first.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_adapters_of_a_bfloat16_piece_are_float32(tmp_path: Path) -> None:
    piece = load_piece(tiny.save(tmp_path, "gpt2", "causal-lm"), "causal-lm", 0, 2, dtype="bfloat16")
    add_adapters(piece, UNEQUAL, 2, seed=0)
    assert {value.dtype for value in trainable(piece).values()} == {torch.float32}


def test_targets_differ_by_side(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "llama", "causal-lm")
    sides = AdapterConfig(
        head=side_config(targets=("q_proj",)), body=side_config(targets=("gate_proj", "lm_head"))
    )
    head, body = adapted(folder, "causal-lm", 2, adapter=sides)
    assert {name.split(".")[-3] for name in trainable(head)} == {"q_proj"}
    assert {name.split(".")[-3] for name in trainable(body)} == {"gate_proj", "lm_head"}


def test_a_target_that_matches_nothing_is_refused_by_every_piece(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    wrong = AdapterConfig(head=side_config(), body=side_config(targets=("q_proj",)))
    for blocks in ranges(tiny.BLOCKS, 2, 1):
        piece = load_piece(folder, CLASSIFICATION, blocks.start, blocks.stop)
        with pytest.raises(
            ConfigError, match=r"adapter.body.targets: no module 'q_proj'; have .*key, query, value"
        ):
            add_adapters(piece, wrong, 2, seed=0)


def test_training_a_matrix_that_is_tied_across_the_cut_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "gpt2", "causal-lm", tie_word_embeddings=True)
    body = load_piece(folder, "causal-lm", 2)
    with pytest.raises(CutError, match="lm_head is tied to a tensor of another piece"):
        add_adapters(
            body, AdapterConfig(head=side_config(), body=side_config(targets=("lm_head",))), 2, seed=0
        )
    with pytest.raises(CutError, match=r"lm_head.weight is tied .* tie_word_embeddings=False"):
        train_all(body)


def test_installing_untrained_parameters_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    head, body = adapted(folder, CLASSIFICATION, 2)
    before = {name: value.clone() for name, value in trainable(head).items()}
    with pytest.raises(ConfigError, match="is not trained in this piece"):
        install(head, {**{name: value + 1 for name, value in before.items()}, **trainable(body)})
    name = next(iter(before))
    with pytest.raises(ConfigError, match=f"{name} must be"):
        install(head, {name: torch.zeros(1, 1)})
    assert all(torch.equal(value, before[name]) for name, value in trainable(head).items())


FULL = AdapterConfig(head=side_config("full"), body=side_config("full"))


def test_full_trains_every_parameter_and_adds_none(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    piece = load_piece(folder, "sequence-classification", 0, 2)
    names = [name for name, _ in piece.model.named_parameters()]
    add_adapters(piece, FULL, cut=2, seed=0)
    assert list(trainable(piece)) == names


def test_full_is_refused_where_steps_would_vanish_and_where_a_tensor_has_a_twin(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "gpt2", "causal-lm", tie_word_embeddings=True)
    with pytest.raises(
        ConfigError, match=r"whose updates would be lost in the rounding of torch.bfloat16: set model.dtype"
    ):
        add_adapters(load_piece(folder, "causal-lm", 0, dtype="bfloat16"), FULL, cut=2, seed=0)
    with pytest.raises(CutError, match=r"transformer.wte.weight is tied to a tensor of another piece"):
        add_adapters(load_piece(folder, "causal-lm", 0, 2), FULL, cut=2, seed=0)


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("targets", [("classifier",), ("query", "classifier")])
def test_a_target_that_is_new_and_trained_whole_is_refused_by_every_piece(
    first: int, targets: tuple[str, ...], tmp_path: Path
) -> None:
    tiny.whole("bert", "sequence-classification").base_model.save_pretrained(tmp_path)
    piece = load_piece(tmp_path, "sequence-classification", first, first + 2)
    with pytest.raises(
        ConfigError,
        match=r"adapter.body.targets: 'classifier' matches only classifier, which is not in the checkpoint",
    ):
        add_adapters(piece, AdapterConfig(head=side_config(), body=side_config(targets=targets)), 2, seed=0)


def test_a_target_that_is_new_in_part_adapts_the_rest(tmp_path: Path) -> None:
    tiny.whole("roberta", "sequence-classification").base_model.save_pretrained(tmp_path)
    body = load_piece(tmp_path, "sequence-classification", 2)
    add_adapters(body, AdapterConfig(head=side_config(), body=side_config(targets=("dense",))), 2, seed=0)
    names = trainable(body)
    assert "classifier.dense.weight" in names
    assert "roberta.encoder.layer.3.output.dense.lora_A.weight" in names


def test_a_classifier_that_the_checkpoint_has_is_adapted(tmp_path: Path) -> None:
    body = load_piece(tiny.save(tmp_path, "bert", "sequence-classification"), "sequence-classification", 2)
    add_adapters(
        body, AdapterConfig(head=side_config(), body=side_config(targets=("classifier",))), 2, seed=0
    )
    assert list(trainable(body)) == ["classifier.lora_A.weight", "classifier.lora_B.weight"]
