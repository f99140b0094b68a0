"""Checksums of a piece's pretrained weights, to verify that processes use the same model."""

import hashlib
from collections.abc import Mapping

import torch

from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.families import block_index, is_inside


def checksums(piece: Piece) -> dict[str, str]:
    """BLAKE2b (128 bits) of names, shapes, dtypes and values, for each block and each module outside blocks.

    They equal those of the same modules of the unsplit model, for a piece without adapters. Newly initialised
    modules, drawn from the seed, have none.
    """
    found: dict[str, hashlib.blake2b] = {}
    for name, value in piece.model.named_parameters(remove_duplicate=False):
        if name not in piece.fresh:
            group = _group(piece, name)
            digest = found.setdefault(group, hashlib.blake2b(digest_size=16))
            digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return {group: digest.hexdigest() for group, digest in found.items()}


def refuse_other_weights(own: Mapping[str, str], others: Mapping[str, str], folder: str) -> None:
    """Raises ConfigError, with module names, if the weights of this process differ from the server's."""
    different = [group for group, digest in own.items() if others.get(group) != digest]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise ConfigError(
            f"the model in {folder} has other weights than the server's in {', '.join(different[:3])}{more}; "
            "pass a copy of the server's model with --model"
        )


def _group(piece: Piece, name: str) -> str:
    index = block_index(piece.family, name)
    is_shared = is_inside(piece.model, name, piece.family.shared)  # pieces of other blocks have it, too
    if index is None or is_shared:
        return name.rpartition(".")[0]
    return f"{name[: name.index(f'{piece.family.blocks}.{index}.')]}{piece.family.blocks}.{index}"
