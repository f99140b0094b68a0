"""How learning rates change over the rounds of a run: by the round alone, so that no state is kept."""

import math
from collections.abc import Callable

from splitfl.config import RunConfig

Decay = Callable[[int], float]
"""What a learning rate is multiplied by in a round, counted from 0."""


def constant(round_index: int) -> float:
    """The rate as it is."""
    return 1.0


def head_decay(config: RunConfig) -> Decay:
    """The clients' `train.head_schedule`."""
    return over_rounds(config.train.head_schedule, config.federation.rounds)


def body_decay(config: RunConfig) -> Decay:
    """The server's `train.body_schedule`."""
    return over_rounds(config.train.body_schedule, config.federation.rounds)


def over_rounds(schedule: str, rounds: int) -> Decay:
    """A schedule by name over so many rounds: 1 in the first; zero would come after the last."""

    def linear(round_index: int) -> float:
        return 1.0 - min(round_index, rounds) / rounds

    def cosine(round_index: int) -> float:
        return (1.0 + math.cos(math.pi * min(round_index, rounds) / rounds)) / 2

    return {"constant": constant, "linear": linear, "cosine": cosine}[schedule]
