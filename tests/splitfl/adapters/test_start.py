"""Training starts from an adapter in peft's format, or the folder is refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import add_adapters
from splitfl.adapters.registry import side_config
from splitfl.adapters.start import refuse_other_start, start_checksums
from splitfl.config import AdapterConfig
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece, ranges
from splitfl.models.load import load_piece
from tests.splitfl import tiny
from tests.splitfl.adapters.test_kinds import CUT, pieces_of, train
from tests.splitfl.split_loss import loss

TEXT = "sequence-classification"
TARGETS = ("query", "dense")


def made(folder: Path, out: Path, **settings: Any) -> PeftModel:
    """A trained adapter of plain peft, saved to `out`."""
    torch.manual_seed(1)
    config = LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": r".*layer.*(query|dense)", **settings})
    model = get_peft_model(tiny.stock(folder, TEXT, num_labels=tiny.LABELS), config)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value += torch.randn(value.shape) / 5
    model.save_pretrained(out)
    return model.eval()


def sides(out: Path, kind: str = "lora", **settings: Any) -> AdapterConfig:
    own = {"rank": 4, "alpha": 6.0, "targets": (r".*layer.*(query|dense)",), **settings}
    body = side_config(kind, **own)
    own.pop("modules_to_save", None)
    return AdapterConfig(head=side_config(kind, **own), body=body, start=str(out))


def whole(folder: Path, adapter: AdapterConfig, *, is_shape_only: bool = False) -> Piece:
    piece = load_piece(folder, TEXT, 0, num_labels=tiny.LABELS, is_shape_only=is_shape_only)
    add_adapters(piece, adapter, CUT, seed=0)
    return piece


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "peft", "settings"),
    [
        ("lora", {}, {}),
        ("dora", {"use_dora": True, "use_rslora": True}, {"use_rslora": True}),
        ("lora", {"modules_to_save": ["classifier"]}, {"modules_to_save": ("classifier",)}),
    ],
)
def test_pieces_start_where_peft_stopped_and_go_back_to_it(
    kind: str, peft: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "model", "bert", TEXT)
    model, adapter = made(folder, tmp_path / "start", **peft), sides(tmp_path / "start", kind, **settings)
    inputs, labels = tiny.batch(TEXT)
    pieces, unsplit = pieces_of(folder, TEXT, adapter), whole(folder, adapter)
    with torch.no_grad():
        expected = model(**inputs, labels=labels).loss
        assert torch.equal(loss(pieces, TEXT), loss([unsplit], TEXT))
        torch.testing.assert_close(loss([unsplit], TEXT), expected, rtol=1e-5, atol=1e-6)
    tensors, out = train(pieces), tmp_path / "out"
    export_adapter(out, tensors, whole=unsplit, model_name="m", adapter=adapter, cut=CUT)
    again = whole(folder, replace(adapter, start=str(out)))
    assert torch.equal(loss([again], TEXT), loss(pieces, TEXT))
    whole(folder, adapter, is_shape_only=True)


@pytest.mark.parametrize(
    ("peft", "settings", "reason"),
    [
        ({"r": 2}, {}, r"has .*lora_A.weight of shape \(2, 32\), and the settings need \(4, 32\)"),
        ({"lora_alpha": 4}, {}, r"scales .* by 1 \(its alpha 4 and rank 4\), and the settings by 1.5"),
        ({"use_rslora": True}, {}, r"scales .* by 3 \(its alpha 6 and rank 4\), and the settings by 1.5"),
        ({"target_modules": ["query"]}, {}, r"has no .*dense.lora_A.weight: set the targets"),
        ({"target_modules": ["query", "key", "dense"]}, {}, r"has .*key.lora_A.*, which .* do not train"),
        ({"bias": "lora_only"}, {}, r"has .*bias, which these settings do not train"),
        ({"use_dora": True}, {}, r"needs adapter.head.kind 'dora', got 'lora'"),
        ({}, {"init": "pissa"}, r"needs adapter.head.init 'kaiming', got 'pissa'"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    peft: dict[str, Any], settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "model", "bert", TEXT)
    made(folder, tmp_path / "start", **peft)
    with pytest.raises(ConfigError, match=rf"^adapter.start: .*start {reason}"):
        whole(folder, sides(tmp_path / "start", **settings))


def test_a_folder_that_holds_no_lora_is_refused(tmp_path: Path) -> None:
    folder, out = tiny.save(tmp_path / "model", "bert", TEXT), tmp_path / "start"
    with pytest.raises(ConfigError, match=r"must be a folder with .* and has no adapter_config.json"):
        whole(folder, sides(out))
    made(folder, out)
    weights = (out / "adapter_model.safetensors").read_bytes()
    (out / "adapter_model.safetensors").write_bytes(weights[:100])
    with pytest.raises(ConfigError, match=r"has a damaged adapter_model.safetensors"):
        whole(folder, sides(out))
    config = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(ConfigError, match=r"holds an adapter of type .*IA3, and may hold LORA alone"):
        whole(folder, sides(out))
    (out / "adapter_config.json").write_text(json.dumps(config))
    (out / "ia3").mkdir()
    (out / "ia3" / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"holds a second adapter in ia3"):
        whole(folder, sides(out))


def test_a_piece_reads_its_own_tensors_alone(tmp_path: Path) -> None:
    folder, out = tiny.save(tmp_path / "model", "bert", TEXT), tmp_path / "start"
    made(folder, out)
    held = load_file(out / "adapter_model.safetensors")
    below = {name: value for name, value in held.items() if int(name.split("layer.")[1][0]) < CUT}
    save_file(below, out / "adapter_model.safetensors")
    blocks = ranges(tiny.BLOCKS, CUT, 1)[0]
    piece = load_piece(folder, TEXT, blocks.start, blocks.stop, num_labels=tiny.LABELS)
    add_adapters(piece, sides(out), CUT, seed=0)


def test_a_process_with_another_start_is_refused() -> None:
    own, other = (start_checksums({"a.lora_A.weight": torch.full((2, 3), value)}) for value in (1.0, 2.0))
    refuse_other_start(own, own, "here")
    with pytest.raises(ConfigError, match=r"the adapter in here has other values .* in a.lora_A.weight; "):
        refuse_other_start(own, other, "here")
