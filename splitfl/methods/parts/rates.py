"""How the clients' learning rates change over a run: by its rounds alone, so that nothing need be kept."""

import math
from collections.abc import Callable

from splitfl.config import RunConfig

Decay = Callable[[int], float]
"""What a learning rate is multiplied by in a round, counted from 0."""


def constant(round_index: int) -> float:
    """The rate as it is."""
    return 1.0


def decay(config: RunConfig) -> Decay:
    """The run's own, over all its rounds: 1 in the first, and zero would come after the last."""
    rounds = config.federation.rounds

    def linear(round_index: int) -> float:
        return 1.0 - min(round_index, rounds) / rounds

    def cosine(round_index: int) -> float:
        return (1.0 + math.cos(math.pi * min(round_index, rounds) / rounds)) / 2

    return {"constant": constant, "linear": linear, "cosine": cosine}[config.train.head_schedule]
