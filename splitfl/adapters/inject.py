"""Adapters on the pieces of a model, by peft: each side of the cut has a kind of its own.

Trainable tensors go by the names that they have in the unsplit model, without peft's name
of the adapter in between: `bert.encoder.layer.0.attention.self.query.lora_A.weight`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from splitfl.adapters.kind import DEFAULT
from splitfl.adapters.registry import ADAPTERS
from splitfl.adapters.residuals import RESIDUALS, put_residuals
from splitfl.adapters.targets import check_trained_whole, is_trained_whole, rank_of, targets
from splitfl.config import AdapterConfig, SideConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.batch_norms import batch_norms, tracked_in
from splitfl.models.cut import Piece


def add_adapters(piece: Piece, adapter: AdapterConfig, cut: int, seed: int) -> None:
    """Freezes the piece but for its fresh parameters, and puts trainable adapters on its targets.

    What is random is drawn from the seed and a name, so that it is the same whatever the piece. At first
    nothing has changed. All that is trained is float32, as in peft. Which module has which kind is in
    `piece.adapters`. A side whose kind trains all has no adapters: all its parameters are trained, and its
    batch norms learn (see batch_norms.py).

    Raises ConfigError for targets that match nothing, for ranks that are not one a block and for
    a kind that there is not or that peft or the model does not have, CutError for what is tied across pieces.
    """
    check_trained_whole(piece, adapter, cut)
    chosen = targets(piece, adapter, cut)
    piece.adapters = {name: side.kind for name, side in chosen.items()}
    groups: dict[SideConfig, dict[str, int]] = {side: {} for side in chosen.values()}
    for name, side in chosen.items():
        groups[side][name] = rank_of(piece.family, name, adapter, cut)
    piece.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # peft draws values that are replaced below
        for side, ranks in groups.items():
            piece.model.__dict__.pop("peft_config", None)  # of the group before, which has other modules
            ADAPTERS[side.kind].inject(piece, ranks, side)
    _train_factors(piece, seed)
    for name, value in piece.model.named_parameters():
        if name in piece.fresh or is_trained_whole(piece, name, adapter, cut):
            value.requires_grad_(True)
    piece.norms = tuple(
        name for name in batch_norms(piece.model) if is_trained_whole(piece, name, adapter, cut)
    )
    for side, ranks in groups.items():
        if initialise := ADAPTERS[side.kind].initialise:
            initialise(piece, ranks, seed)
    piece.eval()


def _train_factors(piece: Piece, seed: int) -> None:
    """Makes the factors of the adapted modules, and nothing else, trainable, with their initial values."""
    piece.requires_grad_(False)
    held = {name_in_whole(name): value for name, value in piece.model.named_parameters()}
    for module, kind in piece.adapters.items():
        for ending, factor in ADAPTERS[kind].factors.items():
            name = module + ending
            if name not in held:
                raise ConfigError(f"the adapter kind {kind!r} has injected no parameter {name!r}")
            held[name].data = factor.initial(seed, name, held[name])
            held[name].requires_grad_(True)


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
    return {name_in_whole(name): value for name, value in named if value.requires_grad}


def name_in_whole(name: str) -> str:
    """A parameter's name in the unsplit model, from its name with peft's name of the adapter in between."""
    return name.replace(f".{DEFAULT}", "")


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
