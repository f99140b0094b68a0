"""`splitfl join --leave-after --rounds-away`: a client takes leave for some rounds, and goes on caught up."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from tests.command import Command, Start, splitfl
from tests.splitfl import toy
from tests.testbed.waiting import until

ROUNDS = 5
AWAY = ("--leave-after", "1", "--rounds-away", "2")
TOLD = {"sfl-v2": {"Adapter"}, "decomfl": {"Scalars"}}
"""By what a client catches up: one that missed two rounds of DeComFL lacks fewer scalars than weights."""


place = toy.place(is_base=True)


def served(start: Start, place: Path, folder: Path, method: str, **tables: Any) -> tuple[Command, str]:
    """A server over gRPC, and its address."""
    federation = {"clients": 2, "rounds": ROUNDS, "local_steps": 2}
    table = toy.table(
        place, method={"name": method}, federation=federation, transport={"name": "grpc"}, **tables
    )
    (folder / "toy.json").write_text(json.dumps(table))
    words = ("serve", folder / "toy.json", "--host", "127.0.0.1", "--out", folder / "runs")
    server = splitfl(start, folder, *words)
    (where,) = until(lambda: list(folder.glob("runs/*/server.json")), 60.0)
    return server, f"127.0.0.1:{json.loads(where.read_text())['port']}"


def story(folder: Path) -> list[dict[str, Any]]:
    (metrics,) = folder.glob("runs/*/metrics.jsonl")
    return [json.loads(line) for line in metrics.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["decomfl", pytest.param("sfl-v2", marks=pytest.mark.long)])
def test_a_client_leaves_for_some_rounds_and_is_caught_up(
    start: Start, place: Path, tmp_path: Path, method: str
) -> None:
    server, address = served(start, place, tmp_path, method)
    joining = ("join", address, "--transport", "grpc", "--client")
    clients = [
        splitfl(start, tmp_path, *joining, "0"),
        splitfl(start, tmp_path, *joining, "1", *AWAY),
    ]
    assert server.code() == 0, server.complained()
    assert [one.code() for one in clients] == [0, 0], clients[1].complained()
    rows = story(tmp_path)
    rounds = {row["round"] for row in rows if row["event"] == "step" and row["client"] == 1}
    assert rounds == {0, 3, 4}
    assert {row["round"] for row in rows if row["event"] == "step" and row["client"] == 0} == set(
        range(ROUNDS)
    )
    told = [row for row in rows if row["event"] == "transfer" and row["direction"] == "down"]
    caught_up = {row["kind"] for row in told if row["client"] == 1 and row["round"] == 3}
    assert TOLD[method] <= caught_up
    assert not any(row["event"] == "lost" for row in rows)


@pytest.mark.parametrize("word", AWAY[::2])
def test_start_and_duration_are_given_together(word: str) -> None:
    result = CliRunner().invoke(main, ["join", "127.0.0.1:1", "--client", "0", word, "1"])
    assert result.exit_code == 2
    assert result.stderr == "Error: --leave-after and --rounds-away must be given together\n"


@pytest.mark.slow
def test_a_leave_that_the_run_does_not_have_is_refused_before_anything_is_loaded(
    start: Start, place: Path, tmp_path: Path
) -> None:
    _, address = served(start, place, tmp_path, "sfl-v2")
    joining = ("join", address, "--transport", "grpc", "--client", "0", "--rounds-away", "1")
    late = splitfl(start, tmp_path, *joining, "--leave-after", str(ROUNDS))
    assert late.code() == 2
    wanted = "Error: --leave-after must lie in 0..4, the rounds of the run, got 5"
    assert late.complained().splitlines()[-1] == wanted
