"""With one client, an ideal link and plain means, a method is stock finetuning of the whole model."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.config import RunConfig
from splitfl.setup.experiment import Experiment
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.methods.plain import Plain

ROUNDS, STEPS = 3, 4
CASES = [
    ("bert", "sequence-classification", True),
    pytest.param(("gpt2", "sequence-classification", False), marks=pytest.mark.slow),
    pytest.param(("llama", "causal-lm", False), marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]} {case[1]}")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_type, kind, is_base = request.param
    folder = tmp_path_factory.mktemp(model_type)
    toy.model(folder / "model", model_type, kind, is_base=is_base)
    toy.data(folder / "data.tsv", rows=40, labelled=kind != "causal-lm")
    (folder / "task").write_text("lm" if kind == "causal-lm" else "classification")
    return folder


def alone(place: Path, **tables: dict[str, Any]) -> RunConfig:
    """One client, whose adapters are averaged with nobody's."""
    federation: dict[str, Any] = {"clients": 1, "rounds": ROUNDS, "local_steps": STEPS}
    if tables.get("method") != {"name": "frozen"}:
        federation["aggregator"] = "mean"
    task = {"name": (place / "task").read_text()}
    return toy.config(place, task=task, federation=federation, **tables)


def test_split_finetuning_is_plain_finetuning(place: Path, tmp_path: Path) -> None:
    site = Experiment.of(alone(place))
    batches = [site.batches(0).batch(step) for step in range(ROUNDS * STEPS)]
    assert any(not batch.inputs["attention_mask"].all() for batch in batches)
    plain = Plain(site)
    played = play(site, tmp_path)
    assert played.losses == [plain.step(batch) for batch in batches]
    assert played.trained.keys() == plain.parameters.keys()
    assert plain.differs(played.trained) == []


@pytest.mark.parametrize("kind", quick(["lora", "dora"], "dora"))
def test_split_finetuning_with_dora_and_rslora_is_that_of_peft(
    kind: str, place: Path, tmp_path: Path
) -> None:
    own = {"kind": kind, "rank": 4, "alpha": 8.0, "use_rslora": True}
    site = Experiment.of(alone(place, adapter={"head": own, "body": own}))
    plain = Plain(site)
    played = play(site, tmp_path)
    batches = (site.batches(0).batch(step) for step in range(ROUNDS * STEPS))
    assert played.losses == [plain.step(batch) for batch in batches]
    assert plain.differs(played.trained) == []


def test_federated_finetuning_by_one_client_is_plain_finetuning(place: Path, tmp_path: Path) -> None:
    site = Experiment.of(alone(place, method={"name": "fedlora"}))
    plain, batches = Plain(site, one_lr=True), site.batches(0)
    played = play(site, tmp_path)
    assert played.losses == [plain.step(batches.batch(step)) for step in range(ROUNDS * STEPS)]
    assert played.trained.keys() == plain.parameters.keys()
    assert plain.differs(played.trained) == []


def test_finetuning_with_both_ends_on_the_client_is_plain_finetuning(place: Path, tmp_path: Path) -> None:
    site = Experiment.of(alone(place, method={"name": "ushape"}, partition={"cut": 1, "tail_blocks": 1}))
    plain, batches = Plain(site), site.batches(0)
    played = play(site, tmp_path)
    assert played.losses == [plain.step(batches.batch(step)) for step in range(ROUNDS * STEPS)]
    assert played.trained.keys() == plain.parameters.keys()
    assert plain.differs(played.trained) == []


def test_sfl_v1_with_one_client_equals_sfl_v2(place: Path, tmp_path: Path) -> None:
    own, shared = (
        play(Experiment.of(alone(place, method={"name": name})), tmp_path) for name in ("sfl-v1", "sfl-v2")
    )
    assert own.losses == shared.losses
    assert own.trained.keys() == shared.trained.keys()
    assert all(torch.equal(value, shared.trained[name]) for name, value in own.trained.items())


@pytest.mark.parametrize("name", ["cse-fsl", "fsl-sage"])
def test_a_step_with_an_auxiliary_equal_to_the_body_is_a_plain_step(
    name: str, place: Path, tmp_path: Path
) -> None:
    """With nothing learnt yet the auxiliary is the body, so its gradient is the true one."""
    site = Experiment.of(alone(place, method={"name": name, "auxiliary_blocks": 2}, train={"batch_size": 32}))
    site = dataclasses.replace(site, config=with_steps(site.config, rounds=1, local_steps=1))
    plain, batch = Plain(site), site.batches(0).batch(0)
    played = play(site, tmp_path)
    assert played.losses == [plain.step(batch)]
    assert played.trained.keys() == plain.parameters.keys()
    assert plain.differs(played.trained) == []


def with_steps(config: RunConfig, **changes: int) -> RunConfig:
    return dataclasses.replace(config, federation=dataclasses.replace(config.federation, **changes))


def test_a_frozen_head_equals_plain_finetuning_of_the_body(place: Path, tmp_path: Path) -> None:
    site = Experiment.of(alone(place, method={"name": "frozen"}))
    plain, batches = Plain(site, trains_head=False), site.batches(0)
    played = play(site, tmp_path)
    losses = [plain.step(batches.batch(step)) for step in range(ROUNDS * STEPS)]
    epoch = len(batches)
    assert 0 < epoch < ROUNDS * STEPS
    assert played.losses[:epoch] == losses[:epoch]
    # Later epochs mix samples that came in different batches, padded to a width of their own:
    # the same sums of the same numbers and zeros, grouped otherwise.
    torch.testing.assert_close(torch.tensor(played.losses), torch.tensor(losses), rtol=1e-5, atol=1e-6)
    head = {name: value for name, value in played.trained.items() if name in plain.head}
    assert plain.differs(head) == []
    for name, value in played.trained.items():
        torch.testing.assert_close(value, plain.parameters[name].detach(), rtol=1e-3, atol=2e-4)


def test_two_steps_in_flight_use_parameters_one_step_old(place: Path, tmp_path: Path) -> None:
    site = Experiment.of(alone(place, method={"in_flight": 2}))
    plain, batches = Plain(site), site.batches(0)
    played = play(site, tmp_path)
    losses = []
    before: dict[str, torch.Tensor] = {}
    for step in range(ROUNDS * STEPS):
        now = {name: value.detach().clone() for name, value in plain.body.items()}
        if step % STEPS:  # the ends of a round are waited for, so that its first step lags behind nothing
            put(plain.body, before)
        loss = plain.loss(batches.batch(step))
        loss.backward()
        put(plain.body, now)
        plain.optimiser.step()
        plain.optimiser.zero_grad()
        before = now
        losses.append(loss.item())
    assert played.losses == losses
    assert plain.differs(played.trained) == []


def put(parameters: dict[str, torch.nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def test_frozen_activations_are_sent_in_one_epoch_only(place: Path, tmp_path: Path) -> None:
    site = Experiment.of(alone(place, method={"name": "frozen"}))
    played = play(site, tmp_path)
    ups = [row for row in played.rows("transfer") if row["kind"] == "Activation"]
    epoch = len(site.batches(0))
    biggest_name = max(row["payload_bytes"] for row in ups[epoch:])
    assert biggest_name < min(row["payload_bytes"] for row in ups[:epoch])
    assert all(math.isfinite(loss) for loss in played.losses)
