"""A run that lost clients is, to the last bit, the in-process run with the same absences."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.client.client import ClientNode
from splitfl.client.loop import run_client
from splitfl.config import RunConfig
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import PeerLost
from splitfl.core.messages import Leave
from splitfl.federation.selection import Selection
from splitfl.runtime.simulate import run_inproc
from splitfl.server.absences import Schedule
from splitfl.server.run import Run
from splitfl.server.session_router import SessionRouter
from splitfl.server.time_limits import Limits
from splitfl.setup.experiment import Experiment
from splitfl.wire.frame import Frame
from tests.splitfl import toy
from tests.splitfl.server.test_fault_tolerance import Silent, Wire, nodes_of, story

CLIENTS, ROUNDS = 3, 6

Trained = dict[str, torch.Tensor]


place = toy.place(is_base=True, rows=60)


def site_of(place: Path, method: str = "sfl-v2", server_batch: int = 1, **fault_tolerance: Any) -> Experiment:
    return Experiment.of(
        toy.config(
            place,
            method={"name": method, "server_batch": server_batch},
            federation={"clients": CLIENTS, "rounds": ROUNDS, "local_steps": 2},
            fault_tolerance={"on_loss": "continue", **fault_tolerance},
        )
    )


class Slow(Wire):
    """Waits, once, before it sends its message of this number, until it is told to go on."""

    def __init__(self, board: SessionRouter, number: int) -> None:
        super().__init__(board)
        self.number, self.stopped, self.go = number, threading.Event(), threading.Event()

    def request(self, frame: bytes) -> bytes:
        if self.number == 0:
            self.stopped.set()
            assert self.go.wait(60)
        self.number -= 1
        return super().request(frame)


class Echo(Wire):
    """In one round, what begins it comes twice: as of a process before, and from the one that is there."""

    def __init__(self, board: SessionRouter, round_index: int) -> None:
        super().__init__(board)
        self._round = round_index

    def request(self, frame: bytes) -> bytes:
        envelope = Frame(frame).envelope
        if (envelope.round, envelope.lap) == (self._round, 0):
            super().request(frame)
        return super().request(frame)


class Client(threading.Thread):
    """A client's life on a wire."""

    def __init__(
        self, node: ClientNode, wire: Wire, config: RunConfig, leaves: dict[int, int] | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.args = node, wire, config, leaves
        self.failure: Exception | None = None
        self.start()

    def run(self) -> None:
        node, wire, config, leaves = self.args
        takes_part = Selection.of(config).takes_part
        try:
            run_client(
                node,
                wire,
                config.federation.rounds,
                Leave,
                lambda round_index, message: None,
                lambda round_index: takes_part(node.client, round_index),
                leaves,
            )
        except Exception as error:
            self.failure = error


def end(clients: list[Client]) -> None:
    for client in clients:
        client.join(60)
        assert not client.is_alive()
        assert client.failure is None


def replay(site: Experiment, folder: Path, rows: list[dict[str, Any]]) -> Trained:
    folder.mkdir()
    with Run(site, folder, Silent()) as run:
        run_inproc(site.config, nodes_of(site, folder), run.server_loop, schedule=Schedule.read(rows))
        return run.trained()


def assert_is_replayed(site: Experiment, tmp_path: Path, trained: Trained) -> list[dict[str, Any]]:
    rows = story(tmp_path / "threads")
    again = replay(site, tmp_path / "replay", rows)
    assert all(torch.equal(again[name], value) for name, value in trained.items())
    assert story(tmp_path / "replay") == rows
    return rows


def play_with_kills(site: Experiment, folder: Path, chance: random.Random) -> Trained:
    """Every client but the first is cut at random, told of as lost, and comes back with its shelf alone."""
    folder.mkdir()
    board = SessionRouter()
    with Run(site, folder, Silent()) as run:
        board.connect(run.server_loop)
        loading = threading.Lock()  # a client's model is drawn from torch's own stream, which threads share

        def life(client: int) -> None:
            left = chance.randrange(2, 12) if client else None
            while True:
                with loading:
                    node = nodes_of(site, folder)[client]
                one = Client(node, Wire(board, left), site.config)
                one.join(60)
                if one.failure is None:
                    return
                assert isinstance(one.failure, PeerLost)
                run.server_loop.membership.lost(client)
                left = chance.randrange(4, 20)

        lives = [threading.Thread(target=life, args=(client,)) for client in range(CLIENTS)]
        for one in lives:
            one.start()
        for one in lives:
            one.join(120)
            assert not one.is_alive()
        return run.trained()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "server_batch"), [("sfl-v2", 1), ("sfl-v2", 3), ("decomfl", 1)])
def test_a_run_that_lost_clients_is_the_in_process_run_of_the_same_events(
    place: Path, tmp_path: Path, method: str, server_batch: int
) -> None:
    site = site_of(place, method, server_batch)
    trained = play_with_kills(site, tmp_path / "threads", random.Random(5))
    rows = assert_is_replayed(site, tmp_path, trained)
    assert any(row["event"] == "absent" for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sfl-v2", "sfl-v1", "decomfl", "fedlora", "cse-fsl"])
def test_events_suffice_to_replay_a_run_with_clients_killed_at_any_time(
    place: Path, tmp_path: Path, method: str
) -> None:
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        site = site_of(place, method)
        assert_is_replayed(site, folder, play_with_kills(site, folder / "threads", random.Random(seed)))


@pytest.mark.parametrize("method", ["sfl-v2", pytest.param("decomfl", marks=pytest.mark.slow)])
def test_a_client_leaves_for_some_rounds_and_comes_back(place: Path, tmp_path: Path, method: str) -> None:
    site, board = site_of(place, method), SessionRouter()
    folder = tmp_path / "threads"
    folder.mkdir()
    with Run(site, folder, Silent()) as run:
        board.connect(run.server_loop)
        end(
            [
                Client(n, Wire(board), site.config, {1: 2} if n.client == 2 else None)
                for n in nodes_of(site, folder)
            ]
        )
        assert run.server_loop.membership.absent == frozenset()
        rows = assert_is_replayed(site, tmp_path, run.trained())
    absent = [(row["round"], row["lap"], row["client"]) for row in rows if row["event"] == "absent"]
    assert absent == [(1, 0, 2), (2, 0, 2)]
    assert {row["round"] for row in rows if row["event"] == "step" and row["client"] == 2} == {0, 3, 4, 5}


@pytest.mark.slow
def test_a_straggler_misses_the_round_and_joins_the_next(place: Path, tmp_path: Path) -> None:
    site, board = site_of(place), SessionRouter()
    folder = tmp_path / "threads"
    folder.mkdir()
    with Run(site, folder, Silent()) as run:
        board.connect(run.server_loop)
        nodes = nodes_of(site, folder)
        slow = Slow(board, 6)  # join, 4 messages of round 0, begin of round 1
        clients = [Client(n, slow if n.client == 1 else Wire(board), site.config) for n in nodes]
        assert slow.stopped.wait(60)
        deadline_s = time.monotonic() + 60
        while (held := run.server_loop.awaited()) is None or held[0] != 1:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        round_index, late = run.server_loop.unfinished()
        assert round_index == 1
        for client in late:
            run.server_loop.membership.lost(client, until=2)
        while run.server_loop.unfinished()[0] == 1:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        slow.go.set()
        end(clients)
        rows = assert_is_replayed(site, tmp_path, run.trained())
    assert {row["round"] for row in rows if row["event"] == "absent"} == {1}
    assert {row["round"] for row in rows if row["event"] == "step" and row["client"] == 1} == {0, 2, 3, 4, 5}


@pytest.mark.slow
def test_a_message_of_a_dead_process_costs_its_client_one_round(place: Path, tmp_path: Path) -> None:
    site, board = site_of(place), SessionRouter()
    folder = tmp_path / "threads"
    folder.mkdir()
    with Run(site, folder, Silent()) as run:
        board.connect(run.server_loop)
        nodes = nodes_of(site, folder)
        nodes[1].join(Wire(board))  # in the life before
        end([Client(n, Echo(board, 2) if n.client == 1 else Wire(board), site.config) for n in nodes])
        rows = assert_is_replayed(site, tmp_path, run.trained())
    absent = [(row["client"], row["round"], row["lap"]) for row in rows if row["event"] == "absent"]
    assert absent == [(1, 2, 1)]


def test_a_round_ends_when_enough_have_answered_and_at_its_deadline(place: Path, tmp_path: Path) -> None:
    site, board = site_of(place, quorum=2, round_s=30.0), SessionRouter()
    folder = tmp_path / "threads"
    folder.mkdir()
    with Run(site, folder, Silent()) as run:
        board.connect(run.server_loop)
        nodes = nodes_of(site, folder)
        slow = {1: Slow(board, 6), 2: Slow(board, 7)}  # at the first and the second step of round 1
        clients = [Client(n, slow.get(n.client, Wire(board)), site.config) for n in nodes]
        limits = Limits(site.config.fault_tolerance, run.server_loop, 0.0)
        for wire in slow.values():
            assert wire.stopped.wait(60)
        straggler = None
        deadline_s = time.monotonic() + 60
        while straggler is None:  # two are enough: for the third nobody waits
            assert time.monotonic() < deadline_s
            straggler = limits.straggler()
            time.sleep(0.01)
        assert straggler == (1, 1)
        assert limits.late(0.0) == limits.late(29.0) == (1, frozenset())
        run.server_loop.membership.lost(1, until=2)
        while (held := run.server_loop.awaited()) is None or held[0] != 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        assert limits.straggler() is limits.straggler() is None  # one alone is not
        assert limits.late(31.0) == (1, frozenset({0, 2}))
        run.server_loop.membership.lost(2, until=2)
        for wire in slow.values():
            wire.go.set()
        end(clients)
        rows = assert_is_replayed(site, tmp_path, run.trained())
    absent = {(row["client"], row["round"]): row["lap"] for row in rows if row["event"] == "absent"}
    assert absent == {(1, 1): 1, (2, 1): 2}


def test_the_selected_clients_are_the_same_on_every_transport(place: Path, tmp_path: Path) -> None:
    site, board = site_of(place, clients_per_round=2), SessionRouter()
    folder = tmp_path / "threads"
    folder.mkdir()
    with Run(site, folder, Silent()) as run:
        board.connect(run.server_loop)
        end([Client(n, Wire(board), site.config) for n in nodes_of(site, folder)])
        rows = assert_is_replayed(site, tmp_path, run.trained())
    for at in range(ROUNDS):
        assert len({row["client"] for row in rows if row["event"] == "step" and row["round"] == at}) == 2
    assert not any(row["event"] in ("absent", "back") for row in rows)
    assert len(CheckpointStore(folder / "checkpoint").rounds()) == 2
