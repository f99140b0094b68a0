"""Training from an existing LoRA or DoRA, of a folder in peft's format.

Each piece reads its own tensors only. The folder decides nothing: rank, scale and targets are those of the
settings, and a folder that has others is refused.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from peft import LoraConfig, PeftConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor

from splitfl.adapters.kind import LowRank
from splitfl.adapters.registry import ADAPTERS, module_of, sides
from splitfl.adapters.residuals import A
from splitfl.adapters.targets import side_of
from splitfl.config import AdapterConfig, value_of
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX: Final = "base_model.model."
_MAGNITUDE: Final = ".lora_magnitude_vector"  # stored without `.weight`


def start_tensors(
    piece: Piece, own: Mapping[str, Tensor], adapter: AdapterConfig, cut: int
) -> dict[str, Tensor]:
    """The values of a piece's trainable tensors `own`, by name, in the folder `adapter.start`.

    Modules that are trained whole and not in the folder have no value. Raises ConfigError for a folder that
    is damaged, holds another kind, scale or rank than the settings, lacks a module that the piece adapts, or,
    for the unsplit model, has other values of a tensor that is not trained.
    """
    folder = Path(adapter.start)
    config = _config(folder)
    _check_kinds(folder, config, adapter)
    found = dict(_read(folder, own))
    for name, value in own.items():
        if name not in found and module_of(name):
            raise _refused(folder, f"has no {name}: set the targets of its target_modules")
        if name in found and found[name].shape != value.shape:
            has, needs = tuple(found[name].shape), tuple(value.shape)
            raise _refused(folder, f"has {name} of shape {has}, and the settings need {needs}")
    if piece.is_first and piece.is_last:
        _check_frozen(folder, piece, own)
    for name in found:
        if name.endswith(A):
            _check_scale(folder, config, module_of(name), piece, adapter, cut)
    return found


def start_checksums(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The BLAKE2b (128 bits) of each tensor, by `adapter.start` and its name."""
    return {
        f"adapter.start {name}": hashlib.blake2b(
            value.contiguous().reshape(-1).view(torch.uint8).numpy().data, digest_size=16
        ).hexdigest()
        for name, value in tensors.items()
    }


def refuse_other_start(own: Mapping[str, str], others: Mapping[str, str], folder: str) -> None:
    """Raises ConfigError if a checksum of a start tensor differs from the server's."""
    for name, digest in own.items():
        if others.get(name) != digest:
            raise ConfigError(
                f"the adapter in {folder} has other values than the server's in {name.split()[-1]}; put a "
                "copy of the server's folder adapter.start there"
            )


def _config(folder: Path) -> LoraConfig:
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise _refused(folder, f"must be a folder with {_CONFIG} and {_WEIGHTS}, and has no {name}")
    if beside := sorted(folder.glob(f"*/{_CONFIG}")):
        raise _refused(
            folder, f"holds a second adapter in {beside[0].parent.name}: start from LoRA or DoRA alone"
        )
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError) as error:
        raise _refused(folder, f"has an invalid {_CONFIG}: {error}") from None
    if not isinstance(config, LoraConfig):
        raise _refused(folder, f"holds an adapter of type {config.peft_type}, and may hold LORA alone")
    return config


def _check_kinds(folder: Path, config: LoraConfig, adapter: AdapterConfig) -> None:
    needs = "dora" if config.use_dora else "lora"
    for label, side in sides(adapter):
        if side.kind != needs:
            raise _refused(folder, f"needs adapter.{label}.kind {needs!r}, got {side.kind!r}")
        if (init := value_of(side, "init")) not in (None, "kaiming"):
            raise _refused(folder, f"needs adapter.{label}.init 'kaiming', got {init!r}")


def _check_scale(
    folder: Path, config: LoraConfig, module: str, piece: Piece, adapter: AdapterConfig, cut: int
) -> None:
    ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
    rank = ranks.get(get_pattern_key(list(ranks), module), config.r)
    alpha = alphas.get(get_pattern_key(list(alphas), module), config.lora_alpha)
    scale = alpha / (math.sqrt(rank) if config.use_rslora else rank)
    side = side_of(piece.family, module, adapter, cut)
    if not math.isclose(scale, needs := ADAPTERS[side.kind].scale(side), rel_tol=1e-6):
        low_rank = side.of(LowRank)
        raise _refused(
            folder,
            f"scales {module} by {scale:g} (its alpha {alpha:g} and rank {rank}), and the settings by "
            f"{needs:g} (alpha {low_rank.alpha:g}, rank {low_rank.rank})",
        )


def _check_frozen(folder: Path, piece: Piece, own: Mapping[str, Tensor]) -> None:
    """Raises ConfigError for a tensor that is not trained and is not the model's, such as its classifier."""
    held = dict(piece.model.named_parameters())
    with _opened(folder) as file:
        for key in sorted(file.keys()):
            frozen = held.get(name := _name(key))
            if name in own or (frozen is not None and _is_equal(frozen, file.get_tensor(key))):
                continue
            raise _refused(
                folder, f"has {name}, which these settings do not train: see targets and modules_to_save"
            )


def _is_equal(frozen: Tensor, stored: Tensor) -> bool:
    """Whether these are the same values; for a shape-only tensor, the same shape."""
    return frozen.shape == stored.shape if 0 in frozen.stride() else torch.equal(frozen.cpu(), stored)


def _read(folder: Path, own: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    with _opened(folder) as file:
        for key in file.keys():  # noqa: SIM118  # not a mapping
            if (name := _name(key)) in own:
                yield name, file.get_tensor(key)


def _opened(folder: Path) -> safe_open:
    try:
        return safe_open(folder / _WEIGHTS, framework="pt")
    except SafetensorError as error:
        raise _refused(folder, f"has a damaged {_WEIGHTS}: {error}") from None


def _name(key: str) -> str:
    """The name in the unsplit model of a tensor in peft's file."""
    name = key.removeprefix(_PREFIX)
    return f"{name}.weight" if name.endswith(_MAGNITUDE) else name


def _refused(folder: Path, why: str) -> ConfigError:
    return ConfigError(f"adapter.start: {folder} {why}")
