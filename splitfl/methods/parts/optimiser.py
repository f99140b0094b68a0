"""The optimiser of one side: AdamW with accumulated gradients, a clipped norm, warm-up and a schedule."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splitfl.config import RunConfig, TrainConfig
from splitfl.core.errors import ConfigError
from splitfl.core.state import State, moments, number_in, part, set_moments, under, whole

Decay = Callable[[int], float]
"""The factor of the learning rate in a round, or for a batch of the whole run, counted from 0."""

Group = tuple[Mapping[str, torch.nn.Parameter], float]
"""Parameters by name, and their learning rate."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW's `betas`; whether vectors have weight decay; whether rates change by batches, not by rounds."""

    betas: tuple[float, float] = (0.9, 0.999)
    decays_vectors: bool = True
    by_batches: bool = False


class SideOptimiser:
    """AdamW over the tensors of one side of the cut, as `train` configures it.

    Gradients of `train.accumulate` batches are averaged, then clipped to `train.clip_grad_norm`; the
    learning rate is that of the group, times the round's `decay`, times the warm-up's factor. `finish`
    ends a group of batches early: nothing is pending between rounds, so no checkpoint holds gradients.
    """

    def __init__(
        self, groups: Sequence[Group], train: TrainConfig, decay: Decay, recipe: Recipe | None = None
    ) -> None:
        recipe = recipe or Recipe()
        self._parameters = {name: value for group, _ in groups for name, value in group.items()}
        made = [one for group in groups for one in _param_groups(group, train.weight_decay, recipe)]
        self._adamw = torch.optim.AdamW(made, betas=recipe.betas)
        self._rates = [one["lr"] for one in made]
        self._now = self._rates
        self._train = train
        self._decay = decay
        self._decayed = 1.0
        self._by_batches = recipe.by_batches
        self._batch = 0
        self._steps = 0
        self._pending = 0
        self._sums: dict[str, Tensor] = {}

    def set_round(self, round_index: int, first_lr: float | None = None) -> None:
        """The rates of this round; the first group's is `first_lr` before decay, if given."""
        self._decayed = self._decay(round_index)
        self._now = [first_lr or self._rates[0], *self._rates[1:]]

    def set_batch(self, index: int) -> None:
        """The index of the next batch in the whole run, which a recipe by batches takes its rates from."""
        self._batch = index

    def step(self) -> bool:
        """Adds the gradients of one batch; returns whether a group was complete and parameters changed."""
        if self._by_batches:
            self._decayed = self._decay(self._batch)
            self._batch += 1
        self._pending += 1
        if self._pending == self._train.accumulate:
            self._average()
            self._update()
            return True
        for name, value in self._parameters.items():
            if value.grad is not None:
                self._sums[name] = self._sum(name, value.grad)
        self.zero_grad()
        return False

    def finish(self) -> bool:
        """Steps with the mean over an incomplete group; returns whether there was one."""
        if not self._pending:
            return False
        self.zero_grad()
        self._average()
        self._update()
        return True

    def zero_grad(self) -> None:
        """Drops the gradients of the current batch, which has not been added."""
        self._adamw.zero_grad(set_to_none=True)

    def drop(self) -> None:
        """Drops an incomplete group of batches as well."""
        self.zero_grad()
        self._sums.clear()
        self._pending = 0

    def state(self) -> dict[str, Tensor]:
        """Moments by parameter; with warm-up the number of steps taken, with a recipe by batches theirs."""
        counted = {"steps": whole(self._steps)} if self._train.warmup_steps else {}
        counted |= {"batch": whole(self._batch)} if self._by_batches else {}
        return under("moment", moments(self._parameters, self._adamw)) | counted

    def restore(self, state: State) -> None:
        """See Stateful; an incomplete group is dropped."""
        self.drop()
        set_moments(self._parameters, self._adamw, part(state, "moment"))
        if self._train.warmup_steps:
            self._steps = number_in(state, "steps")
        if self._by_batches:
            self._batch = number_in(state, "batch")

    def _average(self) -> None:
        """The mean over the pending batches becomes the gradient; a tensor without one counts as zero."""
        if self._pending > 1 or self._sums:
            for name, value in self._parameters.items():
                if value.grad is not None or name in self._sums:
                    value.grad = self._sum(name, value.grad) / self._pending
        self._sums.clear()
        self._pending = 0

    def _sum(self, name: str, grad: Tensor | None) -> Tensor:
        if name not in self._sums:
            assert grad is not None
            return grad
        return self._sums[name] if grad is None else self._sums[name] + grad

    def _update(self) -> None:
        if self._train.clip_grad_norm:
            torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._train.clip_grad_norm)
        self._steps += 1
        warmup = min(1.0, self._steps / self._train.warmup_steps) if self._train.warmup_steps else 1.0
        for group, rate in zip(self._adamw.param_groups, self._now, strict=True):
            group["lr"] = rate * (self._decayed * warmup)
        self._adamw.step()
        self.zero_grad()


def _param_groups(group: Group, weight_decay: float, recipe: Recipe) -> list[dict[str, Any]]:
    """AdamW's parameter groups for one group; vectors without weight decay have one of their own."""
    parameters, lr = group
    vectors = [value for value in parameters.values() if value.ndim < 2 and not recipe.decays_vectors]
    decayed = [value for value in parameters.values() if value.ndim > 1 or recipe.decays_vectors]
    made = [{"params": decayed, "lr": lr, "weight_decay": weight_decay}]
    return [*made, {"params": vectors, "lr": lr, "weight_decay": 0.0}] if vectors else made


def refuse_accumulation(train: TrainConfig, steps: int) -> None:
    """ConfigError where a client's round has fewer steps than a group of batches, which ends with it."""
    if train.accumulate > steps:
        raise ConfigError(
            f"train.accumulate must be at most the {steps} local steps of a client's round, since a group "
            f"of accumulated batches ends with its round; got {train.accumulate}"
        )


def constant(round_index: int) -> float:
    """No decay: 1 in every round."""
    return 1.0


def head_decay(config: RunConfig) -> Decay:
    """The clients' `train.head_schedule`."""
    return over_rounds(config.train.head_schedule, config.federation.rounds)


def body_decay(config: RunConfig) -> Decay:
    """The server's `train.body_schedule`."""
    return over_rounds(config.train.body_schedule, config.federation.rounds)


def over_rounds(schedule: str, rounds: int) -> Decay:
    """A schedule by name over `rounds` rounds: 1 in the first, reaching 0 one round after the last."""

    def linear(round_index: int) -> float:
        return 1.0 - min(round_index, rounds) / rounds

    def cosine(round_index: int) -> float:
        return (1.0 + math.cos(math.pi * min(round_index, rounds) / rounds)) / 2

    return {"constant": constant, "linear": linear, "cosine": cosine}[schedule]
