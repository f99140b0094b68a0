"""The state of a run's parts as flat mappings of tensors, which checkpoints hold.

A stateful object returns its state with `state()` and continues from one after `restore(state)`, bit for
bit. Nested parts have dotted names.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from splitfl.core.errors import ConfigError

State = Mapping[str, Tensor]
"""Tensors by name; copies, which later steps do not change."""


class Stateful(Protocol):
    """An object that can be checkpointed and restored."""

    def state(self) -> State:
        """A copy of its whole state."""

    def restore(self, state: State) -> None:
        """Continues from this state; raises ConfigError for a state of another kind."""


def under(name: str, state: State) -> dict[str, Tensor]:
    """A part's state with the prefix `name.` on every name."""
    return {f"{name}.{key}": value for key, value in state.items()}


def part(state: State, name: str) -> dict[str, Tensor]:
    """The state of the part with this prefix, without it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def without(state: State, name: str) -> dict[str, Tensor]:
    """The state without the part with this prefix."""
    return {key: value for key, value in state.items() if not key.startswith(f"{name}.")}


def copied(tensors: State) -> dict[str, Tensor]:
    """Copies of these tensors on the CPU."""
    return {name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}


def whole(value: int) -> Tensor:
    """An integer as an int64 scalar tensor."""
    return torch.tensor(value, dtype=torch.int64)


def number_in(state: State, name: str) -> int:
    """The integer of this name; raises ConfigError without one."""
    return int(tensor_in(state, name).item())


def tensor_in(state: State, name: str) -> Tensor:
    """The tensor of this name; raises ConfigError without one."""
    if name not in state:
        raise ConfigError(f"a checkpoint lacks {name!r}: it is of another method or other settings")
    return state[name]


def raw(data: bytes) -> Tensor:
    """Bytes as a uint8 tensor."""
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())


def raw_in(state: State, name: str) -> bytes:
    """The bytes of this name; raises ConfigError without any."""
    return tensor_in(state, name).numpy().tobytes()


def not_finite(state: State) -> str | None:
    """The name of the first tensor with a value that is not finite, or None."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return name
    return None


def moments(
    parameters: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Copies of an optimiser's state for these parameters, by `parameter.key`."""
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
    """Replaces an optimiser's state; raises ConfigError for an unknown parameter."""
    optimiser.state.clear()
    for name, value in state.items():
        of, _, key = name.rpartition(".")
        if of not in parameters:
            raise ConfigError(f"a checkpoint has moments of {of!r}, which is not trained here")
        device = value.device if value.ndim == 0 else parameters[of].device  # AdamW counts steps on the CPU
        optimiser.state[parameters[of]][key] = value.clone().to(device)


def listed(states: Sequence[State]) -> dict[str, Tensor]:
    """The states of a list of parts, with their indices as prefixes."""
    return {name: value for at, state in enumerate(states) for name, value in under(str(at), state).items()}


def numbered(state: State) -> dict[int, dict[str, Tensor]]:
    """The parts whose prefixes are indices, in ascending order."""
    numbers = sorted({int(name.partition(".")[0]) for name in state})
    return {at: part(state, str(at)) for at in numbers}
