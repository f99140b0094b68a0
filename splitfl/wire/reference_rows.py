"""Rows of samples that both ends of a message hold, rounded to 8 bits, and their form in a checkpoint."""

# N rows of several samples, n rows of one sample, D hidden

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from splitfl.core.errors import ConfigError
from splitfl.core.state import State, tensor_in
from splitfl.wire.codecs.int8 import INT8

_INDEX: Final = 5  # columns: the key, and the shape
_DIGEST_BYTES: Final = 8
_SPARE_BITS: Final = 3  # of an int64: its sign, and the two lowest bits for flags

Key = tuple[int, int, int]
"""Three numbers that tell a reference from the others of one end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A sample's rows (n, D), rounded to 8 bits."""

    codes_nD: Tensor
    scale_n: Tensor

    @cached_property
    def digest(self) -> int:
        """61 bits of the BLAKE2b digest of shape, codes and scales."""
        found = hashlib.blake2b(repr((*self.codes_nD.shape,)).encode(), digest_size=_DIGEST_BYTES)
        found.update(self.codes_nD.numpy().tobytes())
        found.update(self.scale_n.numpy().tobytes())
        return int.from_bytes(found.digest(), "little") >> _SPARE_BITS

    @property
    def nbytes(self) -> int:
        """The memory of its tensors."""
        return self.codes_nD.nbytes + self.scale_n.nbytes


def joined(references: Sequence[Reference | None], counts: Sequence[int], width: int) -> Tensor:
    """(N, D) float32: the rows of all references, zeros in place of None."""
    codes = [
        torch.zeros(count, width, dtype=torch.int8) if reference is None else reference.codes_nD
        for reference, count in zip(references, counts, strict=True)
    ]
    scales = [
        torch.zeros(count) if reference is None else reference.scale_n
        for reference, count in zip(references, counts, strict=True)
    ]
    return INT8.decode({"codes": torch.cat(codes), "scale": torch.cat(scales)}, width, torch.float32)


def split(rows_ND: Tensor, counts: Sequence[int]) -> list[Reference]:
    """Rows as references of the samples, each in memory of its own."""
    parts = INT8.encode(rows_ND)
    codes, scales = torch.split(parts["codes"], [*counts]), torch.split(parts["scale"], [*counts])
    return [
        Reference(codes_nD=codes_nD.clone(), scale_n=scale_n.clone())
        for codes_nD, scale_n in zip(codes, scales, strict=True)
    ]


def packed(references: Mapping[Key, Reference]) -> State:
    """References by key as three tensors, in the order of the keys; none for no references."""
    ordered = sorted(references.items(), key=lambda item: item[0])
    if not ordered:
        return {}
    return {
        "index": torch.tensor([[*key, *one.codes_nD.shape] for key, one in ordered], dtype=torch.int64),
        "codes": torch.cat([one.codes_nD.flatten() for _, one in ordered]),
        "scale": torch.cat([one.scale_n for _, one in ordered]),
    }


def unpacked(state: State) -> dict[Key, Reference]:
    """The inverse of `packed`; raises ConfigError for other tensors."""
    if not state:
        return {}
    index, codes, scale = (tensor_in(state, name) for name in ("index", "codes", "scale"))
    if index.ndim != 2 or index.shape[1] != _INDEX:
        raise ConfigError(f"a checkpoint has no valid index of references, got a tensor {[*index.shape]}")
    rows: list[list[int]] = index.tolist()
    parts = zip(
        rows,
        torch.split(codes, [n * width for *_, n, width in rows]),
        torch.split(scale, [n for *_, n, _ in rows]),
        strict=True,
    )
    return {
        (first, second, third): Reference(codes_nD=own.reshape(n, width).clone(), scale_n=scale_n.clone())
        for (first, second, third, n, width), own, scale_n in parts
    }
