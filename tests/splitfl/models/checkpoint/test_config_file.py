"""What a config.json says is obeyed, or refused in one sentence that names it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from splitfl.core.errors import CutError, ModelMissing
from splitfl.models.cut import ranges
from splitfl.models.load import load_piece, read_config
from splitfl.setup.experiment import Experiment
from tests.splitfl import tiny, toy

CLASSIFICATION, IMAGES = "sequence-classification", "image-classification"
QUANTISED: dict[str, tuple[dict[str, Any], str]] = {
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
    "fp4": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
        r"bitsandbytes \(fp4\)",
    ),
    "llm-int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, r"bitsandbytes \(int8\)"),
    "old-bitsandbytes": ({"load_in_8bit": True}, "bitsandbytes"),
    "torchao": (
        {"quant_method": "torchao", "quant_type": "int8_weight_only"},
        r"torchao \(int8_weight_only\)",
    ),
    "gptq": ({"quant_method": "gptq", "bits": 4}, "gptq"),
    "awq": ({"quant_method": "awq", "bits": 4}, "awq"),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    "fbgemm": ({"quant_method": "fbgemm_fp8"}, "fbgemm_fp8"),
    "mxfp4": ({"quant_method": "mxfp4"}, "mxfp4"),
    "compressed": (
        {"quant_method": "compressed-tensors", "format": "float-quantized"},
        r"compressed-tensors \(float-quantized\)",
    ),
    "unnamed": ({"bits": 4}, "an unnamed method"),
}


def changed(folder: Path, model_type: str, kind: str, /, **changes: Any) -> Path:
    """A checkpoint whose config.json says something else in these fields."""
    tiny.save(folder, model_type, kind)
    table = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**table, **changes}))
    return folder


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("blocks", [(0, 2), (2, None), (0, None)], ids=["head", "body", "whole"])
def test_a_quantised_checkpoint_is_refused_by_the_name_of_its_method(
    name: str, blocks: tuple[int, int | None], tmp_path: Path
) -> None:
    settings, method = QUANTISED[name]
    folder = changed(tmp_path, "bert", CLASSIFICATION, quantization_config=settings)
    said = rf"quantised by {method} according to .*config.json \(quantization_config\)"
    with pytest.raises(CutError, match=said):
        load_piece(folder, CLASSIFICATION, *blocks)
    with pytest.raises(CutError, match=said):
        load_piece(folder, CLASSIFICATION, *blocks, is_shape_only=True)


@pytest.mark.parametrize(
    ("key", "method"), [("compression_config", "compressed-tensors"), ("quantization", "mlx")]
)
def test_other_keys_that_say_so_are_known(key: str, method: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, "bert", CLASSIFICATION, **{key: {"bits": 4}})
    with pytest.raises(CutError, match=rf"quantised by {method} according to .* \({key}\)"):
        read_config(folder, CLASSIFICATION)


@pytest.mark.parametrize(
    ("name", "method"),
    [("quantize_config.json", "gptq"), ("quant_config.json", "awq"), ("hf_quant_config.json", "modelopt")],
)
def test_a_quantisation_file_next_to_the_configuration_is_detected(
    name: str, method: str, tmp_path: Path
) -> None:
    tiny.save(tmp_path, "bert", CLASSIFICATION)
    (tmp_path / name).write_text("{}")
    with pytest.raises(CutError, match=rf"quantised by {method} according to .*{name}"):
        read_config(tmp_path, CLASSIFICATION)


def test_a_configuration_that_quantises_nothing_is_read(tmp_path: Path) -> None:
    read_config(changed(tmp_path, "bert", CLASSIFICATION, quantization_config=None), CLASSIFICATION)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool])
@pytest.mark.parametrize("is_shape_only", [False, True])
def test_whole_numbers_are_not_read_as_the_values_of_a_parameter(
    dtype: torch.dtype, is_shape_only: bool, tmp_path: Path
) -> None:
    tiny.save(tmp_path, "bert", CLASSIFICATION)
    stored = load_file(tmp_path / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    save_file({**stored, name: stored[name].to(dtype)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        CutError, match=rf"{name} must be a floating-point tensor, but is stored as (I8|U8|I32|BOOL)"
    ):
        load_piece(tmp_path, CLASSIFICATION, 0, 2, is_shape_only=is_shape_only)
    load_piece(tmp_path, CLASSIFICATION, 2, is_shape_only=is_shape_only)


@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.float8_e4m3fn])
def test_types_of_quantised_weights_are_named(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny.save(tmp_path, "bert", CLASSIFICATION)
    stored = load_file(tmp_path / "model.safetensors")
    name = "classifier.weight"
    save_file({**stored, name: stored[name].to(dtype)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelMissing, match=rf"tensor {name} is stored as (F8_E5M2|F8_E4M3), as in quantised"):
        load_piece(tmp_path, CLASSIFICATION, 2)


ODD: list[tuple[str, str, dict[str, Any], str]] = [
    ("bert", CLASSIFICATION, {"hidden_size": None}, "hidden_size"),
    ("bert", CLASSIFICATION, {"num_hidden_layers": "4"}, "num_hidden_layers"),
    ("bert", CLASSIFICATION, {"num_hidden_layers": 0}, "num_hidden_layers"),
    ("bert", CLASSIFICATION, {"hidden_act": "no such thing"}, "no such thing"),
    ("bert", CLASSIFICATION, {"layer_norm_eps": "1e-5"}, "layer_norm_eps"),
    ("bert", CLASSIFICATION, {"dtype": "float7"}, "float7"),
    ("bert", CLASSIFICATION, {"num_attention_heads": 5}, r"heads \(5\)"),
    ("bert", CLASSIFICATION, {"id2label": ["a"]}, "AttributeError"),
    (
        "bert",
        CLASSIFICATION,
        {"position_embedding_type": "relative_key"},
        "must be 'absolute', got 'relative_key'",
    ),
    ("bert", CLASSIFICATION, {"model_type": 3}, "model_type must be a string, got 3"),
    ("gpt2", "causal-lm", {"n_layer": None}, "n_layer"),
    ("gpt2", "causal-lm", {"hidden_size": "32"}, "n_embd must be a whole number of at least 1, got '32'"),
    ("gpt2", "causal-lm", {"num_attention_heads": None}, "n_head must be a whole number of at least 1"),
    ("qwen2", "causal-lm", {"sliding_window": None}, "sliding_window must be a whole number"),
    ("vit", IMAGES, {"image_size": None}, "image_size"),
]


@pytest.mark.parametrize(("model_type", "kind", "changes", "said"), ODD)
def test_a_field_that_no_model_is_made_of_is_named_with_its_file(
    model_type: str, kind: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = changed(tmp_path, model_type, kind, **changes)
    with pytest.raises(ModelMissing, match=rf"config\.json.*{said}") as raised:
        load_piece(folder, kind, 0)
    assert "\n" not in str(raised.value)


_OTHER = {"return_dict": False, "output_attentions": True, "chunk_size_feed_forward": 5}


@pytest.mark.parametrize(("model_type", "kind"), tiny.SOME)
def test_output_settings_of_a_configuration_are_ignored(model_type: str, kind: str, tmp_path: Path) -> None:
    attention = tiny.attention_of(model_type)
    inputs, labels = tiny.batch(kind)
    losses = []
    for name, changes in {"plain": {}, "odd": _OTHER}.items():
        folder = changed(tmp_path / name, model_type, kind, **changes)
        head, body = (load_piece(folder, kind, *ends, attention=attention) for ends in ((0, 2), (2, None)))
        losses.append(body(head(inputs), head.context_of(inputs), labels).loss)
    assert torch.equal(*losses)


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_classification_uses_cross_entropy_for_any_problem_type_of_the_checkpoint(
    problem: str, tmp_path: Path
) -> None:
    inputs, labels = tiny.batch(CLASSIFICATION)
    losses = []
    for name, changes in {"plain": {}, "odd": {"problem_type": problem}}.items():
        piece = load_piece(changed(tmp_path / name, "bert", CLASSIFICATION, **changes), CLASSIFICATION, 0)
        losses.append(piece(inputs, None, labels).loss)
    assert torch.equal(*losses)


def test_a_square_picture_may_be_given_by_both_sides(tmp_path: Path) -> None:
    folder = changed(tmp_path, "vit", IMAGES, image_size=[12, 12], patch_size=[4, 4])
    config = read_config(folder, IMAGES)
    assert (config.image_size, config.patch_size) == (12, 4)
    with pytest.raises(CutError, match=r"image_size must be that of a square image, got \[12, 8\]"):
        read_config(changed(tmp_path, "vit", IMAGES, image_size=[12, 8]), IMAGES)


def test_a_pad_token_beyond_the_embeddings_is_refused(tmp_path: Path) -> None:
    tiny.save(tmp_path, "llama", "causal-lm")
    with pytest.raises(CutError, match=rf"pads with token {tiny.VOCABULARY}, which is beyond the 61"):
        read_config(tmp_path, "causal-lm", pad_token_id=tiny.VOCABULARY)


def test_a_model_of_one_block_cannot_be_cut() -> None:
    with pytest.raises(CutError, match="a model of one block cannot be cut"):
        ranges(1, 1)


def test_a_run_of_a_quantised_checkpoint_is_refused_before_its_data_are_read(tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    table = json.loads((tmp_path / "model" / "config.json").read_text())
    quantised = {**table, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(quantised))
    with pytest.raises(CutError, match="quantised by gptq"):
        Experiment.of(toy.config(tmp_path))  # there is no data.tsv
