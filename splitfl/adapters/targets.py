"""The target modules of the adapters of a piece, and the settings of each.

Embeddings and blocks below the cut have the head's settings, all others the body's, whichever
piece they are in, so that the pieces together have the adapters of the whole.
"""

import torch

from splitfl.adapters.kind import LowRank, Targets
from splitfl.adapters.registry import ADAPTERS, kind_named, side_rank, sides, trains_all
from splitfl.config import AdapterConfig, SideConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.cut import Piece, linears
from splitfl.models.families import Family, block_index


def targets(piece: Piece, adapter: AdapterConfig, cut: int) -> dict[str, SideConfig]:
    """The settings of every module of the piece to be adapted, by full name.

    Targets are matched in the whole model, so that every piece refuses the same settings. Raises
    ConfigError for targets without a match, CutError for a target tied to another piece.
    """
    follows = {name: side_of(piece.family, name, adapter, cut) for name in piece.linears}
    chosen: dict[str, SideConfig] = {}
    _check_ranks(adapter, cut, piece.num_blocks)
    for label, side in sides(adapter):
        own = [name for name, its in follows.items() if its is side and not trains_all(side)]
        if not _named(side):
            own = [name for name in own if block_index(piece.family, name) is not None]
        for target in _wanted(piece, label, side):
            found = [name for name in own if f".{name}".endswith(f".{target}")]
            if not found:
                have = sorted({name.rpartition(".")[2] for name in own})
                raise ConfigError(f"adapter.{label}.targets: no module {target!r}; have {', '.join(have)}")
            if set(found) <= set(piece.new):
                raise ConfigError(
                    f"adapter.{label}.targets: {target!r} matches only {', '.join(found)}, which is not in "
                    "the checkpoint: new modules are trained without an adapter; name pretrained modules"
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
    """A side's target names: those of the settings, or the family's defaults."""
    kind, model_type = kind_named(side.kind), piece.model.config.model_type
    if kind.trains_all:
        return ()
    if not _named(side) and not piece.family.targets:
        whole = " or ".join(repr(name) for name, one in ADAPTERS.items() if one.trains_all)
        raise ConfigError(
            f"adapter.{label}: a {model_type} model has no linear modules in its blocks for {side.kind} "
            f"adapters; set adapter.{label}.kind to {whole}"
        )
    if piece.family.fan_in_fan_out and kind.transposed is not True:
        able = ", ".join(name for name, one in ADAPTERS.items() if one.transposed is True)
        raise ConfigError(
            f"adapter.{label}.kind must be one of {able} for a {model_type} model, whose modules have "
            f"transposed weights (Conv1D); got {side.kind!r}: {kind.transposed}"
        )
    return _named(side) or piece.family.targets


def _named(side: SideConfig) -> tuple[str, ...]:
    """The targets that the settings name."""
    found = side.find(Targets)
    return found.targets if found else ()


def side_of(family: Family, name: str, adapter: AdapterConfig, cut: int) -> SideConfig:
    """The settings of the side of a module, by its full name."""
    index = block_index(family, name)
    if index is not None:
        return adapter.head if index < cut else adapter.body
    makes_input = any(f".{path}." in f".{name}." for path in family.before)
    return adapter.head if makes_input else adapter.body


def rank_of(family: Family, name: str, adapter: AdapterConfig, cut: int) -> int:
    """The rank of a module, by its full name: that of its block, or of its side; 0 for a kind without one."""
    side, index = side_of(family, name, adapter, cut), block_index(family, name)
    low_rank = side.find(LowRank)
    if index is None or low_rank is None or not low_rank.ranks:
        return side_rank(side)
    return low_rank.ranks[index if index < cut else index - cut]


def is_trained_whole(piece: Piece, name: str, adapter: AdapterConfig, cut: int) -> bool:
    """Whether this tensor or module belongs to a fully finetuned side."""
    return trains_all(side_of(piece.family, name, adapter, cut))


def check_trained_whole(piece: Piece, adapter: AdapterConfig, cut: int) -> None:
    """Raises CutError for a tied, fully finetuned tensor, ConfigError for a dtype below float32."""
    names = [
        name for name, _ in piece.model.named_parameters() if is_trained_whole(piece, name, adapter, cut)
    ]
    if not names:
        return
    if tied := [name for name in names if name in piece.tied]:
        raise CutError(
            f"{', '.join(tied)} is tied to a tensor of another piece and cannot be trained there: use "
            "adapters of another kind, or a checkpoint saved with tie_word_embeddings=False"
        )
    if piece.model.dtype != torch.float32:
        raise ConfigError(
            f"the model's own parameters are trained ({names[0]}, ...), whose updates would be lost in the "
            f"rounding of {piece.model.dtype}: set model.dtype to 'float32'"
        )


def _check_ranks(adapter: AdapterConfig, cut: int, num_blocks: int) -> None:
    for label, side, blocks in (("head", adapter.head, cut), ("body", adapter.body, num_blocks - cut)):
        low_rank = side.find(LowRank)
        if low_rank is not None and len(low_rank.ranks) not in (0, blocks):
            got = len(low_rank.ranks)
            raise ConfigError(
                f"adapter.{label}.ranks must have one rank for each of the {blocks} blocks, got {got}"
            )
