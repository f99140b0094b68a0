"""What a piece holds, what it hands on, and what it refuses."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from splitfl.adapters.inject import add_adapters, trainable
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.cut import Piece, frozen_in, ranges, replica, share_frozen
from splitfl.models.families import FAMILIES, base_path, block_index, family_of
from splitfl.models.family_rows.refused import REFUSED
from splitfl.models.load import load_piece
from splitfl.models.unsplit import build
from tests.splitfl import tiny

CLASSIFICATION = "sequence-classification"


@pytest.mark.parametrize(("model_type", "kind"), tiny.SOME)
def test_pieces_share_out_the_whole_models_parameters(model_type: str, kind: str) -> None:
    attention = family_of(model_type).attentions[0]
    whole = build(tiny.config(model_type), kind, attention=attention)
    base = f"{base_path(whole)}." if base_path(whole) else ""
    shared = tuple(f"{base}{path}." for path in family_of(model_type).shared)
    unused = tuple(f"{base}{path}" for path in family_of(model_type).unused)
    names = [name for name, _ in whole.named_parameters(remove_duplicate=False)]
    names = [name for name in names if not unused or not name.startswith(unused)]
    held: list[str] = []
    for blocks in ranges(tiny.BLOCKS, 1, 1):
        piece = Piece(
            build(tiny.config(model_type), kind, attention=attention), kind, blocks.start, blocks.stop
        )
        own = [name for name, _ in piece.model.named_parameters(remove_duplicate=False)]
        held += [name for name in own if name not in held or not name.startswith(shared)]
    assert sorted(held) == sorted(names)


@pytest.mark.parametrize(("cut", "tail"), [(0, 0), (4, 0), (5, 0), (-1, 0), (2, 2), (2, -1)])
def test_a_cut_outside_the_model_is_refused(cut: int, tail: int) -> None:
    with pytest.raises(CutError, match="may"):
        ranges(4, cut, tail)


def test_ranges_cover_every_block_once() -> None:
    assert ranges(6, 2) == (range(2), range(2, 6))
    assert ranges(6, 2, 3) == (range(2), range(2, 3), range(3, 6))


@pytest.mark.parametrize(("first", "last"), [(2, 2), (3, 5), (-1, 2)])
def test_a_piece_without_blocks_of_the_model_is_refused(first: int, last: int) -> None:
    with pytest.raises(CutError, match=r"one or more of blocks 0..3"):
        Piece(build(tiny.config("bert"), CLASSIFICATION), CLASSIFICATION, first, last)


def test_a_model_outside_the_table_is_refused_by_name() -> None:
    with pytest.raises(CutError, match="'bort'; did you mean 'bert'\\? have bert, roberta"):
        family_of("bort")


def test_models_that_would_be_wrong_are_refused_with_the_reason() -> None:
    assert REFUSED.keys() <= CONFIG_MAPPING_NAMES.keys()
    assert not REFUSED.keys() & FAMILIES.keys()
    for model_type, reason in REFUSED.items():
        with pytest.raises(CutError, match=f"cannot cut a model of type '{model_type}': {reason}"):
            family_of(model_type)


def test_a_task_the_family_cannot_do_is_refused() -> None:
    with pytest.raises(CutError, match="a vit model does not support causal-lm; have image-classification"):
        build(tiny.config("vit"), "causal-lm")
    with pytest.raises(ConfigError, match="unknown kind of model 'causal_lm'; did you mean 'causal-lm'"):
        build(tiny.config("bert"), "causal_lm")


def test_an_attention_the_family_cannot_do_is_refused() -> None:
    with pytest.raises(CutError, match="gemma2 model does not support attention 'sdpa'; set it to eager"):
        build(tiny.config("gemma2"), "causal-lm")


def test_inputs_that_a_later_piece_would_not_know_of_are_refused(tmp_path: Path) -> None:
    inputs, _ = tiny.batch("causal-lm")
    head = load_piece(tiny.save(tmp_path / "llama", "llama", "causal-lm"), "causal-lm", 0, 2)
    with pytest.raises(CutError, match=r"may be input_ids, .*, position_ids, got .*inputs_embeds"):
        head({**inputs, "inputs_embeds": inputs["input_ids"]})
    with pytest.raises(
        CutError, match=r"packed into a row, without an attention_mask, .* got attention_mask"
    ):
        head({**inputs, "position_ids": inputs["input_ids"]})
    other = load_piece(tiny.save(tmp_path / "opt", "opt", "causal-lm"), "causal-lm", 0, 2)
    with pytest.raises(CutError, match=r"for models that keep such texts apart; got"):
        other({"input_ids": inputs["input_ids"], "position_ids": inputs["input_ids"]})


def test_context_holds_the_padding_mask_and_no_token_ids(tmp_path: Path) -> None:
    head = load_piece(tiny.save(tmp_path, "gpt2", CLASSIFICATION), CLASSIFICATION, 0, 2)
    inputs, _ = tiny.batch(CLASSIFICATION, "right")
    context = head.context_of(inputs)
    assert torch.equal(context["mask"], inputs["attention_mask"].bool())
    assert context["last"].tolist() == [11, 8, 5]
    other = {**inputs, "input_ids": torch.where(inputs["input_ids"] == tiny.PADDING, tiny.PADDING, 9)}
    assert all(torch.equal(context[name], value) for name, value in head.context_of(other).items())
    unpadded, _ = tiny.batch("causal-lm", "none")
    assert "mask" not in head.context_of(unpadded)


def test_a_replica_shares_frozen_parameters_and_owns_trained_ones(tmp_path: Path) -> None:
    piece = load_piece(tiny.save(tmp_path, "bert", CLASSIFICATION), CLASSIFICATION, 2)
    add_adapters(piece, AdapterConfig(head=side_config(), body=side_config()), cut=2, seed=0)
    copied = replica(piece)
    for name, value in piece.model.named_parameters():
        twin = copied.model.get_parameter(name)
        assert torch.equal(twin, value)
        assert (twin is value) == (not value.requires_grad)
    assert trainable(copied).keys() == trainable(piece).keys()


def test_replicas_run_in_threads_without_touching_each_other(tmp_path: Path) -> None:
    piece = load_piece(tiny.save(tmp_path, "gpt2", "causal-lm"), "causal-lm", 2)
    replicas = [replica(piece) for _ in range(4)]
    states = [torch.randn(3, 12, 32) for _ in replicas]
    with torch.no_grad():
        alone = [piece(state).logits for state in states]

    def many(index: int) -> list[torch.Tensor]:
        with torch.no_grad():
            return [replicas[index](states[index]).logits for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        for index, logits in enumerate(pool.map(many, range(4))):
            assert all(torch.equal(one, alone[index]) for one in logits)


def test_a_head_can_use_the_frozen_tensors_of_the_whole(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    whole, head = load_piece(folder, CLASSIFICATION, 0), load_piece(folder, CLASSIFICATION, 0, 2)
    add_adapters(head, AdapterConfig(head=side_config(), body=side_config()), cut=2, seed=0)
    add_adapters(whole, AdapterConfig(head=side_config(), body=side_config()), cut=2, seed=0)
    share_frozen(frozen_in(whole), head)
    for name, value in head.model.named_parameters():
        assert (value is whole.model.get_parameter(name)) == (not value.requires_grad)


def test_blocks_are_found_by_name() -> None:
    assert block_index(family_of("gpt2"), "transformer.h.11.attn.c_attn") == 11
    assert block_index(family_of("bert"), "bert.pooler.dense.weight") is None
