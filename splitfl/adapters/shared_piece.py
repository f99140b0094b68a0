"""A piece that several clients of one process compute with, each with trained tensors of its own.

Modules and frozen tensors exist once. What training changes (adapters, a fresh classifier, running statistics
of batch norms, residuals) is swapped in before a client computes: the modules then refer to this client's
tensors. No value is copied, so autograd graphs and optimisers of other clients stay valid meanwhile.
"""

import copy
from collections.abc import MutableMapping
from typing import Any

from peft.tuners.lora import LoraLayer

from splitfl.adapters.inject import held
from splitfl.adapters.residuals import RESIDUAL_CHILD
from splitfl.models.cut import Piece

Slot = tuple[MutableMapping[str, Any], str]
"""A place in a module: its mapping of parameters, buffers or submodules, and a name in it."""


class OwnTensors:
    """What one client has of its own in a shared piece, in the order of the piece's slots."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values


class SharedPiece:
    """A piece, and the slots in it whose contents differ between clients. Not thread-safe."""

    def __init__(self, piece: Piece) -> None:
        """Takes over a piece as it was loaded; its tensors are the initial ones of every client."""
        self.piece = piece
        self._slots = _slots(piece)
        self._initial = self._taken()
        self._holder: OwnTensors | None = None

    def initial(self) -> OwnTensors:
        """A new client's copies of the initial tensors."""
        return OwnTensors(copy.deepcopy(self._initial))

    def give(self, own: OwnTensors) -> None:
        """Puts a client's tensors into the modules, and keeps those of the client before it."""
        if own is self._holder:
            return
        if self._holder is not None:
            self._holder.values = self._taken()
        for (mapping, name), value in zip(self._slots, own.values, strict=True):
            if value is not None or name in mapping:
                mapping[name] = value
        self._holder = own

    def _taken(self) -> list[Any]:
        return [mapping.get(name) for mapping, name in self._slots]


def _slots(piece: Piece) -> list[Slot]:
    own = {id(value) for value in held(piece).values()}
    slots: list[Slot] = []
    for module in piece.model.modules():
        for mapping in (module._parameters, module._buffers):
            slots += [(mapping, name) for name, value in mapping.items() if id(value) in own]
        if isinstance(module, LoraLayer):
            slots.append((module._modules, RESIDUAL_CHILD))
    return slots
