"""Encodes adapters as differences to those that both ends hold; see `splitfl.setup.adapter_codec`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.core.messages import AdapterDelta
from splitfl.wire.differences import (
    checksum,
    decode_differences,
    encode_differences,
    mask_of,
    names_in,
    rows_by_width,
)

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class SentAdapters:
    """A message of adapters, the tensors as both ends have them then, and the error of each difference.

    `rows` are the exact differences, as they were encoded.
    """

    delta: AdapterDelta
    tensors: Tensors
    error: Tensors
    rows: Sequence[Tensor]


@dataclass(frozen=True, kw_only=True)
class AdapterEncoder:
    """Encodes differences by the chain `codec`; both ends compute with the decoded ones.

    With `is_estimate` it encodes normal numbers in place of the differences, for the size of a message.
    """

    codec: str
    is_estimate: bool = False

    def sent(
        self, held: Tensors, tensors: Tensors, error: Tensors, *, version: int, base: int
    ) -> SentAdapters:
        """The message that turns the tensors held into these, plus the `error` of an earlier one.

        Raises WireError for tensors that are not held.
        """
        if unknown := tensors.keys() - held.keys():
            raise WireError(f"{min(unknown)!r} is not among the adapters that the client had at first")
        changes = {name: _difference(value, held[name]) for name, value in tensors.items()}
        changes |= {name: changes[name] + error[name] for name in changes if name in error}
        if self.is_estimate:
            changes = {name: _normal(value.shape) for name, value in changes.items()}
        rows = rows_by_width(changes)
        parts = encode_differences(rows, self.codec)
        decoded = decode_differences(parts, _shapes(changes, held), self.codec)
        found = _added(held, decoded)
        delta = AdapterDelta(
            version=version, base=base, which=mask_of(changes, held), checksum=_checksum(found), tensors=parts
        )
        return SentAdapters(
            delta=delta,
            tensors=found,
            error={name: value - decoded[name] for name, value in changes.items()},
            rows=list(rows.values()),
        )

    def received(self, held: Tensors, delta: AdapterDelta) -> dict[str, Tensor]:
        """The tensors as both ends have them; raises WireError where the two ends hold different ones."""
        shapes = _shapes(names_in(delta.which, held), held)
        found = _added(held, decode_differences(delta.tensors, shapes, self.codec))
        if delta.checksum.dtype != torch.int64 or not torch.equal(delta.checksum, _checksum(found)):
            raise WireError(
                f"adapters encoded by {self.codec!r} have a wrong checksum: client and server hold different "
                "adapters of the version before"
            )
        return found


def _difference(value: Tensor, held: Tensor) -> Tensor:
    if value.shape != held.shape:
        raise WireError(f"adapters of shape {[*value.shape]} must have that at first, {[*held.shape]}")
    return value.detach().cpu().to(torch.float32) - held.to(torch.float32)


def _added(held: Tensors, changes: Tensors) -> dict[str, Tensor]:
    return {
        name: (held[name].to(torch.float32) + change).to(held[name].dtype) for name, change in changes.items()
    }


def _shapes(names: Iterable[str], held: Tensors) -> dict[str, torch.Size]:
    return {name: held[name].shape for name in names}


def _checksum(tensors: Tensors) -> Tensor:
    return torch.tensor([checksum(tensors)], dtype=torch.int64)


def _normal(shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
