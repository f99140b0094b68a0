"""The inner loop of pretraining: AdamW with weight decay of matrices only, one schedule for the whole run.

The learning rate depends on the batches that were handed out in the whole run, not on a client's own steps: a
slow client would else remain in warm-up (as in HALoS, arXiv 2506.04531). Moments stay with the client.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.federation.aggregators import aggregator
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.optimiser import Decay, Recipe, SideOptimiser, over_rounds
from splitfl.models.cut import Piece


@dataclass(frozen=True, kw_only=True)
class InnerLoop:
    """AdamW's `betas`, and the share of the learning rate at which its schedule ends, `min_lr_rate`."""

    betas: tuple[float, ...] = (0.9, 0.95)
    min_lr_rate: float = 0.1

    def __post_init__(self) -> None:
        if len(self.betas) != 2 or not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ConfigError(f"method.betas must be two numbers in [0, 1), got {list(self.betas)}")
        if not 0.0 <= self.min_lr_rate <= 1.0:
            raise ConfigError(f"method.min_lr_rate must lie in [0, 1], got {self.min_lr_rate}")

    @property
    def recipe(self) -> Recipe:
        """How AdamW is set up."""
        first, second = self.betas
        return Recipe(betas=(first, second), decays_vectors=False, by_batches=True)


def over_batches(config: RunConfig, steps: Sequence[int]) -> Decay:
    """The factor of the learning rate for a batch of the run, of which each client takes `steps` a round.

    Warm-up and schedule are those of one process that takes a step with a batch of every client: step n of
    `train.warmup_steps` has the batches from n times the number of clients on.
    """
    train, clients, least = config.train, len(steps), config.method.of(InnerLoop).min_lr_rate
    falling = over_rounds(train.head_schedule, config.federation.rounds * sum(steps))

    def factor(batch: int) -> float:
        warmup = min(1.0, (batch // clients + 1) / train.warmup_steps) if train.warmup_steps else 1.0
        return warmup * (1.0 - (1.0 - least) * (1.0 - falling(batch)))

    return factor


def inner_trainer(piece: Piece, config: RunConfig, steps: Sequence[int]) -> ClientTrainer:
    """A client's trainer, for clients that take these steps a round."""
    return ClientTrainer(
        piece,
        aggregator(config.federation.aggregator),
        replace(config.train, warmup_steps=0),  # which the schedule has
        decay=over_batches(config, steps),
        recipe=config.method.of(InnerLoop).recipe,
    )


def inner_optimiser(
    parameters: Mapping[str, nn.Parameter], config: RunConfig, steps: Sequence[int]
) -> SideOptimiser:
    """The optimiser of `inner_trainer`, over other parameters."""
    train = replace(config.train, warmup_steps=0)
    recipe = config.method.of(InnerLoop).recipe
    return SideOptimiser([(parameters, train.head_lr)], train, over_batches(config, steps), recipe)


def refuse_epochs(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for rounds of one pass over a client's data, whose batches the server cannot count."""
    federation = config.federation
    if not (federation.local_steps or federation.client_steps):
        raise ConfigError(
            f"federation.local_steps must be at least 1 with the method {config.method.name!r}, whose "
            "learning rate follows the batches of the whole run; got 0"
        )
