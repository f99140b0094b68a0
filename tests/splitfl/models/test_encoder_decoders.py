"""Encoder-decoders cut in the encoder: shared embeddings, T5's position bias, exports and refusals."""

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSeq2SeqLM

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import add_adapters, install, train_all, trainable
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import CutError, ModelMissing
from splitfl.models.families import SEQ2SEQ_LM
from splitfl.models.family_rows.encoder_decoders import ENCODER_DECODERS
from splitfl.models.load import load_piece
from splitfl.models.split import split
from tests.splitfl import tiny
from tests.splitfl.models.test_split_equals_whole import compare, noise

ADAPTER = AdapterConfig(head=side_config(rank=2), body=side_config(rank=3))
BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def test_tied_embeddings_equal_the_whole_where_frozen(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bart", SEQ2SEQ_LM, tie_word_embeddings=True)
    compare(folder, "bart", SEQ2SEQ_LM, [(1, 1)], ("left",), lora=True, dtype="float32")


def test_the_decoder_is_in_the_last_piece_alone_and_the_bias_in_all(tmp_path: Path) -> None:
    tiny.save(tmp_path, "t5", SEQ2SEQ_LM)
    pieces = [load_piece(tmp_path, SEQ2SEQ_LM, *blocks) for blocks in ((0, 1), (1, 3), (3, 4))]
    names = [{name for name, _ in piece.model.named_parameters()} for piece in pieces]
    assert [any(name.startswith("decoder.") for name in own) for own in names] == [False, False, True]
    assert all(BIAS in own for own in names)
    assert all(BIAS in piece.tied for piece in pieces)


@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_tied_tensors_are_not_trained_in_full(model_type: str, tmp_path: Path) -> None:
    tiny.save(tmp_path, model_type, SEQ2SEQ_LM, tie_word_embeddings=True)
    with pytest.raises(CutError, match="is tied to a tensor of another piece"):
        train_all(load_piece(tmp_path, SEQ2SEQ_LM, 0, 2))


def test_the_decoder_has_the_bodys_adapters_by_default(tmp_path: Path) -> None:
    tiny.save(tmp_path, "t5", SEQ2SEQ_LM)
    piece = load_piece(tmp_path, SEQ2SEQ_LM, 2)
    add_adapters(piece, ADAPTER, 2, seed=0)
    rank = {name: len(value) for name, value in trainable(piece).items() if name.endswith("lora_A.weight")}
    assert rank["decoder.block.1.layer.1.EncDecAttention.v.lora_A.weight"] == 3
    assert rank["decoder.block.0.layer.0.SelfAttention.q.lora_A.weight"] == 3


def test_a_decoder_without_a_first_token_is_refused(tmp_path: Path) -> None:
    tiny.save(tmp_path, "t5", SEQ2SEQ_LM)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decoder_start_token_id": None}))
    with pytest.raises(ModelMissing, match="decoder_start_token_id must be a token"):
        load_piece(tmp_path, SEQ2SEQ_LM, 0, 2)


def test_a_model_in_memory_is_split() -> None:
    model = tiny.whole("bart", SEQ2SEQ_LM).eval()
    head, body = split(model, 2)
    inputs, labels = tiny.batch(SEQ2SEQ_LM)
    with torch.no_grad():
        loss = body(head(inputs), head.context_of(inputs), labels).loss
        assert torch.equal(loss, model(**inputs, labels=labels).loss)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ENCODER_DECODERS)
def test_plain_peft_loads_the_adapter(model_type: str, tmp_path: Path) -> None:
    source = tiny.save(tmp_path / "model", model_type, SEQ2SEQ_LM)
    whole = load_piece(source, SEQ2SEQ_LM, 0)
    add_adapters(whole, ADAPTER, 2, seed=0)
    tensors = noise(trainable(whole))
    install(whole, tensors)
    out = tmp_path / "adapter"
    export_adapter(out, tensors, whole=whole, model_name=str(source), adapter=ADAPTER, cut=2)
    assert json.loads((out / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"
    loaded = AutoPeftModelForSeq2SeqLM.from_pretrained(out).eval()
    inputs, labels = tiny.batch(SEQ2SEQ_LM)
    with torch.no_grad():
        expected = whole(inputs, None, labels).logits
        torch.testing.assert_close(loaded(**inputs, labels=labels).logits, expected, rtol=1e-4, atol=1e-5)
