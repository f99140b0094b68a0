"""A state in a memory mapping of its own, as safetensors.

States that are kept for long would fragment the heap, shared with the temporary tensors of training
steps. The system can swap a mapping out.
"""

import mmap

import safetensors.torch
from torch import Tensor

from splitfl.core.state import State


class StoredState:
    """A copy of a state, bit for bit."""

    def __init__(self, state: State) -> None:
        data = state_bytes(state)
        self._mapping = mmap.mmap(-1, len(data))
        self._mapping.write(data)

    def load(self) -> dict[str, Tensor]:
        """The state, in new tensors."""
        return safetensors.torch.load(self._mapping[:])


def state_bytes(state: State) -> bytes:
    """The state as safetensors."""
    return safetensors.torch.save({name: value.cpu().contiguous() for name, value in state.items()})
