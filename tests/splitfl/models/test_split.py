from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import AutoModel

from splitfl.core.errors import ConfigError, CutError
from splitfl.models.cut import Piece
from splitfl.models.families import FAMILIES
from splitfl.models.split import split, split_pretrained
from tests.splitfl import tiny


def _whole(model_type: str, kind: str, **changes: object) -> nn.Module:
    model = tiny.whole(model_type, kind, **changes)
    model.set_attn_implementation(tiny.attention_of(model_type))
    model.config.use_cache = False
    return model.eval()


def _loss(pieces: tuple[Piece, ...], kind: str) -> torch.Tensor:
    inputs, labels = tiny.batch(kind)
    context, hidden = pieces[0].context_of(inputs), pieces[0](inputs)
    for piece in pieces[1:-1]:
        hidden = piece(hidden, context)
    loss = pieces[-1](hidden, context, labels).loss
    assert isinstance(loss, torch.Tensor)
    return loss


@pytest.mark.parametrize("tail", [0, 1])
@pytest.mark.parametrize(("model_type", "kind"), tiny.SOME)
def test_a_model_in_memory_is_split_into_pieces_with_its_own_loss_and_gradients(
    model_type: str, kind: str, tail: int
) -> None:
    model = _whole(model_type, kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [name for name, _ in model.named_modules()]
    pieces = split(model, cut=1, tail=tail)
    assert len(pieces) == (3 if tail else 2)
    inputs, labels = tiny.batch(kind)
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    ours = _loss(pieces, kind)
    ours.backward()  # type: ignore[no-untyped-call]
    assert torch.equal(ours, loss)
    gradients = {name: value.grad for name, value in model.named_parameters()}
    for piece in pieces:
        for name, value in piece.model.named_parameters():
            if name in piece.tied:  # each piece has a part of the gradient of a shared parameter
                continue
            expected = gradients[name]
            assert (value.grad is None) == (expected is None)
            assert expected is None or torch.equal(value.grad, expected), name  # type: ignore[arg-type]
    assert modules == [name for name, _ in model.named_modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_pieces_have_weights_of_their_own_or_the_models() -> None:
    model = _whole("bert", "sequence-classification")
    for copy_weights in (True, False):
        head, body = split(model, cut=2, copy_weights=copy_weights)
        for piece in (head, body):
            for name, value in piece.model.named_parameters():
                is_shared = value.data_ptr() == model.get_parameter(name).data_ptr()
                assert is_shared is not copy_weights


def test_a_peft_model_keeps_its_adapters_and_trained_parameters() -> None:
    model = _whole("llama", "causal-lm")
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.eval()
    pieces = split(adapted, cut=2)
    inputs, labels = tiny.batch("causal-lm")
    assert torch.equal(_loss(pieces, "causal-lm"), adapted(**inputs, labels=labels).loss)
    trained = {name for piece in pieces for name, v in piece.model.named_parameters() if v.requires_grad}
    own = {name for name, value in adapted.get_base_model().named_parameters() if value.requires_grad}
    assert trained == own
    assert all("lora_" in name for name in trained)


def test_parameters_tied_across_pieces_are_reported() -> None:
    head, body = split(_whole("gpt2", "causal-lm", tie_word_embeddings=True), cut=2)
    assert head.tied == ("transformer.wte.weight",)
    assert body.tied == ("lm_head.weight",)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Linear(2, 2), "a transformers or peft model can be split, got an object of type Linear"),
        (
            lambda: AutoModel.from_config(tiny.config("bert")),
            "a BertModel cannot be split: load the model of",
        ),
    ],
)
def test_an_unsplittable_model_is_refused_by_name(model: object, message: str) -> None:
    with pytest.raises(CutError, match=message):
        split(model(), cut=1)  # type: ignore[operator]


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_a_learned_prompt_which_stands_in_no_block_is_refused_by_name(kind: type[PeftConfig]) -> None:
    config = kind(task_type="CAUSAL_LM", num_virtual_tokens=4)  # type: ignore[call-arg]
    adapted = get_peft_model(_whole("llama", "causal-lm"), config)  # type: ignore[arg-type]
    with pytest.raises(CutError, match=r"(PROMPT|PREFIX)_TUNING .* cannot be split: .* use LoRA"):
        split(adapted, cut=2)


def test_a_piece_is_without_dropout_also_in_a_loop_that_asks_for_training_mode() -> None:
    model = _whole("bert", "sequence-classification", hidden_dropout_prob=0.5)
    pieces = torch.nn.ModuleList(split(model, cut=2)).train()
    inputs, labels = tiny.batch("sequence-classification")
    loss = _loss((pieces[0], pieces[1]), "sequence-classification")  # type: ignore[arg-type]
    assert torch.equal(loss, model(**inputs, labels=labels).loss)


@pytest.mark.parametrize(("cut", "tail"), [(0, 0), (4, 0), (2, 2)])
def test_a_cut_outside_the_model_is_refused(cut: int, tail: int) -> None:
    with pytest.raises(CutError, match=r"may be cut at 1\.\.3|the tail may have 0\.\.1"):
        split(_whole("bert", "sequence-classification"), cut=cut, tail=tail)


def test_a_part_of_a_checkpoint_is_the_part_of_the_whole(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    whole = split(_whole("bert", "sequence-classification"), cut=1, tail=1)
    for part, piece in zip(("head", "body", "tail"), whole, strict=True):
        read = split_pretrained(folder, task="sequence-classification", part=part, cut=1, tail=1)
        assert read.blocks == piece.blocks
        ours = dict(read.model.named_parameters())
        assert ours.keys() == dict(piece.model.named_parameters()).keys()
        assert all(torch.equal(ours[name], value) for name, value in piece.model.named_parameters())
    with pytest.raises(ConfigError, match="unknown part 'tail'; have body, head"):
        split_pretrained(folder, task="sequence-classification", part="tail", cut=1)


def test_every_family_has_a_case() -> None:
    assert {model_type for model_type, _ in tiny.CASES} >= {
        name for name, family in FAMILIES.items() if not family.hands_pictures
    }
