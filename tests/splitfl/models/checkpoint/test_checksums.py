from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from splitfl.core.errors import ConfigError
from splitfl.models.checkpoint.checksums import checksums, refuse_other_weights
from splitfl.models.load import load_piece
from tests.splitfl import tiny


@pytest.mark.parametrize(("model_type", "kind"), tiny.SOME)
def test_every_piece_has_the_checksums_of_the_same_modules_of_the_whole(
    tmp_path: Path, model_type: str, kind: str
) -> None:
    attention = tiny.attention_of(model_type)
    folder = tiny.save(tmp_path, model_type, kind)
    whole = checksums(load_piece(folder, kind, 0, attention=attention))
    found: dict[str, str] = {}
    for first, last in ((0, 1), (1, 3), (3, 4)):
        found |= checksums(load_piece(folder, kind, first, last, attention=attention))
    assert found == whole


def test_a_tied_tensor_has_the_same_checksum_in_either_piece(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "gpt2", "causal-lm", tie_word_embeddings=True)
    whole = checksums(load_piece(folder, "causal-lm", 0))
    pieces = [checksums(load_piece(folder, "causal-lm", 0, 2)), checksums(load_piece(folder, "causal-lm", 2))]
    assert pieces[0] | pieces[1] == whole
    assert {"transformer.wte", "lm_head"} <= whole.keys()


def test_other_weights_are_refused_by_the_names_of_their_modules(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    whole = checksums(load_piece(folder, "sequence-classification", 0))
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    head = checksums(load_piece(folder, "sequence-classification", 0, 2))
    message = (
        f"the model in {folder} has other weights than the server's in bert.encoder.layer.1; pass a copy"
    )
    with pytest.raises(ConfigError, match=message):
        refuse_other_weights(head, whole, str(folder))
    untouched = checksums(load_piece(folder, "sequence-classification", 2))
    refuse_other_weights(untouched, whole, str(folder))


def test_newly_initialised_tensors_have_no_checksum(tmp_path: Path) -> None:
    tiny.whole("bert", "sequence-classification").base_model.save_pretrained(tmp_path)
    found = checksums(load_piece(tmp_path, "sequence-classification", 0, num_labels=3))
    assert "classifier" not in found
    assert "bert.pooler.dense" in found
