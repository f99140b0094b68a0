"""The target modules of the adapters of a piece, and the settings of each.

Embeddings and blocks below the cut have the head's settings, all others the body's, whichever
piece they are in, so that the pieces together have the adapters of the whole.
"""

import re
from collections.abc import Sequence
from typing import Final

import torch

from splitfl.adapters.full import FullSettings
from splitfl.adapters.kind import LowRank, Targets
from splitfl.adapters.registry import ADAPTERS, kind_named, side_rank, sides, trains_all
from splitfl.config import AdapterConfig, SideConfig, value_of
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.cut import Piece, linears
from splitfl.models.families import Family, block_index, is_inside
from splitfl.models.materialise import is_of_base

ALL_LINEAR: Final = "all-linear"


def targets(piece: Piece, adapter: AdapterConfig, cut: int) -> dict[str, SideConfig]:
    """The settings of every module of the piece to be adapted, by full name.

    Targets are matched in the whole model, so that every piece refuses the same settings. Raises
    ConfigError for targets without a match, CutError for a target tied to another piece.
    """
    follows = {name: side_of(piece.family, name, adapter, cut) for name in piece.linears}
    chosen: dict[str, SideConfig] = {}
    _check_ranks(adapter, cut, piece.num_blocks)
    for label, side in sides(adapter):
        _check_named(piece, label, side, adapter, cut)
        own = [
            name
            for name, its in follows.items()
            if its is side and not trains_all(side) and not _is_in(_saved(side), name)
        ]
        own = _in_layers(piece, label, side, own)
        if label == "body" and piece.num_blocks <= cut:
            continue  # of a model that was shortened, a new classifier alone follows the cut
        for target in _wanted(piece, label, side):
            found = _matching(piece, label, target, own)
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


def _matching(piece: Piece, label: str, target: str, own: Sequence[str]) -> list[str]:
    """Of these modules those that a target names: see Targets."""
    if target == ALL_LINEAR:
        return [name for name in own if is_of_base(piece.model, name) and name not in piece.new]
    if found := [name for name in own if f".{name}".endswith(f".{target}")]:
        return found
    try:
        pattern = re.compile(target)
    except re.error as error:
        raise ConfigError(f"adapter.{label}.targets: {target!r} is no regular expression: {error}") from None
    return [name for name in own if pattern.fullmatch(name)]


def _in_layers(piece: Piece, label: str, side: SideConfig, own: Sequence[str]) -> list[str]:
    """The modules in the blocks of `layers_to_transform`; without it all, or those of blocks by default."""
    found = side.find(Targets)
    layers = found.layers_to_transform if found else ()
    blocks = {name: block_index(piece.family, name) for name in own}
    if unknown := set(layers) - set(blocks.values()):
        have = ", ".join(map(str, sorted({one for one in blocks.values() if one is not None})))
        raise ConfigError(
            f"adapter.{label}.layers_to_transform: no block {min(unknown)} on this side of the "
            f"cut; have {have}"
        )
    if layers:
        return [name for name, block in blocks.items() if block in layers]
    decoder = [piece.family.decoder] if piece.family.decoder else []
    return [
        name
        for name, block in blocks.items()
        if _named(side) or block is not None or is_inside(piece.model, name, decoder)
    ]


def _saved(side: SideConfig) -> tuple[str, ...]:
    """The modules of a side that are trained whole beside its adapters."""
    found = side.find(Targets)
    return found.modules_to_save if found else ()


def _frozen(side: SideConfig) -> tuple[str, ...]:
    """The modules of a fully finetuned side that are not trained."""
    found = side.find(FullSettings)
    return found.frozen_modules if found else ()


def _is_in(modules: Sequence[str], name: str) -> bool:
    """Whether this tensor or module is in one of the modules, which are named by the ends of their names."""
    return any(f".{key}." in f".{name}." for key in modules)


def _check_named(piece: Piece, label: str, side: SideConfig, adapter: AdapterConfig, cut: int) -> None:
    """Raises ConfigError for a name in `modules_to_save` or `frozen_modules` that no module has.

    ConfigError also for modules to save of a model with batch norms, and for frozen modules that are new.
    """
    own = [name for name in piece.parametrised if side_of(piece.family, name, adapter, cut) is side]
    for setting, keys in (("modules_to_save", _saved(side)), ("frozen_modules", _frozen(side))):
        for key in keys:
            if not any(_is_in((key,), name) for name in own):
                have = sorted({name.rpartition(".")[2] for name in own} - {"base_layer"})
                raise ConfigError(f"adapter.{label}.{setting}: no module {key!r}; have {', '.join(have)}")
    if _saved(side) and piece.family.has_batch_norms:
        raise ConfigError(
            f"adapter.{label}.modules_to_save must be empty for a {piece.model.config.model_type} model, "
            f"whose batch norms are trained by kind 'full' alone; got {_saved(side)[0]!r}"
        )
    if new := [name for name in piece.new if _is_in(_frozen(side), name)]:
        raise ConfigError(
            f"adapter.{label}.frozen_modules: {new[0]} is not in the checkpoint, and must be trained"
        )


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
    makes_input = any(f".{path}." in f".{name}." for path in (*family.before, *family.with_first))
    return adapter.head if makes_input else adapter.body


def rank_of(family: Family, name: str, adapter: AdapterConfig, cut: int) -> int:
    """The rank of a module, by its full name: that of its block, or of its side; 0 for a kind without one."""
    side, index = side_of(family, name, adapter, cut), block_index(family, name)
    low_rank = side.find(LowRank)
    if index is None or low_rank is None or not low_rank.ranks:
        return side_rank(side)
    return low_rank.ranks[index if index < cut else index - cut]


def is_trained_whole(piece: Piece, name: str, adapter: AdapterConfig, cut: int) -> bool:
    """Whether this tensor or module belongs to a fully finetuned side, or to one of `modules_to_save`.

    A module of `frozen_modules` does not. Also whether it is a trained bias, for which `piece.adapters` must
    be known.
    """
    side = side_of(piece.family, name, adapter, cut)
    if trains_all(side):
        return not _is_in(_frozen(side), name)
    return _is_in(_saved(side), name) or _is_trained_bias(piece, name, side)


def _is_trained_bias(piece: Piece, name: str, side: SideConfig) -> bool:
    """Whether this is a bias that the side's `bias` names, before or after adapters were injected."""
    module = name.removesuffix(".bias")
    if module == name or (trained := value_of(side, "bias")) is None:
        return False
    return trained == "all" or (
        trained == "lora_only" and module.removesuffix(".base_layer") in piece.adapters
    )


def _check_biases(piece: Piece, adapter: AdapterConfig, cut: int) -> None:
    """Raises ConfigError if a side of the piece has none of the biases that are to be trained."""
    names = [name for name, _ in piece.model.named_parameters()]
    for label, side in sides(adapter):
        if value_of(side, "bias") in (None, "none"):
            continue
        setting, model_type = f"adapter.{label}.bias", piece.model.config.model_type
        if piece.family.has_batch_norms:
            raise ConfigError(
                f"{setting} must be 'none' for a {model_type} model, whose batch norms are trained by kind "
                "'full' alone"
            )
        own = [name for name in names if side_of(piece.family, name, adapter, cut) is side]
        is_here = any(block_index(piece.family, name) is not None for name in own)
        if is_here and not any(_is_trained_bias(piece, name, side) for name in own):
            raise ConfigError(
                f"{setting} must be 'none': no {value_of(side, 'bias')!r} bias on this side of a "
                f"{model_type} model"
            )


def check_trained_whole(piece: Piece, adapter: AdapterConfig, cut: int) -> None:
    """Raises CutError for a tied, fully finetuned tensor, ConfigError for a dtype below float32.

    ConfigError also for biases that the model does not have. `piece.adapters` must be known.
    """
    _check_biases(piece, adapter, cut)
    names = [
        name for name, _ in piece.model.named_parameters() if is_trained_whole(piece, name, adapter, cut)
    ]
    if not names:
        return
    refuse_tied([name for name in names if name in piece.tied])
    if integers := [name for name in names if not piece.model.get_parameter(name).is_floating_point()]:
        raise ConfigError(
            f"{integers[0].removesuffix('.qdata')} is quantised, and can only have adapters: leave it out of "
            "modules_to_save and of kind 'full', or use unquantised weights (model.quantization 'none')"
        )
    if piece.model.dtype != torch.float32:
        raise ConfigError(
            f"the model's own parameters are trained ({names[0]}, ...), whose updates would be lost in the "
            f"rounding of {piece.model.dtype}: set model.dtype to 'float32'"
        )


def refuse_tied(names: Sequence[str]) -> None:
    """Raises CutError if there are any of these names, of parameters that other pieces use too."""
    if names:
        raise CutError(
            f"{', '.join(names)} is tied to a tensor of another piece, or used there too, and cannot be "
            "trained: train adapters, name it in frozen_modules of kind 'full', or, where it is tied, use a "
            "checkpoint saved with tie_word_embeddings=False"
        )


def _check_ranks(adapter: AdapterConfig, cut: int, num_blocks: int) -> None:
    for label, side, blocks in (("head", adapter.head, cut), ("body", adapter.body, num_blocks - cut)):
        low_rank = side.find(LowRank)
        if low_rank is not None and len(low_rank.ranks) not in (0, blocks):
            got = len(low_rank.ranks)
            raise ConfigError(
                f"adapter.{label}.ranks must have one rank for each of the {blocks} blocks, got {got}"
            )
