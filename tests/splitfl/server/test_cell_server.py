"""Clients that share a cell slow each other down, deterministically, and nobody waits for ever."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from channel.core.link import Delivery, Transfer
from splitfl.accounting.ledger import Ledger
from splitfl.config import AnalogConfig, ErasureConfig
from splitfl.core.errors import ConfigError, PeerLost, Undelivered, WireError
from splitfl.core.events import Events
from splitfl.core.messages import Begin, Done, Leave, Message, Skip
from splitfl.methods.parts.method import ServerReply, Turn
from splitfl.server.cell_server import CellServer
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.server.exchange import Exchange
from splitfl.server.virtual_clock import VirtualClock
from splitfl.setup.experiment import Experiment
from splitfl.wire import Envelope, Frame, encode
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.server.test_client_and_error_boundary import AnswersNothing, NoWatcher

place = toy.place(is_base=True)


STREET = """
[place]
environment = "constant"
loss_db = 114.0
users = 10
shadowing = false
[fading]
profile = "none"
"""


@pytest.fixture(scope="module")
def street(place: Path) -> str:
    """A cell in which all users hear the same all the time: only the others make a difference."""
    (place / "street.toml").write_text(STREET)
    return str(place / "street.toml")


def played(place: Path, scenario: str, folder: Path, clients: int, **tables: Any) -> Played:
    federation = {"clients": clients, "rounds": 1, "local_steps": 2, "partition": "iid"}
    link = {"scenario": scenario}
    return play(
        Experiment.of(toy.config(place, **{"link": link, "federation": federation, **tables})), folder
    )


def mean_upload_s(run: Played) -> float:
    rows = [row for row in run.rows("transfer") if row["kind"] == "Activation"]
    return float(np.mean([(row["finish_s"] - row["start_s"]) / row["payload_bytes"] for row in rows]))


@pytest.mark.slow
def test_ten_clients_that_upload_at_once_slow_each_other_down(
    place: Path, street: str, tmp_path: Path
) -> None:
    # Without a cost of work everybody sends at the same moment.
    fast = {"client": {"device": "cpu", "flops": 1e15}, "server": {"device": "cpu", "flops": 1e15}}
    alone, ten = (mean_upload_s(played(place, street, tmp_path, clients, **fast)) for clients in (1, 10))
    assert ten > 2.0 * alone


@pytest.mark.slow
def test_the_same_run_in_a_cell_gives_the_same_file(place: Path, tmp_path: Path) -> None:
    first, second = (
        played(place, "urban-micro", tmp_path, 3, method={"in_flight": in_flight}) for in_flight in (2, 2)
    )
    assert first.events == second.events
    assert first.losses
    assert {row["event"] for row in first.events} == {"transfer", "compute", "step"}


@pytest.mark.slow
def test_the_cell_tells_when_and_never_what(place: Path, street: str, tmp_path: Path) -> None:
    with_cell = played(place, street, tmp_path, 3)
    without = played(place, street, tmp_path, 3, link={})
    assert with_cell.losses == without.losses
    assert with_cell.ends[-1].finish_s > without.ends[-1].finish_s


@pytest.mark.slow
def test_a_cell_without_recovery_runs_with_holes(place: Path, tmp_path: Path) -> None:
    text = STREET.replace("114.0", "119.0") + '[link]\nharq = "none"\nmax_tries = 1\n'
    (tmp_path / "far.toml").write_text(text)
    far = str(tmp_path / "far.toml")
    loss = {"activation": "zero", "gradient": "zero"}
    run = played(place, far, tmp_path, 2, erasure=loss, link={"scenario": far, "mtu_bytes": 128})
    assert run.ledger.total().lost_packets > 0
    assert run.ledger.total().lost == 0
    assert len(run.losses) == 4


class Toy:
    """A cell that sends one byte in `byte_s` for all together, first come first served."""

    def __init__(self, byte_s: float = 1e-3) -> None:
        self.now_s = 0.0
        self._byte_s = byte_s
        self._waiting: list[Transfer] = []

    def submit(self, transfer: Transfer) -> None:
        assert transfer.start_s >= self.now_s
        self._waiting.append(transfer)

    def advance(self, until_s: float, *, to_first: bool = False) -> list[tuple[Transfer, Delivery]]:
        if not self._waiting:
            self.now_s = until_s
            return []
        first = min(self._waiting, key=lambda one: (one.start_s, one.direction, one.client))
        finish_s = max(self.now_s, first.start_s) + first.payload_bytes * self._byte_s
        if finish_s > until_s:
            self.now_s = until_s
            return []
        self._waiting.remove(first)
        self.now_s = finish_s
        delivery = Delivery(
            arrived=np.ones(1, dtype=np.bool_),
            finish_s=finish_s,
            retransmissions=0,
            airtime_s=float(first.payload_bytes),
            energy_j=0.0,
        )
        return [(first, delivery)]


class Echo(AnswersNothing):
    """A server that acknowledges everything."""

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        return ServerReply(reply=Done())


def server_loop(clients: int, path: Path | None = None, cell: Any = None) -> tuple[CellServer, Events]:
    events = Events(path)
    erasure = ErasurePolicies(0, ErasureConfig(), AnalogConfig(), lambda message: None, 1500, {})
    clock = VirtualClock(1e9, 1e9, 1, Ledger(), events)
    exchange = Exchange(Echo(), clock, erasure, events, NoWatcher(), power_w=0.2)
    return CellServer(exchange, cell or Toy(), 0, clients), events


def frame(client: int, lap: int, round_index: int = 0, steps: int = 2, other: Message | None = None) -> bytes:
    message = other or (Begin(steps=steps) if lap == 0 else Skip())
    return encode(message, Envelope(client=client, round=round_index, lap=lap, flops=1e8 * (1 + client)))


def framed(*args: Any, **options: Any) -> Frame:
    return Frame(frame(*args, **options))


def talk(at: CellServer, client: int, rounds: int = 2) -> None:
    """A whole client, waiting for each answer."""
    for round_index in range(rounds):
        for lap in range(3):
            answers: list[bytes] = []
            at.handle(framed(client, lap, round_index), answers.append)
            assert len(answers) == 1
    at.handle(framed(client, 0, rounds, other=Leave()), lambda answer: None)


def test_threads_in_any_order_give_the_same_file(tmp_path: Path) -> None:
    files = []
    for attempt, order in enumerate([(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)]):
        path = tmp_path / f"{attempt}.jsonl"
        at, events = server_loop(4, path)
        with events:
            threads = [threading.Thread(target=talk, args=(at, client)) for client in order]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30.0)
                assert not thread.is_alive()
        assert set(at.membership.left) == {0, 1, 2, 3}
        files.append(path.read_text())
    assert files[0] == files[1] == files[2]
    starts = [json.loads(line)["start_s"] for line in files[0].splitlines() if '"transfer"' in line]
    assert len(starts) == 2 * 4 * 2 * 3


def test_a_failed_run_wakes_threads_that_wait_in_the_cell() -> None:
    at, _ = server_loop(2)
    heard: list[Exception] = []

    def wait() -> None:
        try:
            at.handle(framed(0, 0), lambda answer: None)
        except PeerLost as error:
            heard.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    at.fail(PeerLost("client 1 was silent"))
    thread.join(30.0)
    assert not thread.is_alive()
    assert str(heard[0]) == "client 1 was silent"
    with pytest.raises(PeerLost):
        at.post(framed(1, 0), lambda answer: None)


def test_a_client_out_of_reach_ends_the_run_with_a_message() -> None:
    at, _ = server_loop(1, None, Toy(byte_s=10.0))
    with pytest.raises(Undelivered, match="no delivery to or from client 0 within 300 virtual s"):
        at.post(framed(0, 0), lambda answer: None)


@pytest.mark.parametrize(
    "wrong",
    [frame(0, 1), frame(5, 0), frame(0, 0, 1), frame(0, 0, other=Skip())],
    ids=["lap", "who", "round", "ask"],
)
def test_a_message_out_of_turn_is_refused(wrong: bytes) -> None:
    with pytest.raises(WireError, match="out of order, or twice"):
        server_loop(1)[0].post(Frame(wrong), lambda answer: None)


def test_a_message_twice_is_refused() -> None:
    at, _ = server_loop(2)
    at.post(framed(0, 0), lambda answer: None)
    with pytest.raises(WireError, match="client 0 sent message 0 of round 0"):
        at.post(framed(0, 0), lambda answer: None)


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ({"scenario": "urban-micron"}, "did you mean 'urban-micro'"),
        ({"scenario": "urban-micro", "up": {"rate_bps": 1e6}}, "cannot be set with link.scenario"),
        ({"scenario": "urban-micro", "trace": "x.csv"}, "exclude each other"),
        ({"scenario": "urban-micro", "max_tries": 3}, "link.max_tries is part of the scenario"),
        ({"trace": "nowhere.csv"}, "link.trace cannot be replayed"),
        ({"trace_down": "x.csv"}, "needs link.trace"),
        ({"up": {"loss": "gilbert-elliott", "leave_good": 2.0}}, r"must lie in \[0, 1\]"),
        ({"up": {"loss": "gilbert-elliott", "loss_rate": 0.1}}, "must be 0 where loss is a model"),
        ({"up": {"leave_good": 0.1}}, "need the loss 'gilbert-elliott'"),
    ],
)
def test_a_link_that_cannot_be_is_refused(place: Path, link: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Experiment.of(toy.config(place, link=link))


def test_more_clients_than_the_scenario_has_users_are_refused(place: Path) -> None:
    config = toy.config(place, link={"scenario": "urban-micro"})
    many = replace(config, federation=replace(config.federation, clients=11))
    with pytest.raises(ConfigError, match="has 10 users, fewer than the 11 clients"):
        Experiment.of(many)


def test_a_client_out_of_reach_is_named_before_a_run(place: Path, tmp_path: Path) -> None:
    far = tmp_path / "far.toml"
    far.write_text(
        '[place]\nenvironment = "constant"\nloss_db = 150.0\nusers = 2\nshadowing = false\n'
        '[fading]\nprofile = "none"\n'
    )
    config = toy.config(place, link={"scenario": str(far)}, federation={"clients": 2})
    with pytest.raises(
        ConfigError, match=r"user 0 is out of coverage, direction up: its SINR is never above"
    ):
        play(Experiment.of(config), tmp_path)
