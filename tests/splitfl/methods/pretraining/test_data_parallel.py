"""Data parallelism beside one process with stock transformers, peft and torch."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import WeightGradients
from splitfl.data.batch import Batch
from splitfl.methods.parts.method import Turn
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.methods.losing import Losing
from tests.splitfl.methods.plain import Plain

ROUNDS, STEPS = 3, 4
TRAIN = {
    "head_lr": 1e-3,
    "head_schedule": "cosine",
    "warmup_steps": 3,
    "weight_decay": 0.1,
    "clip_grad_norm": 1.0,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of one length, so that batches can be put together."""
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model", is_base=True)
    lines = [f"{' '.join(toy.WORDS[i : i + 4])}\t{toy.LABELS[i % 2]}\tgroup-{i % 3}" for i in range(12)]
    (folder / "data.tsv").write_text("\n".join(["text\tlabel\tgroup", *lines * 6]) + "\n")
    return folder


def site(place: Path, clients: int = 1, **tables: Any) -> Experiment:
    federation = {"clients": clients, "rounds": ROUNDS, "local_steps": STEPS, "partition": "iid"}
    federation |= {"aggregator": "mean", **tables.pop("federation", {})}
    train = {**TRAIN, "batch_size": 6}
    return Experiment.of(
        toy.config(place, method={"name": "dp"}, federation=federation, train=train, **tables)
    )


class OneProcess:
    """A plain loop with the optimiser of a language model's pretraining."""

    def __init__(self, one: Experiment) -> None:
        self.plain = Plain(one)
        values = self.plain.parameters.values()
        groups = [
            {"params": [value for value in values if value.ndim > 1], "weight_decay": 0.1},
            {"params": [value for value in values if value.ndim == 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW([one for one in groups if one["params"]], lr=1e-3, betas=(0.9, 0.95))
        self.plain.optimiser = optimiser

        def factor(step: int) -> float:
            fall = (1.0 + math.cos(math.pi * step / (ROUNDS * STEPS))) / 2
            return min(1.0, (step + 1) / 3) * (1.0 - 0.9 * (1.0 - fall))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)

    def step(self, batches: Sequence[Batch]) -> Any:
        inputs = {name: torch.cat([one.inputs[name] for one in batches]) for name in batches[0].inputs}
        loss = self.plain.model(**inputs, labels=torch.cat([one.labels for one in batches])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.plain.parameters.values(), 1.0)
        self.plain.optimiser.step()
        self.plain.optimiser.zero_grad()
        self.schedule.step()
        return loss.item()


def client_tensors(run: Played) -> list[dict[str, Tensor]]:
    return [node._method._trainer.own for node in run.nodes]  # type: ignore[attr-defined]


def assert_all_hold(run: Played) -> None:
    """Every client has the server's tensors."""
    for own in client_tensors(run):
        assert all(torch.equal(own[name], value) for name, value in run.trained.items())


def test_one_client_is_one_process_to_the_last_bit(place: Path, tmp_path: Path) -> None:
    one = site(place)
    plain, batches, run = OneProcess(one), one.batches(0), play(one, tmp_path)
    assert run.losses == [plain.step([batches.batch(step)]) for step in range(ROUNDS * STEPS)]
    assert plain.plain.differs(run.trained) == []
    assert plain.plain.differs(client_tensors(run)[0]) == []


@pytest.mark.slow
@pytest.mark.parametrize("clients", [2, 3])
def test_clients_are_one_process_with_the_whole_batch(clients: int, place: Path, tmp_path: Path) -> None:
    one = site(place, clients)
    plain, batches, run = OneProcess(one), [one.batches(at) for at in range(clients)], play(one, tmp_path)
    whole = [plain.step([own.batch(step) for own in batches]) for step in range(ROUNDS * STEPS)]
    losses: dict[tuple[int, int], list[float]] = {}
    for row in run.rows("step"):
        losses.setdefault((row["round"], row["step"]), []).append(row["loss"])
    together = [sum(own) / clients for _, own in sorted(losses.items())]
    torch.testing.assert_close(together, whole, rtol=0.0, atol=1e-6)
    for name, value in run.trained.items():
        wanted = plain.plain.parameters[name].detach()
        torch.testing.assert_close(value, wanted, rtol=0.0, atol=ROUNDS * STEPS * 1e-6)
    assert all(
        torch.equal(own[name], value) for own in client_tensors(run) for name, value in run.trained.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_client_that_missed_a_step_has_the_same_tensors_after_the_next(
    direction: str, place: Path, tmp_path: Path
) -> None:
    one = site(place, 2)
    run = play(one, tmp_path, Losing(frozenset({(1, direction, 2)})))
    replies = [
        reply for client, _, _, reply in run.said if client == 1 and isinstance(reply, WeightGradients)
    ]
    assert [bool(reply.state) for reply in replies] == [False, True, *[False] * (ROUNDS * STEPS - 3)]
    assert replies[-1].version == ROUNDS * STEPS
    assert all(
        torch.equal(own[name], value) for own in client_tensors(run) for name, value in run.trained.items()
    )


@pytest.mark.slow
def test_a_gradient_of_older_tensors_is_not_used(place: Path) -> None:
    """A server that got it alone takes no step, and sends tensors and moments."""
    server = site(place, 2).server_method()
    gradients = {name: torch.ones_like(value) for name, value in server.trained().items()}
    message = WeightGradients(version=0, gradients=gradients, labels=1, samples=1, losses=(1.0,))
    turns = [Turn(client=0, round=0, lap=lap, position=1 + lap) for lap in (1, 2)]
    first = server.compute(turns[0], message)
    server.commit(turns[0], first)
    before = server.trained()
    second = server.compute(turns[1], message)
    server.commit(turns[1], second)
    assert isinstance(second.reply, WeightGradients)
    assert (second.reply.version, second.reply.gradients) == (1, {})
    assert all(torch.equal(second.reply.state[f"value.{name}"], value) for name, value in before.items())
    assert all(torch.equal(server.trained()[name], value) for name, value in before.items())


def test_gradients_of_other_tensors_are_refused(place: Path) -> None:
    server = site(place).server_method()
    turn = Turn(client=0, round=0, lap=1, position=1)
    for name, reason in (
        ("x", r"client 0 sent a gradient \[3\] of 'x', which is not trained"),
        ("classifier.bias", r"client 0 sent a gradient \[3\] of 'classifier.bias', which has \[2\]"),
    ):
        with pytest.raises(WireError, match=reason):
            server.compute(turn, WeightGradients(version=0, gradients={name: torch.zeros(3)}, labels=1))


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"federation": {"local_steps": 0}}, "local_steps must be at least 1 with the method 'dp'"),
        ({"federation": {"client_steps": [1, 2]}}, r"client_steps must be \[\] with the method 'dp'"),
        ({"federation": {"schedule": "buffered"}}, "takes each step with the gradients of all clients"),
        ({"codec": {"adapter_up": "int8"}}, "'dp' does not read codec.adapter_up"),
    ],
)
def test_settings_that_data_parallelism_does_not_have_are_refused(
    tables: dict[str, Any], reason: str, place: Path
) -> None:
    with pytest.raises(ConfigError, match=reason):
        site(place, 2, **tables)
