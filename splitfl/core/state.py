"""What a part of a run must remember, as a flat table of tensors: the only thing that a checkpoint holds.

Whatever keeps state hands it out with `state()` and takes it back with `restore(state)`, after which
it goes on as if it had never stopped, to the last bit. Parts of parts have dotted names.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from splitfl.core.errors import ConfigError

State = Mapping[str, Tensor]
"""Tensors by name, as they were when it was asked for: nothing in it changes later."""


class Stateful(Protocol):
    """Something that can stop and go on."""

    def state(self) -> State:
        """All it must remember, copied."""

    def restore(self, state: State) -> None:
        """Goes on from there; ConfigError where the state is not of such a thing."""


def under(name: str, state: State) -> dict[str, Tensor]:
    """A part's state within the whole's: every name with `name.` before it."""
    return {f"{name}.{key}": value for key, value in state.items()}


def part(state: State, name: str) -> dict[str, Tensor]:
    """The state of the part of this name."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def copied(tensors: State) -> dict[str, Tensor]:
    """These tensors as they are now, on the CPU."""
    return {name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}


def whole(value: int) -> Tensor:
    """A whole number as it stands in a state."""
    return torch.tensor(value, dtype=torch.int64)


def number_in(state: State, name: str) -> int:
    """The whole number of this name; ConfigError where there is none."""
    return int(tensor_in(state, name).item())


def tensor_in(state: State, name: str) -> Tensor:
    """The tensor of this name; ConfigError where there is none."""
    if name not in state:
        raise ConfigError(f"a checkpoint lacks {name!r}: it is not of this method or of these settings")
    return state[name]


def raw(data: bytes) -> Tensor:
    """Bytes as they stand in a state."""
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())


def raw_in(state: State, name: str) -> bytes:
    """The bytes of this name; ConfigError where there are none."""
    return tensor_in(state, name).numpy().tobytes()


def not_finite(state: State) -> str | None:
    """The name of the first tensor with a number in it that is not finite, if there is one."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return name
    return None


def moments(
    parameters: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """What an optimiser remembers of each of these parameters."""
    return copied(
        {
            f"{name}.{key}": value
            for name, parameter in parameters.items()
            for key, value in optimiser.state.get(parameter, {}).items()
        }
    )


def set_moments(
    parameters: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer, state: State
) -> None:
    """Gives an optimiser these memories for its own; what it remembered is forgotten."""
    optimiser.state.clear()
    for name, value in state.items():
        of, _, key = name.rpartition(".")
        if of not in parameters:
            raise ConfigError(f"a checkpoint has moments of {of!r}, which is not trained here")
        device = value.device if value.ndim == 0 else parameters[of].device  # AdamW counts steps on the CPU
        optimiser.state[parameters[of]][key] = value.clone().to(device)


def listed(states: Sequence[State]) -> dict[str, Tensor]:
    """Several parts of one kind, numbered."""
    return {name: value for at, state in enumerate(states) for name, value in under(str(at), state).items()}


def numbered(state: State) -> dict[int, dict[str, Tensor]]:
    """The parts that have numbers for names, by number; a file keeps no order of its own."""
    numbers = sorted({int(name.partition(".")[0]) for name in state})
    return {at: part(state, str(at)) for at in numbers}
