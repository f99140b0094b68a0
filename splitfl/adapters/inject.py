"""Injects peft adapters into the pieces of a model; each side of the cut has its own adapter kind.

Trainable tensors have their names in the unsplit model, without peft's adapter name:
`bert.encoder.layer.0.attention.self.query.lora_A.weight`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from splitfl.adapters.kind import DEFAULT
from splitfl.adapters.registry import ADAPTERS
from splitfl.adapters.residuals import RESIDUALS, put_residuals
from splitfl.adapters.start import start_tensors
from splitfl.adapters.targets import check_trained_whole, is_trained_whole, rank_of, refuse_tied, targets
from splitfl.config import AdapterConfig, SideConfig
from splitfl.core.default_generator import default_generator
from splitfl.core.errors import ConfigError
from splitfl.models.batch_norms import batch_norms, tracked_in
from splitfl.models.cut import Piece


def add_adapters(piece: Piece, adapter: AdapterConfig, cut: int, seed: int) -> None:
    """Freezes the piece except for its fresh parameters, and injects trainable adapters into its targets.

    Random initial values are drawn from the seed and the tensor's name, so that they do not depend on the
    cut. The initial update is zero. Adapter tensors are float32, as in peft. `piece.adapters` holds the kind
    of each adapted module. A side with full finetuning has no adapters: all its parameters are trained, and
    its batch norms are in training mode (see batch_norms.py).

    `adapter.start` is a folder whose values replace the initial ones (see start.py), except those of a
    shape-only piece.

    Raises ConfigError for targets or modules_to_save without a match, a number of ranks other than that of
    blocks, and a kind that is unknown or not supported by peft or the model; CutError for parameters tied
    across pieces.
    """
    chosen = targets(piece, adapter, cut)
    piece.adapters = {name: side.kind for name, side in chosen.items()}
    check_trained_whole(piece, adapter, cut)
    groups: dict[SideConfig, dict[str, int]] = {side: {} for side in chosen.values()}
    for name, side in chosen.items():
        groups[side][name] = rank_of(piece.family, name, adapter, cut)
    piece.requires_grad_(False)
    with default_generator():  # peft draws initial values, which are replaced below
        for side, ranks in groups.items():
            piece.model.__dict__.pop("peft_config", None)  # of the previous group
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
            initialise(piece, ranks, side, seed)
    if adapter.start:
        own = trainable(piece)
        values = start_tensors(piece, own, adapter, cut)
        overwrite(own, {name: value for name, value in values.items() if 0 not in own[name].stride()})
    piece.eval()


def _train_factors(piece: Piece, seed: int) -> None:
    """Initialises the factors of the adapted modules and makes only them trainable."""
    piece.requires_grad_(False)
    held = {name_in_whole(name): value for name, value in piece.model.named_parameters()}
    for module, kind in piece.adapters.items():
        for ending, factor in ADAPTERS[kind].factors.items():
            name = module + ending
            if name not in held:
                raise ConfigError(f"the adapter kind {kind!r} did not inject the parameter {name!r}")
            held[name].data = factor.initial(seed, name, held[name])
            held[name].requires_grad_(True)


def train_all(piece: Piece) -> None:
    """Makes every parameter of the piece trainable. Raises CutError if one is tied to another piece."""
    refuse_tied(piece.tied)
    piece.requires_grad_(True)
    piece.norms = batch_norms(piece.model)


def train_top(piece: Piece) -> None:
    """Makes the task head trainable, in addition to the parameters that already are."""
    for _, child in piece.top:
        child.requires_grad_(True)


def trainable(piece: Piece) -> dict[str, nn.Parameter]:
    """The piece's trainable parameters by their names in the unsplit model, in the model's order."""
    named = piece.model.named_parameters()
    return {name_in_whole(name): value for name, value in named if value.requires_grad}


def name_in_whole(name: str) -> str:
    """A parameter's name without peft's adapter name."""
    return name.replace(f".{DEFAULT}", "")


def tracked(piece: Piece) -> dict[str, Tensor]:
    """The running statistics of trained batch norms, by their names in the unsplit model."""
    return tracked_in(piece.model, piece.norms)


def held(piece: Piece) -> dict[str, Tensor]:
    """All tensors that training changes: trainable parameters, and running statistics."""
    return {**trainable(piece), **tracked(piece)}


def install(piece: Piece, tensors: Mapping[str, Tensor]) -> None:
    """Copies values into tensors of `held`, and replaces residuals.

    Raises ConfigError, without changes, for an unknown name or another shape.
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
