"""Each piece takes its own tensors from the checkpoint, and says plainly what is wrong with one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from splitfl.adapters.inject import add_adapters
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import CutError, ModelMissing
from splitfl.models.load import load_piece, read_config
from tests.quick import quick
from tests.splitfl import tiny

CLASSIFICATION = "sequence-classification"


def rewrite(folder: Path, names: dict[str, str | None]) -> None:
    """Renames tensors of the checkpoint by parts of their names; None removes the tensor."""
    kept = {}
    for name, value in load_file(folder / "model.safetensors").items():
        for old, new in names.items():
            if old in name:
                name = name.replace(old, new) if new is not None else ""
        if name:
            kept[name] = value
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_new_parameters_do_not_depend_on_the_cut(cut: int, tmp_path: Path) -> None:
    tiny.whole("distilbert", CLASSIFICATION).base_model.save_pretrained(tmp_path)
    whole = load_piece(tmp_path, CLASSIFICATION, 0, seed=5)
    body = load_piece(tmp_path, CLASSIFICATION, cut, seed=5)
    assert body.fresh == whole.fresh
    assert body.fresh == (
        "pre_classifier.weight",
        "pre_classifier.bias",
        "classifier.weight",
        "classifier.bias",
    )
    for name in body.fresh:
        assert torch.equal(body.model.get_parameter(name), whole.model.get_parameter(name))
    other = load_piece(tmp_path, CLASSIFICATION, cut, seed=6)
    assert not torch.equal(
        other.model.get_parameter("classifier.weight"), body.model.get_parameter("classifier.weight")
    )


def test_loading_and_adapting_leave_the_global_generator_alone(tmp_path: Path) -> None:
    tiny.whole("bert", CLASSIFICATION).base_model.save_pretrained(tmp_path)
    before = torch.random.get_rng_state()
    add_adapters(
        load_piece(tmp_path, CLASSIFICATION, 2),
        AdapterConfig(head=side_config(), body=side_config()),
        cut=2,
        seed=0,
    )
    assert torch.equal(torch.random.get_rng_state(), before)


def test_norms_named_gamma_and_beta_are_found(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    new = load_piece(folder, CLASSIFICATION, 0, 2).state_dict()
    rewrite(folder, {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"})
    old = load_piece(folder, CLASSIFICATION, 0, 2).state_dict()
    assert all(torch.equal(old[name], value) for name, value in new.items())


def test_tied_matrices_that_differ_in_the_file_are_not_tied(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "llama", "causal-lm")
    table = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**table, "tie_word_embeddings": True}))
    body = load_piece(folder, "causal-lm", 2)
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(body.model.get_parameter("lm_head.weight"), stored["lm_head.weight"])
    assert body.tied == ()


def test_the_output_matrix_comes_from_the_embeddings_where_tied(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "gpt2", "causal-lm", tie_word_embeddings=True)
    body, head = load_piece(folder, "causal-lm", 2), load_piece(folder, "causal-lm", 0, 2)
    assert (head.tied, body.tied) == (("transformer.wte.weight",), ("lm_head.weight",))
    wte = head.model.get_parameter("transformer.wte.weight")
    assert torch.equal(body.model.get_parameter("lm_head.weight"), wte)
    assert load_piece(folder, "causal-lm", 0).tied == ()


def test_bfloat16_pieces_are_bfloat16(tmp_path: Path) -> None:
    piece = load_piece(tiny.save(tmp_path, "llama", "causal-lm"), "causal-lm", 2, dtype="bfloat16")
    assert {value.dtype for value in piece.parameters()} == {torch.bfloat16}


def test_a_checkpoint_cut_short_is_one_clear_error(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelMissing, match=r"model.safetensors is damaged or truncated"):
        load_piece(folder, CLASSIFICATION, 0, 2)


def test_a_file_that_is_no_safetensors_is_one_clear_error(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelMissing, match="is damaged or truncated"):
        load_piece(folder, CLASSIFICATION, 0, 2)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION, shard_bytes=20_000)
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelMissing, match=f"lacks {lost.name}"):
        load_piece(folder, CLASSIFICATION, 0, 2)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelMissing, match="only as pickles"):
        load_piece(folder, CLASSIFICATION, 0, 2)


def test_a_folder_without_weights_or_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"has no config.json, and is no Hugging Face model$"):
        load_piece(tmp_path, CLASSIFICATION, 0, 2)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelMissing, match="holds no weights"):
        load_piece(tmp_path, CLASSIFICATION, 0, 2)


def test_an_adapters_folder_in_place_of_a_model_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    remedy = "it holds an adapter: give its base model as model.name, and this folder as adapter.start"
    with pytest.raises(ModelMissing, match=f"has no config.json, .*; {remedy}"):
        load_piece(tmp_path, CLASSIFICATION, 0, 2)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelMissing, match=f"holds no weights: .*; {remedy}"):
        load_piece(tmp_path, CLASSIFICATION, 0, 2)


def test_weights_of_more_blocks_than_the_configuration_has_are_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    table = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**table, "num_hidden_layers": 3}))
    with pytest.raises(CutError, match=r"layer.3.* and a model of 3 blocks has no block 3: is the number"):
        load_piece(folder, CLASSIFICATION, 0, 2)


def test_a_checkpoint_with_an_adapter_that_is_not_merged_is_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    rewrite(folder, {"layer.0.attention.self.query": "layer.0.attention.self.query.base_layer"})
    with pytest.raises(
        CutError, match=r"query.base_layer.*, of an adapter that is not merged: save the model"
    ):
        load_piece(folder, CLASSIFICATION, 0, 2)


def test_blocks_that_the_checkpoint_lacks_are_not_made_up(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    rewrite(folder, {"layer.3.output.dense.weight": None})
    load_piece(folder, CLASSIFICATION, 0, 3)
    with pytest.raises(ModelMissing, match=r"the checkpoint lacks bert.encoder.layer.3.output.dense.weight"):
        load_piece(folder, CLASSIFICATION, 3)


def test_another_number_of_classes_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    with pytest.raises(CutError, match=r"classifier has 5 labels \(.*\) but the task has 7: .*new_cl"):
        load_piece(folder, CLASSIFICATION, 2, num_labels=7)


@pytest.mark.parametrize("model_type", quick(["bert", "roberta", "distilbert", "llama"], "bert", "llama"))
@pytest.mark.parametrize("num_labels", [tiny.LABELS, 7])
def test_a_new_classifier_is_made_in_place_of_the_checkpoints(
    model_type: str, num_labels: int, tmp_path: Path
) -> None:
    tiny.save(tmp_path / "task", model_type, CLASSIFICATION)
    tiny.whole(model_type, CLASSIFICATION).base_model.save_pretrained(tmp_path / "base")
    new = load_piece(tmp_path / "task", CLASSIFICATION, 2, num_labels=num_labels, new_classifier=True)
    fresh = load_piece(tmp_path / "base", CLASSIFICATION, 2, num_labels=num_labels)
    assert new.fresh == fresh.fresh != ()
    values, expected = new.state_dict(), fresh.state_dict()
    assert all(torch.equal(values[name], value) for name, value in expected.items() if "pooler" not in name)


def test_a_language_model_has_no_classifier_to_be_made_new(tmp_path: Path) -> None:
    with pytest.raises(CutError, match=r"model\.new_classifier must be false for a language model"):
        load_piece(tiny.save(tmp_path, "llama", "causal-lm"), "causal-lm", 2, new_classifier=True)


def test_a_model_type_outside_the_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(CutError, match="cannot cut a model of type 'whisper'"):
        read_config(tmp_path, CLASSIFICATION)


def test_classifying_by_the_last_token_needs_a_padding_token(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "gpt2", CLASSIFICATION, pad_token_id=None)
    with pytest.raises(CutError, match="pass pad_token_id"):
        read_config(folder, CLASSIFICATION)
    assert load_piece(folder, CLASSIFICATION, 2, pad_token_id=1).model.config.pad_token_id == 1


def test_vit_checkpoints_with_the_older_names_are_found(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "vit", "image-classification")
    names = list(load_file(folder / "model.safetensors"))
    assert any(".encoder.layer." in name for name in names)  # transformers still saves them so
    stock = tiny.stock(folder, "image-classification").state_dict()
    piece = load_piece(folder, "image-classification", 1, 3)
    assert all(torch.equal(value, stock[name]) for name, value in piece.model.state_dict().items())
