"""Which modules of a piece are adapted, and the settings that each follows.

Blocks below the cut follow the head's settings, everything else the body's, whichever
piece they are in; so the pieces together have the layout of the whole.
"""

import torch

from splitfl.adapters.kind import LowRank, Targets
from splitfl.adapters.registry import ADAPTERS, kind_named, side_rank, sides, trains_all
from splitfl.config import AdapterConfig, SideConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.cut import Piece, linears
from splitfl.models.families import Family, block_index


def targets(piece: Piece, adapter: AdapterConfig, cut: int) -> dict[str, SideConfig]:
    """Every module of the piece to be adapted, by its full name, and the settings of its side.

    Targets are looked for in the whole model, so that every piece refuses the same ones.
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
    """The settings that a module of this full name follows."""
    index = block_index(family, name)
    if index is not None:
        return adapter.head if index < cut else adapter.body
    makes_input = any(f".{path}." in f".{name}." for path in family.before)
    return adapter.head if makes_input else adapter.body


def rank_of(family: Family, name: str, adapter: AdapterConfig, cut: int) -> int:
    """The rank of a module of this full name: its block's own, or its side's; 0 for a kind without one."""
    side, index = side_of(family, name, adapter, cut), block_index(family, name)
    low_rank = side.find(LowRank)
    if index is None or low_rank is None or not low_rank.ranks:
        return side_rank(side)
    return low_rank.ranks[index if index < cut else index - cut]


def is_trained_whole(piece: Piece, name: str, adapter: AdapterConfig, cut: int) -> bool:
    """Whether this tensor or module is of a side whose own parameters are all trained."""
    return trains_all(side_of(piece.family, name, adapter, cut))


def check_trained_whole(piece: Piece, adapter: AdapterConfig, cut: int) -> None:
    """CutError where such a tensor is tied to another piece's, ConfigError where its steps would vanish."""
    names = [
        name for name, _ in piece.model.named_parameters() if is_trained_whole(piece, name, adapter, cut)
    ]
    if not names:
        return
    if tied := [name for name in names if name in piece.tied]:
        raise CutError(
            f"{', '.join(tied)} is tied to a tensor of another piece and cannot be trained there: take "
            "adapters of another kind, or a checkpoint saved with tie_word_embeddings=False"
        )
    if piece.model.dtype != torch.float32:
        raise ConfigError(
            f"the model's own parameters are trained ({names[0]}, ...), whose steps vanish in the rounding "
            f"of {piece.model.dtype}: set model.dtype to 'float32'"
        )


def _check_ranks(adapter: AdapterConfig, cut: int, num_blocks: int) -> None:
    for label, side, blocks in (("head", adapter.head, cut), ("body", adapter.body, num_blocks - cut)):
        low_rank = side.find(LowRank)
        if low_rank is not None and len(low_rank.ranks) not in (0, blocks):
            got = len(low_rank.ranks)
            raise ConfigError(
                f"adapter.{label}.ranks must name one for each of the {blocks} blocks, got {got}"
            )
