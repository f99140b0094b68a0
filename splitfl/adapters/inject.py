"""Adapters on the pieces of a model, by peft: each side of the cut has a kind of its own.

Trainable tensors go by the names that they have in the unsplit model, without peft's name
of the adapter in between: `bert.encoder.layer.0.attention.self.query.lora_A.weight`.
Blocks below the cut follow the head's settings, everything else the body's, whichever
piece they are in; so the pieces together have the layout of the whole.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from peft import PeftConfig, VeraConfig, VeraModel, inject_adapter_in_model
from peft.tuners.vera.layer import VeraLayer
from torch import Tensor, nn

from channel.core.rng import stream
from splitfl.adapters import loha, tiny_lora
from splitfl.adapters.peft_settings import ia3_config, loha_config, lora_config
from splitfl.adapters.residuals import RESIDUALS, A, B, put_residuals
from splitfl.config import AdapterConfig, SideConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.batch_norms import batch_norms, tracked_in
from splitfl.models.cut import Piece, linears
from splitfl.models.families import Family, block_index, family_of

_INFIX = ".default"
_TRAINED = (
    ".lora_A.",
    ".lora_B.",
    ".vera_lambda_b.",
    ".vera_lambda_d.",
    ".ia3_l.",
    ".tinylora_v.",
    *(f"{factor}." for factor in loha.FACTORS),
)


def add_adapters(piece: Piece, adapter: AdapterConfig, cut: int, seed: int) -> None:
    """Freezes the piece but for its fresh parameters, and puts trainable adapters on its targets.

    What is random is drawn from the seed and a name, so that it is the same whatever the
    piece: LoRA's A and three of LoHa's factors, kaiming-uniform with a = sqrt(5) as in peft,
    VeRA's two projections, kaiming-uniform, and what TinyLoRA does not take from the weights
    (see tiny_lora.py). B is zero, LoHa's last factor, VeRA's b and TinyLoRA's v too, VeRA's d
    0.1, IA3's vectors are ones: at first nothing has changed. All that is trained is float32,
    as in peft.

    A side of kind `full` has no adapters: all its parameters are trained, and its batch norms
    learn (see partition/statistics.py).

    Raises ConfigError for targets that match nothing, for ranks that are not one a block and for
    a kind that peft or the model does not have, CutError for what is tied across pieces.
    """
    _check_full(piece, adapter, cut)
    sides = _targets(piece, adapter, cut)
    piece.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # peft draws values that are replaced below
        for kind, own in _groups(sides, adapter):
            _inject(piece, kind, own, adapter, cut)
    piece.requires_grad_(False)
    for name, value in piece.model.named_parameters():
        is_added = any(part in name for part in _TRAINED)
        value.requires_grad_(name in piece.fresh or is_added or _is_full(piece, name, adapter, cut))
    piece.norms = tuple(name for name in batch_norms(piece.model) if _is_full(piece, name, adapter, cut))
    _begin(piece, seed)
    piece.eval()


def train_all(piece: Piece) -> None:
    """Makes every parameter of the piece trainable; CutError where one is tied to another piece's."""
    if piece.tied:
        raise CutError(
            f"{', '.join(piece.tied)} is tied to a tensor of another piece and cannot be trained there: "
            "train LoRA adapters, or a checkpoint saved with tie_word_embeddings=False"
        )
    piece.requires_grad_(True)
    piece.norms = batch_norms(piece.model)


def train_top(piece: Piece) -> None:
    """Makes what stands on the base model trainable, besides what already is."""
    for child in piece.model.children():
        if child is not piece.base:
            child.requires_grad_(True)


def trainable(piece: Piece) -> dict[str, nn.Parameter]:
    """The piece's trainable tensors by their names in the unsplit model, in the model's order."""
    named = piece.model.named_parameters()
    return {name.replace(_INFIX, ""): value for name, value in named if value.requires_grad}


def tracked(piece: Piece) -> dict[str, Tensor]:
    """The running statistics of the batch norms that learn, by their names in the unsplit model."""
    return tracked_in(piece.model, piece.norms)


def held(piece: Piece) -> dict[str, Tensor]:
    """All that learning changes: the trainable tensors, and the running statistics."""
    return {**trainable(piece), **tracked(piece)}


def install(piece: Piece, tensors: Mapping[str, Tensor]) -> None:
    """Copies values into tensors that learning changes; residuals take the place of those there are.

    Raises ConfigError, and changes nothing, for a name or shape that the piece does not have.
    """
    own = held(piece)
    residual = {name: value for name, value in tensors.items() if name.endswith(RESIDUALS)}
    tensors = {name: value for name, value in tensors.items() if name not in residual}
    for name, value in tensors.items():
        if name not in own:
            raise ConfigError(
                f"{name!r} is not trained in this piece ({len(own)} tensors, blocks {piece.blocks})"
            )
        if own[name].shape != value.shape:
            raise ConfigError(f"{name} must be {tuple(own[name].shape)}, got {tuple(value.shape)}")
    overwrite(own, tensors)
    put_residuals(piece.model, residual, piece.model.device)


def overwrite(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copies values into the parameters of these names, frozen or not."""
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def _targets(piece: Piece, adapter: AdapterConfig, cut: int) -> dict[str, SideConfig]:
    """Every module of the piece to be adapted, by its full name, and the settings of its side.

    Targets are looked for in the whole model, so that every piece refuses the same ones.
    """
    sides = {name: side_of(piece.family, name, adapter, cut) for name in piece.linears}
    chosen: dict[str, SideConfig] = {}
    _check_ranks(adapter, cut, piece.num_blocks)
    for label, side in (("head", adapter.head), ("body", adapter.body)):
        own = [name for name, its in sides.items() if its is side and side.kind != "full"]
        if not side.targets:
            own = [name for name in own if block_index(piece.family, name) is not None]
        for target in _wanted(piece, label, side):
            found = [name for name in own if f".{name}".endswith(f".{target}")]
            if not found:
                have = sorted({name.rpartition(".")[2] for name in own})
                raise ConfigError(f"adapter.{label}.targets: no module {target!r}; have {', '.join(have)}")
            if set(found) <= set(piece.new):
                raise ConfigError(
                    f"adapter.{label}.targets: {target!r} is {', '.join(found)} alone, which the checkpoint "
                    "lacks: it is new and trained whole, so it has no adapter; name pretrained modules"
                )
            chosen |= dict.fromkeys(found, side)
    for name in chosen:
        if f"{name}.weight" in piece.tied:
            raise CutError(
                f"{name} is tied to a tensor of another piece and cannot be adapted: leave it out of the "
                "targets, or use a checkpoint saved with tie_word_embeddings=False"
            )
    as_they_are = {name.rpartition(".")[0] for name in piece.fresh}
    here = set(linears(piece.model)) - as_they_are
    return {name: side for name, side in chosen.items() if name in here}


def _wanted(piece: Piece, label: str, side: SideConfig) -> tuple[str, ...]:
    """The names that a side's adapters go by: the settings', or the family's own."""
    if side.kind == "full":
        return ()
    if not side.targets and not piece.family.targets:
        raise ConfigError(
            f"adapter.{label}: a {piece.model.config.model_type} model has no linear modules in its blocks "
            f"for {side.kind} adapters; set adapter.{label}.kind to 'full'"
        )
    if side.kind == "loha" and piece.family.fan_in_fan_out:
        raise ConfigError(
            f"adapter.{label}: peft has no LoHa for the modules of a {piece.model.config.model_type} model, "
            "which keep their weights turned over: take another kind than 'loha'"
        )
    return side.targets or piece.family.targets


def _is_full(piece: Piece, name: str, adapter: AdapterConfig, cut: int) -> bool:
    return side_of(piece.family, name, adapter, cut).kind == "full"


def _check_full(piece: Piece, adapter: AdapterConfig, cut: int) -> None:
    names = [name for name, _ in piece.model.named_parameters() if _is_full(piece, name, adapter, cut)]
    if not names:
        return
    if tied := [name for name in names if name in piece.tied]:
        raise CutError(
            f"{', '.join(tied)} is tied to a tensor of another piece and cannot be trained there: adapters "
            "of another kind than 'full', or a checkpoint saved with tie_word_embeddings=False"
        )
    if piece.model.dtype != torch.float32:
        raise ConfigError(
            "adapters of kind 'full' train the model's own parameters, whose steps vanish in the rounding of "
            f"{piece.model.dtype}: set model.dtype to 'float32'"
        )


def side_of(family: Family, name: str, adapter: AdapterConfig, cut: int) -> SideConfig:
    """The settings that a module of this full name follows."""
    index = block_index(family, name)
    if index is not None:
        return adapter.head if index < cut else adapter.body
    makes_input = any(f".{path}." in f".{name}." for path in family.before)
    return adapter.head if makes_input else adapter.body


def rank_of(family: Family, name: str, adapter: AdapterConfig, cut: int) -> int:
    """The rank of a module of this full name: its block's own, or its side's."""
    side, index = side_of(family, name, adapter, cut), block_index(family, name)
    if index is None or not side.ranks:
        return side.rank
    return side.ranks[index if index < cut else index - cut]


def _groups(
    sides: Mapping[str, SideConfig], adapter: AdapterConfig
) -> list[tuple[str, dict[str, SideConfig]]]:
    """What peft takes at once: all LoRA, whose ranks may differ, and a side's modules of another kind."""
    groups = [("lora", {name: its for name, its in sides.items() if its.kind == "lora"})]
    for side in dict.fromkeys((adapter.head, adapter.body)):
        if side.kind != "lora":
            groups.append((side.kind, {name: its for name, its in sides.items() if its == side}))
    return [(kind, own) for kind, own in groups if own]


def _inject(piece: Piece, kind: str, own: Mapping[str, SideConfig], adapter: AdapterConfig, cut: int) -> None:
    model_type = piece.model.config.model_type
    piece.model.__dict__.pop("peft_config", None)  # of the group before, which has other modules
    side, fan = next(iter(own.values())), family_of(model_type).fan_in_fan_out
    settings: PeftConfig
    if kind in ("lora", "loha"):
        ranks = {name: rank_of(piece.family, name, adapter, cut) for name in own}
        alphas = {name: side.alpha / side.rank * ranks[name] for name, side in own.items()}
        settings = loha_config(ranks, alphas) if kind == "loha" else lora_config(model_type, ranks, alphas)
        inject_adapter_in_model(settings, piece.model)
    elif kind == "tinylora":
        tiny_lora.inject(piece.model, list(own), side.rank, side.numbers, fan)
    elif kind == "vera":
        settings = VeraConfig(r=side.rank, target_modules=list(own), fan_in_fan_out=fan, save_projection=True)
        VeraModel(piece.model, settings, _INFIX.removeprefix("."))  # peft injects nothing that layers share
    else:
        inject_adapter_in_model(ia3_config(model_type, list(own)), piece.model)


def _begin(piece: Piece, seed: int) -> None:
    """First values, from the seed and each tensor's name."""
    for name, value in trainable(piece).items():
        if name.endswith(A):
            value.data = _drawn(seed, "lora", name, value)
        elif name.endswith((loha.W1A, loha.W1B, loha.W2A)):
            value.data = _drawn(seed, "loha", name, value)
        elif name.endswith((B, ".vera_lambda_b", loha.W2B, tiny_lora.V)):
            value.data = torch.zeros_like(value, dtype=torch.float32)
        elif name.endswith(".vera_lambda_d"):
            value.data = torch.full_like(value, 0.1, dtype=torch.float32)
        elif name.endswith(".ia3_l"):
            value.data = torch.ones_like(value, dtype=torch.float32)
    tiny_lora.begin(piece.model, seed)
    drawn: dict[tuple[torch.Size, torch.Size], tuple[Tensor, Tensor]] = {}
    for module in piece.model.modules():
        if isinstance(module, VeraLayer):
            first, second = projections(module)
            shapes = first.shape, second.shape
            if shapes not in drawn:
                bound_A, bound_B = (
                    math.sqrt(6 / n) for n in (piece.model.config.hidden_size, first.shape[0])
                )
                drawn[shapes] = (
                    _projection(seed, "A", first.T, bound_A).T,
                    _projection(seed, "B", second, bound_B),
                )
            assert module.vera_A is not None
            assert module.vera_B is not None
            module.vera_A["default"], module.vera_B["default"] = drawn[shapes]


def projections(layer: VeraLayer) -> tuple[Tensor, Tensor]:
    """VeRA's A (r, in) and B (out, r), which all its layers share; a smaller one takes the first of them."""
    assert layer.vera_A is not None
    assert layer.vera_B is not None
    return layer.vera_A["default"], layer.vera_B["default"]


def _projection(seed: int, name: str, like: Tensor, bound: float) -> Tensor:
    """Float32 rows that do not depend on how many there are, since a piece may have fewer than the whole."""
    drawn = stream(seed, "vera", name).uniform(-bound, bound, tuple(like.shape)).astype(np.float32)
    return torch.from_numpy(drawn).to(like.device)


def _check_ranks(adapter: AdapterConfig, cut: int, num_blocks: int) -> None:
    for label, side, blocks in (("head", adapter.head, cut), ("body", adapter.body, num_blocks - cut)):
        if side.ranks and len(side.ranks) != blocks:
            raise ConfigError(
                f"adapter.{label}.ranks must name one for each of the {blocks} blocks, got {len(side.ranks)}"
            )


def _drawn(seed: int, kind: str, name: str, like: Tensor) -> Tensor:
    bound = 1.0 / math.sqrt(like.shape[1])  # kaiming-uniform with a = sqrt(5)
    values = stream(seed, kind, name).uniform(-bound, bound, tuple(like.shape)).astype(np.float32)
    return torch.from_numpy(values).to(like.device)
