"""The text side of models of images and texts: stored names, refusals, exports of the wrapper's own form."""

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModel, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import add_adapters, held, install, train_all, trainable
from splitfl.adapters.model_export import export_model
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import CutError
from splitfl.models.families import CAUSAL_LM, FAMILIES
from splitfl.models.family_rows.wrappers import WRAPPERS
from splitfl.models.load import load_piece
from splitfl.models.split import split
from tests.splitfl import tiny
from tests.splitfl.models.test_split_equals_whole import compare, noise

ADAPTER = AdapterConfig(head=side_config(rank=2), body=side_config(rank=3))


def test_no_piece_reads_the_tower(tmp_path: Path) -> None:
    tiny.save(tmp_path, "gemma3", CAUSAL_LM)
    for blocks in ((0, 2), (2, 4), (0, 4)):
        piece = load_piece(tmp_path, CAUSAL_LM, *blocks)
        assert not any("vision_tower" in name for name, _ in piece.model.named_parameters())
        assert any("vision_tower" in name for name in piece.unread)


def test_names_of_older_checkpoints_are_read(tmp_path: Path) -> None:
    tiny.save(tmp_path / "new", "llava", CAUSAL_LM)
    tiny.save(tmp_path / "old", "llava", CAUSAL_LM)
    older = {
        ("language_model." + name if name == "lm_head.weight" else name).replace(
            "model.language_model.", "language_model.model."
        ): value
        for name, value in load_file(tmp_path / "new" / "model.safetensors").items()
    }
    assert "language_model.lm_head.weight" in older
    assert "language_model.model.layers.0.mlp.up_proj.weight" in older
    save_file(older, tmp_path / "old" / "model.safetensors", metadata={"format": "pt"})
    pieces = [load_piece(tmp_path / folder, CAUSAL_LM, 1) for folder in ("new", "old")]
    first, second = (dict(piece.model.named_parameters()) for piece in pieces)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_text_model_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    tiny.save(tmp_path, "llava", CAUSAL_LM)
    path = tmp_path / "config.json"
    table = json.loads(path.read_text())
    table["text_config"] = {"model_type": "mamba"}
    path.write_text(json.dumps(table))
    with pytest.raises(
        CutError, match=r"text_config of a llava model must be of type llama, mistral, .* 'mamba'"
    ):
        load_piece(tmp_path, CAUSAL_LM, 0, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "text"),
    [(name, text) for name, family in WRAPPERS.items() for text in family.texts if text in FAMILIES],
)
def test_every_text_model_in_a_wrapper_equals_the_whole(model_type: str, text: str, tmp_path: Path) -> None:
    changes = tiny.text_model(text)
    folder = tiny.save(tmp_path, model_type, CAUSAL_LM, text_config=changes)
    attention = FAMILIES[text].attentions[0]
    for lora in (True, False):
        compare(
            folder,
            model_type,
            CAUSAL_LM,
            [(2, 1)],
            ("left", "right"),
            lora=lora,
            dtype="float32",
            attention=attention,
        )


def test_attention_must_be_that_of_the_text_model(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "paligemma", CAUSAL_LM, text_config=tiny.text_model("gemma2"))
    with pytest.raises(CutError, match="a gemma2 model does not support attention 'sdpa'; set it to eager"):
        load_piece(folder, CAUSAL_LM, 0, 2)


def test_classification_is_refused_by_name(tmp_path: Path) -> None:
    tiny.save(tmp_path, "gemma3", CAUSAL_LM)
    with pytest.raises(CutError, match="a gemma3 model does not support sequence-classification"):
        load_piece(tmp_path, "sequence-classification", 0, 2, num_labels=2, pad_token_id=0)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", WRAPPERS)
def test_plain_peft_loads_the_adapter_on_the_wrapper(model_type: str, tmp_path: Path) -> None:
    source = tiny.save(tmp_path / "model", model_type, CAUSAL_LM)
    whole = load_piece(source, CAUSAL_LM, 0, attention=tiny.attention_of(model_type))
    add_adapters(whole, ADAPTER, 2, seed=0)
    tensors = noise(trainable(whole))
    install(whole, tensors)
    out = tmp_path / "adapter"
    export_adapter(out, tensors, whole=whole, model_name=str(source), adapter=ADAPTER, cut=2)
    loaded = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(source), out).eval()
    inputs, _ = tiny.batch(CAUSAL_LM)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, whole(inputs).logits, rtol=1e-4, atol=1e-5)
        again = AutoPeftModel.from_pretrained(out).eval()  # by the class that the folder names
        assert torch.equal(again(**inputs).logits, loaded(**inputs).logits)
        assert not torch.allclose(loaded.get_base_model()(**inputs).logits, tiny_logits(source, inputs))


def tiny_logits(source: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    logits: torch.Tensor = AutoModelForImageTextToText.from_pretrained(source).eval()(**inputs).logits
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("model_type", WRAPPERS)
def test_a_model_trained_in_full_keeps_the_checkpoints_tower(model_type: str, tmp_path: Path) -> None:
    source = tiny.save(tmp_path / "model", model_type, CAUSAL_LM)
    whole = load_piece(source, CAUSAL_LM, 0, attention=tiny.attention_of(model_type))
    train_all(whole)
    trained = noise(held(whole))
    export_model(tmp_path / "out", trained, whole=whole, source=source)
    before = AutoModelForImageTextToText.from_pretrained(source).state_dict()
    model, loading = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained.get(name, before[name])), name


def test_a_wrapper_in_memory_is_split() -> None:
    model = tiny.whole("gemma3", CAUSAL_LM).eval()
    head, body = split(model, 2)
    inputs, labels = tiny.batch(CAUSAL_LM)
    with torch.no_grad():
        loss = body(head(inputs), head.context_of(inputs), labels).loss
        assert torch.equal(loss, model(**inputs, labels=labels).loss)
