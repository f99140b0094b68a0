"""Experts that are stored one by one, or stacked, are loaded alike, and only those of the piece."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.core_model_loading import Transpose, WeightConverter

from splitfl.core.errors import CutError, ModelMissing
from splitfl.models.checkpoint import checkpoint_file, stored_names
from splitfl.models.families import CAUSAL_LM
from splitfl.models.load import load_piece, read_config
from splitfl.models.split import split
from tests.splitfl import tiny

EXPERTS = [
    "mixtral",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("qwen2_moe", "phimoe", "deepseek_v3", "gpt_oss", "granitemoe")
    ),
]
"""Families whose experts transformers saves one by one, but for the last two."""


@pytest.mark.parametrize("is_original", [True, False], ids=["one by one", "stacked"])
@pytest.mark.parametrize("model_type", EXPERTS)
def test_experts_are_read_as_transformers_reads_them(
    model_type: str, is_original: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.whole(model_type, CAUSAL_LM)
    whole.save_pretrained(tmp_path, save_original_format=is_original, max_shard_size=20_000)
    num_read, read_chunk = [0], checkpoint_file._read_chunk

    def counted(*args: object) -> torch.Tensor:
        chunk = read_chunk(*args)  # type: ignore[arg-type]
        num_read[0] += chunk.nbytes
        return chunk

    monkeypatch.setattr(checkpoint_file, "_read_chunk", counted)
    piece = load_piece(tmp_path, CAUSAL_LM, 2, 3, attention=tiny.attention_of(model_type))
    own = {name: value for name, value in whole.state_dict().items() if ".layers.2." in name}
    assert any(value.ndim == 3 for value in own.values())
    held = piece.model.state_dict()
    assert held.keys() == own.keys()
    assert all(torch.equal(held[name], value) for name, value in own.items())
    assert num_read[0] == sum(value.nbytes for value in own.values())


def test_a_checkpoint_that_lacks_experts_is_refused(tmp_path: Path) -> None:
    path = tiny.save(tmp_path, "mixtral", CAUSAL_LM) / "model.safetensors"
    tensors = load_file(path)
    names = [name for name in tensors if ".layers.1." in name and ".experts.3." in name]
    assert len(names) == 3
    last = tensors.pop(names[0])
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelMissing, match=r"has .*3.* of the tensors of .*: some experts are missing"):
        load_piece(tmp_path, CAUSAL_LM, 0, 2)
    save_file({name: value for name, value in tensors.items() if name not in names}, path, {"format": "pt"})
    with pytest.raises(CutError, match=r"must have shape \(4, .* got \(3, "):
        load_piece(tmp_path, CAUSAL_LM, 0, 2)
    save_file({**tensors, names[0]: last[:-1].contiguous()}, path, {"format": "pt"})
    with pytest.raises(CutError, match=r"the experts of .* have different shapes in"):
        load_piece(tmp_path, CAUSAL_LM, 0, 2)


def test_a_conversion_other_than_stacking_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = "self_attn.q_proj.weight"
    rule = WeightConverter(pattern, pattern, operations=[Transpose(0, 1)])
    monkeypatch.setattr(stored_names, "get_model_conversion_mapping", lambda model: [rule])
    with pytest.raises(CutError, match=rf"0.{pattern} is stored in a form that needs conversion: {pattern}"):
        load_piece(tiny.save(tmp_path, "llama", CAUSAL_LM), CAUSAL_LM, 0, 2)


def test_a_loss_for_the_balance_of_all_experts_is_refused(tmp_path: Path) -> None:
    message = "config.*: output_router_logits must be false, got true: it adds a loss for the balance"
    folder = tiny.save(tmp_path, "mixtral", CAUSAL_LM, output_router_logits=True)
    with pytest.raises(CutError, match=message):
        read_config(folder, CAUSAL_LM)
    with pytest.raises(CutError, match=message):
        split(tiny.whole("mixtral", CAUSAL_LM, output_router_logits=True), cut=2)
