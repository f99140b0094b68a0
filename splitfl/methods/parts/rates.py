"""Learning rate schedules of the clients, functions of the round alone, hence without state."""

import math
from collections.abc import Callable

from splitfl.config import RunConfig

Decay = Callable[[int], float]
"""The factor of the learning rate in a round, counted from 0."""


def constant(round_index: int) -> float:
    """No decay: 1 in every round."""
    return 1.0


def decay(config: RunConfig) -> Decay:
    """The schedule `train.head_schedule`: 1 in the first round, reaching 0 one round after the last.

    `cosine` is equation 5 of SGDR (Loshchilov & Hutter, ICLR'17) without restarts.
    """
    rounds = config.federation.rounds

    def linear(round_index: int) -> float:
        return 1.0 - min(round_index, rounds) / rounds

    def cosine(round_index: int) -> float:
        return (1.0 + math.cos(math.pi * min(round_index, rounds) / rounds)) / 2

    return {"constant": constant, "linear": linear, "cosine": cosine}[config.train.head_schedule]
