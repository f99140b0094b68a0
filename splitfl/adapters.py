"""LoRA (Hu et al., ICLR'22) on the pieces of a model, by peft, and its export for the whole model.

Trainable tensors go by the names that they have in the unsplit model, without peft's name
of the adapter in between: `bert.encoder.layer.0.attention.self.query.lora_A.weight`.
Blocks below the cut follow the head's settings, everything else the body's, whichever
piece they are in; so the pieces together have the layout of the whole.
"""

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn

from channel.rng import stream
from splitfl.config import AdapterConfig, LoraConfig
from splitfl.errors import ConfigError, CutError
from splitfl.partition.cut import Piece, linears
from splitfl.partition.families import CAUSAL_LM, Family, block_index, family_of

_INFIX = ".default"
_A, _B = ".lora_A.weight", ".lora_B.weight"


def add_lora(piece: Piece, adapter: AdapterConfig, cut: int, seed: int) -> None:
    """Freezes the piece but for its fresh parameters, and puts trainable LoRA matrices on its targets.

    A is drawn from the seed and the tensor's full name, kaiming-uniform with a = sqrt(5) as
    in peft, so it is the same whatever the piece; B is zero. Both are float32, as in peft.

    Raises ConfigError for targets that match nothing, CutError for those tied across pieces.
    """
    sides = _targets(piece, adapter, cut)
    piece.requires_grad_(False)
    if sides:
        ranks = {name: side.rank for name, side in sides.items()}
        alphas = {name: side.alpha for name, side in sides.items()}
        settings = _peft_config(piece.model.config.model_type, ranks, alphas)
        with torch.random.fork_rng(devices=[]):  # peft draws values that are replaced below
            inject_adapter_in_model(settings, piece.model)
    for name in piece.fresh:
        piece.model.get_parameter(name).requires_grad_(True)
    for name, value in trainable(piece).items():
        if name.endswith(_A):
            value.data = _first_a(seed, name, value)
        elif name.endswith(_B):
            value.data = torch.zeros_like(value, dtype=torch.float32)
    piece.eval()


def train_all(piece: Piece) -> None:
    """Makes every parameter of the piece trainable; CutError where one is tied to another piece's."""
    if piece.tied:
        raise CutError(
            f"{', '.join(piece.tied)} is tied to a tensor of another piece and cannot be trained there: "
            "train LoRA adapters, or a checkpoint saved with tie_word_embeddings=False"
        )
    piece.requires_grad_(True)


def train_top(piece: Piece) -> None:
    """Makes what stands on the base model trainable, besides what already is."""
    for child in piece.model.children():
        if child is not piece.base:
            child.requires_grad_(True)


def trainable(piece: Piece) -> dict[str, nn.Parameter]:
    """The piece's trainable tensors by their names in the unsplit model, in the model's order."""
    named = piece.model.named_parameters()
    return {name.replace(_INFIX, ""): value for name, value in named if value.requires_grad}


def install(piece: Piece, tensors: Mapping[str, Tensor]) -> None:
    """Copies values into the trainable tensors of these names.

    Raises ConfigError, and changes nothing, for a name or shape that the piece does not have.
    """
    held = trainable(piece)
    for name, value in tensors.items():
        if name not in held:
            raise ConfigError(
                f"{name!r} is not trained in this piece ({len(held)} tensors, blocks {piece.blocks})"
            )
        if held[name].shape != value.shape:
            raise ConfigError(f"{name} must be {tuple(held[name].shape)}, got {tuple(value.shape)}")
    overwrite(held, tensors)


def overwrite(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copies values into the parameters of these names, frozen or not."""
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def export_adapter(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    model_name: str,
    model_type: str,
    kind: str,
    adapter: AdapterConfig,
    cut: int,
) -> None:
    """Writes all pieces' trainable tensors as one adapter for `PeftModel.from_pretrained(whole, folder)`.

    Ranks are read off the tensors; what is not LoRA (a new classifier) is saved whole.
    Files appear complete or not at all, the configuration last.
    """
    ranks = {name.removesuffix(_A): value.shape[0] for name, value in tensors.items() if name.endswith(_A)}
    alphas = {name: _side(family_of(model_type), name, adapter, cut).alpha for name in ranks}
    config = _peft_config(model_type, ranks, alphas)
    config.target_modules = sorted(ranks)  # peft made a set of them, whose order is each process's own
    config.base_model_name_or_path = model_name
    config.task_type = "CAUSAL_LM" if kind == CAUSAL_LM else None
    config.modules_to_save = (
        sorted({name.rpartition(".")[0] for name in tensors if not name.endswith((_A, _B))}) or None
    )
    config.inference_mode = True
    weights = {f"base_model.model.{name}": value.detach().cpu() for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        save_file(weights, Path(staging) / "adapter_model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(staging)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            os.replace(Path(staging) / name, folder / name)


def _targets(piece: Piece, adapter: AdapterConfig, cut: int) -> dict[str, LoraConfig]:
    """Every module of the piece to be adapted, by its full name, and the settings of its side.

    Targets are looked for in the whole model, so that every piece refuses the same ones.
    """
    sides = {name: _side(piece.family, name, adapter, cut) for name in piece.linears}
    chosen: dict[str, LoraConfig] = {}
    for label, side in (("head", adapter.head), ("body", adapter.body)):
        own = [name for name, its in sides.items() if its is side]
        if not side.targets:
            own = [name for name in own if block_index(piece.family, name) is not None]
        for target in side.targets or piece.family.targets:
            found = [name for name in own if f".{name}".endswith(f".{target}")]
            if not found:
                have = sorted({name.rpartition(".")[2] for name in own})
                raise ConfigError(f"adapter.{label}.targets: no module {target!r}; have {', '.join(have)}")
            chosen |= dict.fromkeys(found, side)
    for name in chosen:
        if f"{name}.weight" in piece.tied:
            raise CutError(
                f"{name} is tied to a tensor of another piece and cannot be adapted: leave it out of the "
                "targets, or use a checkpoint saved with tie_word_embeddings=False"
            )
    as_they_are = {name.rpartition(".")[0] for name in piece.fresh}
    held = set(linears(piece.model)) - as_they_are
    return {name: side for name, side in chosen.items() if name in held}


def _side(family: Family, name: str, adapter: AdapterConfig, cut: int) -> LoraConfig:
    index = block_index(family, name)
    if index is not None:
        return adapter.head if index < cut else adapter.body
    makes_input = any(f".{path}." in f".{name}." for path in family.before)
    return adapter.head if makes_input else adapter.body


def _peft_config(model_type: str, ranks: Mapping[str, int], alphas: Mapping[str, float]) -> PeftLoraConfig:
    """Explicit names, with the first module's rank and alpha for all that have no others."""
    names = sorted(ranks)
    rank, alpha = (ranks[names[0]], alphas[names[0]]) if names else (1, 1.0)
    return PeftLoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft only ever divides it by the rank
        target_modules=names,
        rank_pattern={name: ranks[name] for name in names if ranks[name] != rank},
        alpha_pattern={name: alphas[name] for name in names if alphas[name] != alpha},
        fan_in_fan_out=family_of(model_type).fan_in_fan_out,
        lora_dropout=0.0,
        bias="none",
    )


def _first_a(seed: int, name: str, like: Tensor) -> Tensor:
    bound = 1.0 / math.sqrt(like.shape[1])  # kaiming-uniform with a = sqrt(5)
    values = stream(seed, "lora", name).uniform(-bound, bound, tuple(like.shape)).astype(np.float32)
    return torch.from_numpy(values).to(like.device)
