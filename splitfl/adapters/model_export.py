"""Export of a fully finetuned model to a folder in transformers' format."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from splitfl.adapters.inject import install
from splitfl.adapters.registry import trains_all
from splitfl.config import AdapterConfig
from splitfl.models.checkpoint.checkpoint_file import read_whole
from splitfl.models.cut import Piece

MODEL_FOLDER = "model"
_BESIDE_WEIGHTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "*.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "generation_config.json",
    "preprocessor_config.json",
)
"""Further files of a model besides its configuration and weights: tokenizer, templates, preprocessor."""


def is_full(adapter: AdapterConfig) -> bool:
    """Whether both sides are fully finetuned."""
    return trains_all(adapter.head) and trains_all(adapter.body)


def export_model(folder: Path, tensors: Mapping[str, Tensor], *, whole: Piece, source: Path) -> None:
    """Writes config.json and model.safetensors, and copies tokenizer and templates of `source`.

    The folder can be used as `model.name`, and transformers loads it unless the model is one of
    splitfl's own. Files are written atomically, the configuration last.
    """
    install(whole, tensors)
    weights = {name: value.detach().cpu().clone() for name, value in _untied(whole).items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        save_file(weights, Path(staging) / "model.safetensors", metadata={"format": "pt"})
        beside = _beside_weights(source)
        for name in beside:
            (Path(staging) / name).parent.mkdir(exist_ok=True)
            (Path(staging) / name).write_bytes((source / name).read_bytes())
        (Path(staging) / "config.json").write_text(config_json(whole), encoding="utf-8")
        for name in (*beside, "model.safetensors", "config.json"):
            (folder / name).parent.mkdir(exist_ok=True)
            os.replace(Path(staging) / name, folder / name)


def config_json(whole: Piece) -> str:
    """The configuration of the trained model, with the names of its classes."""
    settings = {
        name: value
        for name, value in whole.model.config.to_dict().items()
        if name not in ("untrained", "use_cache")
    }
    settings["architectures"] = [type(whole.model).__name__]  # a base checkpoint names the base class
    return json.dumps(settings, indent=2) + "\n"


def _beside_weights(source: Path) -> list[str]:
    """The paths, relative to `source`, of the further files of its model."""
    found = {path for pattern in _BESIDE_WEIGHTS for path in source.glob(pattern) if path.is_file()}
    return sorted(str(path.relative_to(source)) for path in found)


def _untied(whole: Piece) -> dict[str, Tensor]:
    """Each parameter under one of its names, the persistent buffers, and the tensors of unused modules."""
    parameters = dict(whole.model.named_parameters())
    unread = {name: read_whole(entry) for name, entry in whole.unread.items()}
    buffers = dict(whole.model.named_buffers()).keys() & whole.model.state_dict().keys()
    return {**unread, **parameters, **{name: whole.model.get_buffer(name) for name in sorted(buffers)}}
