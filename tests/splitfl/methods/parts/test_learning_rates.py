"""Learning rate schedules over the rounds of a run, compared with torch's, and their effect on steps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.adapters.inject import trainable
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Done
from splitfl.federation.aggregators import Mean
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.optimiser import head_decay
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.splitfl import toy

ROUNDS = 7


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates")
    toy.model(folder / "model", "bert")
    toy.data(folder / "data.tsv", rows=40)
    return folder


def settings(place: Path, schedule: str, **tables: Any) -> RunConfig:
    train = {"head_lr": 1e-2, "head_schedule": schedule}
    return toy.config(place, federation={"clients": 2, "rounds": ROUNDS}, train=train, **tables)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_schedule_equals_torchs_over_the_rounds(schedule: str, place: Path) -> None:
    factor = head_decay(settings(place, schedule))
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = {
        "constant": torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0),
        "linear": torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, ROUNDS),
        "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, ROUNDS),
    }[schedule]
    optimiser.param_groups[0]["lr"] = 1.0
    for round_index in range(ROUNDS + 1):
        assert factor(round_index) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-9)
        optimiser.step()
        theirs.step()
    assert factor(ROUNDS + 3) == factor(ROUNDS)


def test_zeroth_order_steps_follow_the_schedule(place: Path) -> None:
    schedule = head_decay(settings(place, "linear"))
    for round_index in (0, 3, ROUNDS - 1):
        perturbed = PerturbedParameters({"x": torch.zeros(5)}, Mean(), 0, 2, 1e-2, schedule)
        perturbed.step(0, round_index, 0, torch.tensor([2.0]))
        assert perturbed.tensors["x"].abs() == pytest.approx(
            [2e-2 * (1 - round_index / ROUNDS)] * 5, rel=1e-6
        )


def test_adamw_steps_follow_the_schedule(place: Path) -> None:
    """While a gradient does not change, AdamW moves by its learning rate whatever the gradient is."""
    config = settings(place, "linear")
    site = Experiment.of(config)
    head = PieceLoader(config=config, task=site.task, num_blocks=site.num_blocks, device="cpu").head()
    trainer = ClientTrainer(head, Mean(), config.train, decay=head_decay(config))
    for round_index in range(ROUNDS):
        trainer.start_round(Done(), round_index)
        before = {name: value.detach().clone() for name, value in trainable(head).items()}
        for value in trainable(head).values():
            value.grad = torch.full_like(value, 0.5)
        trainer.step()
        moved = torch.cat([(before[n] - value.detach()).flatten() for n, value in trainable(head).items()])
        assert moved.mean() == pytest.approx(1e-2 * (1 - round_index / ROUNDS), rel=1e-4)


@pytest.mark.parametrize("name", ["fedkseed", "frozen"])
def test_methods_that_do_not_read_a_schedule_refuse_it(name: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.head_schedule"):
        Experiment.of(settings(place, "cosine", method={"name": name}))


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.head_schedule 'cosin'; did you mean 'cosine'"):
        toy.config(Path(), train={"head_schedule": "cosin"})
