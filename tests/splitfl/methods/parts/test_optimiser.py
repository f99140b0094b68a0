"""Accumulation, clipping, warm-up and schedules on both sides, beside torch's own in a plain loop."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.config import RunConfig
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.methods.losing import Losing
from tests.splitfl.methods.plain import Plain

ROUNDS, STEPS = 3, 4
CLIP = 0.02
CASES: dict[str, dict[str, Any]] = {
    "clipping": {"clip_grad_norm": CLIP},
    "warm-up": {"warmup_steps": 7},
    "schedules": {"head_schedule": "cosine", "body_schedule": "linear"},
    "accumulation": {"accumulate": 2},
    "groups that end with their round": {"accumulate": 3},
    "all": {
        "accumulate": 3,
        "clip_grad_norm": CLIP,
        "warmup_steps": 4,
        "head_schedule": "linear",
        "body_schedule": "cosine",
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("optimiser")
    toy.model(folder / "model", is_base=True)
    toy.data(folder / "data.tsv", rows=40)
    return folder


def settings(place: Path, train: dict[str, Any], clients: int = 1, **tables: Any) -> RunConfig:
    method = tables.get("method", {"name": "sfl-v2"})["name"]
    federation = {"clients": clients, "rounds": ROUNDS, "local_steps": STEPS}
    federation |= {"aggregator": "mean"} if method in ("sfl-v2", "fedlora") else {}
    return toy.config(place, federation=federation, train=train, **tables)


class Loop:
    """A plain loop over batches in groups, with torch's clipping and torch's scheduler."""

    def __init__(self, site: Experiment, *, one_side: bool = False) -> None:
        train = site.config.train
        self.train = train
        self.plain = Plain(site, one_lr=one_side)
        self.sides = [self.plain.parameters] if one_side else [self.plain.head, self.plain.body]
        self.norms: list[float] = []
        groups = [group for group, _ in self.groups()]
        head = self._factor(train.head_schedule, groups)
        body = head if one_side else self._factor(train.body_schedule, groups)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.plain.optimiser, [body, head])

    def groups(self) -> list[tuple[int, list[int]]]:
        """Rounds, and the batches of each optimiser step."""
        size = self.train.accumulate
        return [
            (at, list(range(at * STEPS + first, at * STEPS + min(first + size, STEPS))))
            for at in range(ROUNDS)
            for first in range(0, STEPS, size)
        ]

    def _factor(self, name: str, rounds: list[int]) -> Any:
        falls = {
            "constant": lambda at: 1.0,
            "linear": lambda at: 1.0 - at / ROUNDS,
            "cosine": lambda at: (1.0 + math.cos(math.pi * at / ROUNDS)) / 2,
        }[name]
        warmup = self.train.warmup_steps or 1
        return lambda step: falls(rounds[step]) * min(1.0, (step + 1) / warmup) if step < len(rounds) else 0.0

    def finish(self, count: int) -> None:
        """An optimiser step from the sum of the gradients of so many batches."""
        for value in self.plain.parameters.values():
            if value.grad is not None:
                value.grad /= count
        for side in self.sides if self.train.clip_grad_norm else []:
            norm = torch.nn.utils.clip_grad_norm_(side.values(), self.train.clip_grad_norm)
            self.norms.append(norm.item())
        self.plain.optimiser.step()
        self.plain.optimiser.zero_grad()
        self.schedule.step()

    def run(self, site: Experiment) -> list[float]:
        """The losses of all batches."""
        losses, batches = [], site.batches(0)
        for _, group in self.groups():
            for index in group:
                loss = self.plain.loss(batches.batch(index))
                loss.backward()
                losses.append(loss.item())
            self.finish(len(group))
        return losses


@pytest.mark.slow
@pytest.mark.parametrize("train", CASES.values(), ids=CASES.keys())
def test_both_sides_optimise_as_a_plain_loop_does(train: dict[str, Any], place: Path, tmp_path: Path) -> None:
    site = Experiment.of(settings(place, train))
    played, loop = play(site, tmp_path), Loop(site)
    assert played.losses == loop.run(site)
    assert played.trained.keys() == loop.plain.parameters.keys()
    assert loop.plain.differs(played.trained) == []
    assert bool(loop.norms) == any(norm > CLIP for norm in loop.norms)


@pytest.mark.slow
def test_a_whole_model_on_the_client_clips_one_norm(place: Path, tmp_path: Path) -> None:
    train = {key: value for key, value in CASES["all"].items() if key != "body_schedule"}
    site = Experiment.of(settings(place, train, method={"name": "fedlora"}))
    played, loop = play(site, tmp_path), Loop(site, one_side=True)
    assert played.losses == loop.run(site)
    assert loop.plain.differs(played.trained) == []


def test_two_batches_are_one_of_twice_the_size(place: Path, tmp_path: Path) -> None:
    site = Experiment.of(settings(place, {"accumulate": 2, "batch_size": 4}))
    halves = [site.batches(0).batch(index) for index in range(2)]
    loop = Loop(site)
    for batch in halves:
        loop.plain.loss(batch).backward()
    mean = {name: value.grad / 2 for name, value in loop.plain.parameters.items() if value.grad is not None}
    loop.plain.optimiser.zero_grad()
    whole = Experiment.of(settings(place, {"batch_size": 8})).batches(0).batch(0)
    assert whole.ids_B.tolist() == [one for half in halves for one in half.ids_B.tolist()]
    loop.plain.loss(whole).backward()
    for name, value in mean.items():
        torch.testing.assert_close(value, loop.plain.parameters[name].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_steps_in_flight_accumulate_from_the_states_that_they_began_with(place: Path, tmp_path: Path) -> None:
    train = {"accumulate": 3, "clip_grad_norm": CLIP, "warmup_steps": 4}
    site = Experiment.of(settings(place, train, method={"name": "sfl-v2", "in_flight": 2}))
    played, loop, batches, losses = play(site, tmp_path), Loop(site), site.batches(0), []
    before: dict[str, torch.Tensor] = {}
    for _, group in loop.groups():
        for index in group:
            now = {name: value.detach().clone() for name, value in loop.plain.body.items()}
            if index % STEPS:
                _put(loop.plain.body, before)
            loss = loop.plain.loss(batches.batch(index))
            loss.backward()
            losses.append(loss.item())
            _put(loop.plain.body, now)
            before = now
        loop.finish(len(group))
    assert played.losses == losses
    assert loop.plain.differs(played.trained) == []


def _put(parameters: dict[str, torch.nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def test_a_lost_batch_is_not_counted(place: Path, tmp_path: Path) -> None:
    """Of four batches the second is lost on its way up: a group of three is the other ones."""
    site = Experiment.of(settings(place, {"accumulate": 3}))
    site = dataclasses.replace(
        site, config=dataclasses.replace(site.config, federation=_one_round(site.config))
    )
    played, loop = play(site, tmp_path, Losing(frozenset({(0, "up", 2)}))), Loop(site)
    for index in (0, 2, 3):
        loop.plain.loss(site.batches(0).batch(index)).backward()
    loop.finish(3)
    assert loop.plain.differs(played.trained) == []


def _one_round(config: RunConfig) -> Any:
    return dataclasses.replace(config.federation, rounds=1)


@pytest.mark.slow
def test_the_sum_of_gradients_is_counted_in_a_clients_memory(place: Path) -> None:
    for name, times in (("sfl-v2", 2), ("hybrid", 1)):
        counted = [
            run_dry(Experiment.of(settings(place, {"accumulate": k}, method={"name": name})))
            .clients[0]
            .gradient_bytes
            for k in (1, 2)
        ]
        assert counted[0] > 0 or name == "hybrid"
        assert counted[1] == times * counted[0]


@pytest.mark.slow
def test_a_zeroth_order_body_follows_its_schedule(place: Path, tmp_path: Path) -> None:
    method = {"name": "mu-splitfed"}
    constant, linear = (
        play(Experiment.of(settings(place, {"body_schedule": one}, method=method)), tmp_path)
        for one in ("constant", "linear")
    )
    assert linear.losses[:STEPS] == constant.losses[:STEPS]
    assert linear.losses[STEPS + 1 :] != constant.losses[STEPS + 1 :]


def test_a_group_longer_than_a_clients_round_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.accumulate must be at most the 4 local steps .*; got 5"):
        Experiment.of(settings(place, {"accumulate": 5}))


def test_a_group_longer_than_a_pass_over_the_data_is_refused(place: Path) -> None:
    config = toy.config(place, federation={"local_steps": 0}, train={"accumulate": 1000})
    with pytest.raises(ConfigError, match=r"train\.accumulate must be at most the \d+ local steps"):
        Experiment.of(config).client_method(0)


@pytest.mark.parametrize("key", ["accumulate", "warmup_steps", "clip_grad_norm"])
def test_a_method_without_gradients_says_why_it_takes_no_optimisers_settings(key: str, place: Path) -> None:
    why = rf"'decomfl' does not read train\.{key}.*'decomfl' has no gradients, and no optimiser"
    with pytest.raises(ConfigError, match=why):
        Experiment.of(settings(place, {key: 2}, method={"name": "decomfl"}))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("accumulate", 0, r"at least 1, got 0"),
        ("warmup_steps", -1, r"at least 0, got -1"),
        ("clip_grad_norm", -0.5, r"at least 0\.0, got -0\.5"),
        ("body_schedule", "cosin", r"did you mean 'cosine'"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(key: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"train\.{key}.*{says}"):
        toy.config(Path(), train={key: value})
