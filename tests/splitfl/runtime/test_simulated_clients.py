"""Runs in one process in which few of many clients take part in a round."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.core.errors import DataError
from splitfl.runtime.run import run_in_one_process
from splitfl.runtime.screen import Silent
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import play

place = toy.place(is_base=True, rows=60)

ROUNDS = 5


class Interrupted(Exception):
    """The run was stopped by the test."""


class Interrupting(Silent):
    """Stops a run at the end of a round, before it is saved."""

    def __init__(self, round_index: int) -> None:
        self._round = round_index

    def measured(self, row: Mapping[str, Any]) -> None:
        if row["round"] == self._round:
            raise Interrupted


def config(place: Path, scenario: str = "", clients: int = 6, **limits: Any) -> RunConfig:
    """Two of six clients in each round, and clients that come and go."""
    limits = {"clients_per_round": 2, "leave_rate": 0.2, "return_rate": 0.5, **limits}
    return toy.config(
        place,
        federation={"clients": clients, "rounds": ROUNDS, "local_steps": 1, "partition": "iid"},
        fault_tolerance=limits,
        **({"link": {"scenario": scenario}} if scenario else {}),
    )


def finished(config: RunConfig, folder: Path, screen: Silent | None = None) -> list[dict[str, Any]]:
    """The events of a run in this folder, without wall times."""
    folder.mkdir(exist_ok=True)
    run_in_one_process(
        Experiment.of(config), lambda: folder, screen or Silent(), controller_for=controller_for
    )
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "wall_s"} for row in rows]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("scenario", ["", pytest.param("urban-micro", marks=pytest.mark.slow)])
def test_selected_clients_have_the_bits_of_clients_with_modules_of_their_own(
    scenario: str, place: Path, tmp_path: Path
) -> None:
    settings = config(place, scenario)
    events = [row for row in finished(settings, tmp_path / "shared") if row["event"] != "round"]
    assert events == play(Experiment.of(settings), tmp_path).events
    assert {row["client"] for row in events if row["event"] == "step"} <= set(range(6))
    assert sum(row["event"] == "step" for row in events) == 2 * ROUNDS


@pytest.mark.parametrize("scenario", ["", pytest.param("urban-micro", marks=pytest.mark.slow)])
def test_an_interrupted_run_of_selected_clients_continues_bit_for_bit(
    scenario: str, place: Path, tmp_path: Path
) -> None:
    settings = config(place, scenario)
    whole = finished(settings, tmp_path / "whole")
    with pytest.raises(Interrupted):
        finished(settings, tmp_path / "resumed", Interrupting(3))
    assert finished(settings, tmp_path / "resumed") == whole
    for name, value in adapter(tmp_path / "whole").items():
        assert torch.equal(value, adapter(tmp_path / "resumed")[name]), name


def test_only_clients_that_took_part_save_their_state(place: Path, tmp_path: Path) -> None:
    settings = config(place, leave_rate=0.0, return_rate=1.0)
    events = finished(settings, tmp_path)
    taking_part = {row["client"] for row in events if row["event"] == "step" and row["round"] < ROUNDS - 1}
    saved = {int(one.name.partition("-")[2]) for one in (tmp_path / "checkpoint").glob("client-*")}
    assert saved == taking_part


def test_a_run_without_checkpoints_saves_no_client(place: Path, tmp_path: Path) -> None:
    finished(config(place, checkpoint_every=0), tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_the_data_of_clients_that_are_not_selected_are_checked_before_the_run(
    place: Path, tmp_path: Path
) -> None:
    experiment = Experiment.of(config(place))
    shares = (*experiment.shares[:5], ())
    emptied = Experiment(
        config=experiment.config, task=experiment.task, shares=shares, num_blocks=experiment.num_blocks
    )
    with pytest.raises(DataError, match="client 5 holds no samples"):
        run_in_one_process(emptied, lambda: tmp_path, Silent(), controller_for=controller_for)


@pytest.mark.slow
def test_a_thousand_clients_of_different_cuts_run_in_one_process(tmp_path: Path) -> None:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv", rows=1200)
    cuts = [1 + client % 3 for client in range(1000)]
    settings = toy.config(
        tmp_path,
        adapter={"head": {"rank": 2}, "body": {"rank": 2}},
        partition={"cut": 1},
        federation={
            "clients": 1000,
            "rounds": 3,
            "local_steps": 1,
            "partition": "iid",
            "client_cuts": cuts,
            "client_flops": [1e9 * (1 + client % 5) for client in range(1000)],
        },
        fault_tolerance={"clients_per_round": 50, "leave_rate": 0.1, "return_rate": 0.5},
    )
    events = finished(settings, tmp_path / "run")
    by_round = [
        {row["client"] for row in events if row["event"] == "step" and row["round"] == at} for at in range(3)
    ]
    assert [len(clients) for clients in by_round] == [50, 50, 50]
