"""Memory that autograd saves for the backward pass: each storage counted once, parameters excluded."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import torch
from torch import Tensor


class SavedTensors:
    """Counts the tensors saved within its context: `bytes` currently, `peak_bytes` at most so far.

    While torch's activation checkpointing recomputes a block, its saved tensors bypass these hooks:
    `peak_bytes` then excludes that block.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._own = {value.untyped_storage().data_ptr() for value in parameters}
        self._held: dict[int, int] = {}
        self.bytes = self.peak_bytes = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: _Held(self, tensor), lambda held: held.tensor
        )

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def count(self, tensor: Tensor, sign: int) -> None:
        """Adds (+1) or removes (-1) one reference to this tensor's storage."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._own:
            return
        before = self._held.get(storage.data_ptr(), 0)
        self._held[storage.data_ptr()] = before + sign
        if before == (0 if sign > 0 else 1):
            self.bytes += sign * storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.bytes)


class _Held:
    """A saved tensor that is uncounted once the graph releases it."""

    def __init__(self, meter: SavedTensors, tensor: Tensor) -> None:
        self.tensor = tensor
        self._meter = meter
        meter.count(tensor, 1)

    def __del__(self) -> None:
        self._meter.count(self.tensor, -1)
