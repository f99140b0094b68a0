"""LoRA dropout draws the masks of the unsplit model, whatever computes, repeats or recomputes a step.

The reference is peft's model with masks that this file draws, one sample after the other.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

import splitfl
from channel.core.rng import stream
from splitfl.adapters.dropout import StepDropout
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.methods.registry import METHODS
from splitfl.models.training_step import CurrentStep, JointStep, TrainingStep
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.methods.plain import Plain
from tests.splitfl.methods.test_stopping import Federation

RATE, ROUNDS, STEPS = 0.25, 2, 3
place = toy.place(is_base=True, rows=40)
BOTH = {side: {"rank": 2, "dropout": RATE} for side in ("head", "body")}


class Masks(nn.Module):
    """peft's dropout, with the masks of the step and the samples that the test says."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.at = name, (0, 0)
        self.ids: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for row, sample in zip(x, self.ids, strict=True):
            drawn = stream(0, "dropout", 0, *self.at, self.name, sample).random(tuple(row.shape), np.float32)
            rows.append(torch.where(torch.from_numpy(drawn) < RATE, 0.0, row) / (1 - RATE))
        return torch.stack(rows)


class MaskedPlain(Plain):
    """Plain finetuning with dropout in every LoRA."""

    def __init__(self, site: Experiment, **options: bool) -> None:
        super().__init__(site, **options)
        self.masks = []
        for name, module in self.model.named_modules():
            if isinstance(module, LoraLayer):
                self.masks.append(Masks(name.removeprefix("base_model.model.")))
                module.lora_dropout["default"] = self.masks[-1]

    def losses(self, site: Experiment) -> Iterator[float]:
        batches = site.batches(0)
        for step in range(ROUNDS * STEPS):
            batch = batches.batch(step)
            for mask in self.masks:
                mask.at, mask.ids = divmod(step, STEPS), batch.ids_B.tolist()
            yield self.step(batch)


def site_of(place: Path, name: str, clients: int = 1, **tables: dict[str, Any]) -> Experiment:
    federation = {"clients": clients, "rounds": ROUNDS, "local_steps": STEPS, **tables.pop("federation", {})}
    adapter = {"body": BOTH["body"]} if name == "frozen" else BOTH
    method = {"name": name, **tables.pop("method", {})}
    return Experiment.of(toy.config(place, method=method, adapter=adapter, federation=federation, **tables))


@pytest.mark.parametrize(
    ("name", "tables", "options"),
    [
        pytest.param("sfl-v2", {}, {}, marks=pytest.mark.slow),
        pytest.param("sfl-v2", {"method": {"checkpoint_head": True}}, {}, marks=pytest.mark.slow),
        pytest.param("sfl-v1", {}, {}, marks=pytest.mark.slow),
        ("fedlora", {"method": {"checkpoint_head": True}}, {"one_lr": True}),
        pytest.param("ushape", {"partition": {"cut": 1, "tail_blocks": 1}}, {}, marks=pytest.mark.slow),
        pytest.param("frozen", {}, {"trains_head": False}, marks=pytest.mark.slow),
    ],
)
def test_a_method_with_dropout_is_plain_finetuning_with_the_same_masks(
    name: str, tables: dict[str, Any], options: dict[str, bool], place: Path, tmp_path: Path
) -> None:
    means = {} if name == "frozen" else {"federation": {"aggregator": "mean"}}
    site = site_of(place, name, **means, **tables)
    plain, played = MaskedPlain(site, **options), play(site, tmp_path)
    if name == "frozen":  # later epochs are of other paddings
        epoch = len(site.batches(0))
        assert played.losses[:epoch] == list(plain.losses(site))[:epoch]
        return
    assert played.losses == list(plain.losses(site))
    assert plain.differs(played.trained) == []
    assert run_dry(site).ledger == played.ledger


def same(one: Played, other: Played) -> bool:
    return one.losses == other.losses and all(
        torch.equal(value, other.trained[name]) for name, value in one.trained.items()
    )


@pytest.mark.slow
def test_a_run_is_repeated_with_the_same_masks(place: Path, tmp_path: Path) -> None:
    site = site_of(place, "sfl-v2", clients=2)
    assert same(play(site, tmp_path), play(site, tmp_path))


def test_every_step_and_sample_has_masks_of_its_own() -> None:
    current = CurrentStep()
    dropout = StepDropout("one", RATE, current)
    x, drawn = torch.ones(1, 5, 7), []
    for client, at, step, sample in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
        current.value = TrainingStep(seed=0, client=client, round=at, step=step, ids=[sample])
        drawn.append(dropout(x))
        assert torch.equal(dropout(x[:, :3]), drawn[-1][:, :3]), "whatever the padding"
    assert all(not torch.equal(one, other) for at, one in enumerate(drawn) for other in drawn[:at])
    steps = [TrainingStep(seed=0, client=0, round=0, step=0, ids=[at]) for at in (0, 1)]
    current.value = JointStep(steps=steps)
    assert torch.equal(dropout(x.repeat(2, 1, 1)), torch.cat([drawn[0], drawn[-1]])), "in one batch"
    current.value = None
    assert dropout(x) is x


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sfl-v2", "cse-fsl"])
def test_recomputed_blocks_have_the_same_masks_and_micro_batches_those_of_their_samples(
    name: str, place: Path, tmp_path: Path
) -> None:
    plain = play(site_of(place, name), tmp_path)
    assert same(play(site_of(place, name, method={"checkpoint_head": True}), tmp_path), plain)
    parts = play(site_of(place, name, method={"micro_batch": 3}), tmp_path)
    for key, value in parts.trained.items():
        torch.testing.assert_close(value, plain.trained[key], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, spec in METHODS.items() if spec.dropout])
def test_a_restored_run_draws_the_same_masks(name: str, place: Path, tmp_path: Path) -> None:
    site = site_of(place, name, clients=2)
    unbroken, anew = Federation(site), Federation(site)
    unbroken.play(0)
    unbroken.save(tmp_path)
    anew.restore(tmp_path)
    anew.position = unbroken.position
    assert anew.play(1) == unbroken.play(1)


def test_evaluation_has_no_masks_and_the_adapter_carries_the_rate(place: Path, tmp_path: Path) -> None:
    adapter = {side: {**own, "dropout": 0.999} for side, own in BOTH.items()}
    run = splitfl.run(toy.table(place, adapter=adapter, federation={"rounds": 1}), out=tmp_path)
    exported = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert exported["lora_dropout"] == 0.999
    found = measure_adapter(Experiment.of(load(run.folder / "config.json")), run.folder / "adapter")
    assert found["eval_loss"] == run.metrics["eval_loss"][-1]


@pytest.mark.parametrize("name", [name for name, spec in METHODS.items() if not spec.dropout])
def test_a_method_that_evaluates_or_replays_a_step_several_times_refuses_dropout(
    name: str, place: Path
) -> None:
    side = METHODS[name].holds[0]
    said = (
        f"adapter.{side}.dropout must be 0.0 with the method {name!r}, got {RATE}: masks are drawn for steps"
    )
    tables: dict[str, Any] = {"adapter": {side: {"dropout": RATE}}}
    with pytest.raises(ConfigError, match=re.escape(said)):
        Experiment.of(toy.config(place, method={"name": name}, **tables))


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        ({"head": {"dropout": 1.0}}, "adapter dropout must be below 1.0, got 1.0"),
        ({"head": {"dropout": -0.1}}, "adapter dropout must be at least 0.0, got -0.1"),
        ({"head": {"dropout": 0.1}}, "adapter.head.dropout must be that of adapter.body, 0.0"),
        ({"head": {"kind": "dora", "dropout": 0.1}}, "unknown key 'adapter.head.dropout'"),
    ],
)
def test_a_rate_that_cannot_be_had_is_refused(adapter: dict[str, Any], reason: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)):
        Experiment.of(toy.config(place, adapter=adapter))
