"""A model that was trained whole is exported with all that belongs to it."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from splitfl.adapters.inject import add_adapters, held
from splitfl.adapters.model_export import export_model
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.models.families import CAUSAL_LM
from splitfl.models.load import load_piece
from tests.splitfl import tiny, toy

FULL = side_config("full")
TEMPLATE = "{% for message in messages %}{{ message['content'] }} server {% endfor %}"
BESIDE = {
    "chat_template.jinja": TEMPLATE,
    "additional_chat_templates/tool.jinja": "{{ messages }}",
    "special_tokens_map.json": "{}",
    "added_tokens.json": "{}",
    "tokenizer.model": "pieces of sentences",
    "spiece.model": "pieces of sentences",
    "generation_config.json": '{"max_new_tokens": 3, "eos_token_id": 3}',
    "preprocessor_config.json": "{}",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = toy.model(tmp_path / "source", "llama", CAUSAL_LM)
    for name, text in BESIDE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "training_args.bin").write_bytes(b"somebody's own")
    return folder


def test_templates_tokenizers_and_settings_go_with_the_weights(source: Path, tmp_path: Path) -> None:
    whole = load_piece(source, CAUSAL_LM, 0)
    add_adapters(whole, AdapterConfig(head=FULL, body=FULL), 2, seed=0)
    out = tmp_path / "out"
    export_model(out, held(whole), whole=whole, source=source)
    for name, text in BESIDE.items():
        assert (out / name).read_text() == text
    own = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    assert own == {*BESIDE, *tokenizer, "config.json", "model.safetensors"}
    chat = AutoTokenizer.from_pretrained(out).apply_chat_template(
        [{"role": "user", "content": "the client"}], tokenize=False
    )
    assert chat == "the client server "
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.generation_config.max_new_tokens == 3
    inputs, _ = tiny.batch(CAUSAL_LM)
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs).logits, whole(inputs).logits)


def test_experts_are_exported_as_transformers_reads_them(tmp_path: Path) -> None:
    source = toy.model(tmp_path / "source", "mixtral", CAUSAL_LM)
    whole = load_piece(source, CAUSAL_LM, 0)
    add_adapters(whole, AdapterConfig(head=FULL, body=FULL), 2, seed=0)
    with torch.no_grad():
        whole.model.get_parameter("model.layers.3.mlp.experts.down_proj").mul_(2.0)
    export_model(tmp_path / "out", held(whole), whole=whole, source=source)
    inputs, _ = tiny.batch(CAUSAL_LM)
    with torch.no_grad():
        assert torch.equal(tiny.stock(tmp_path / "out", CAUSAL_LM)(**inputs).logits, whole(inputs).logits)


def test_the_configuration_names_the_class_whose_weights_these_are(tmp_path: Path) -> None:
    source = toy.model(tmp_path / "source", "bert", is_base=True)
    whole = load_piece(source, "sequence-classification", 0, num_labels=2)
    add_adapters(whole, AdapterConfig(head=FULL, body=FULL), 2, seed=0)
    export_model(tmp_path / "out", held(whole), whole=whole, source=source)
    table = json.loads((tmp_path / "out" / "config.json").read_text())
    assert table["architectures"] == ["BertForSequenceClassification"]
