"""When the server takes work over: at a deadline, a buffer at a time, or whenever somebody comes."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.accounting.ledger import Ledger
from splitfl.client.client import ClientNode
from splitfl.client.loop import run_client
from splitfl.core.errors import ConfigError
from splitfl.core.events import Events
from splitfl.core.messages import LOST, Adapter, Joined, Leave, Reply
from splitfl.federation.staleness import most_rounds
from splitfl.methods.registry import METHODS
from splitfl.server.assemble import server_loop_of
from splitfl.server.async_server import AsyncServer
from splitfl.setup.experiment import Experiment
from splitfl.wire import Envelope, Frame, decode, encode
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.methods.losing import Losing

MODEST = {"up": {"rate_bps": 1e6}, "down": {"rate_bps": 1e6}}
UNEQUAL = {"clients": 3, "rounds": 3, "local_steps": 2, "aggregator": "mean", "client_flops": [1e9, 3e8, 1e8]}


place = toy.place(is_base=True, rows=40)


def site(
    place: Path,
    method: str = "sfl-v2",
    *,
    link: Any = None,
    batch_size: int = 8,
    head_schedule: str = "constant",
    **federation: Any,
) -> Experiment:
    federation = {**UNEQUAL, **federation}
    if method == "frozen":
        del federation["aggregator"]
    return Experiment.of(
        toy.config(
            place,
            method={"name": method},
            federation=federation,
            train={"batch_size": batch_size, "head_schedule": head_schedule},
            link=MODEST if link is None else link,
        )
    )


def same(one: Played, other: Played) -> bool:
    return one.losses == other.losses and all(
        torch.equal(value, other.trained[name]) for name, value in one.trained.items()
    )


@pytest.mark.slow
def test_a_far_deadline_is_a_synchronous_round(place: Path, tmp_path: Path) -> None:
    together = play(site(place), tmp_path)
    assert same(play(site(place, schedule="deadline", deadline_s=1e3), tmp_path), together)
    assert [end.finish_s for end in together.ends] == sorted(end.finish_s for end in together.ends)


def test_a_late_message_is_lost_with_the_rest_of_its_round(place: Path, tmp_path: Path) -> None:
    """The reference: the same messages lost on the air."""
    due_s = 0.27
    late = play(site(place, rounds=1, schedule="deadline", deadline_s=due_s), tmp_path)
    lost = [at for at, reply in _numbered(late) if reply is LOST]
    assert {client for client, _ in lost} == {1, 2}, "the slower ones"
    lossy = Losing(frozenset((client, "up", number) for client, number in lost))
    reference = play(site(place, rounds=1), tmp_path, lossy)
    assert same(late, reference)
    assert late.ends[0].finish_s == pytest.approx(due_s)
    first = min(number for client, number in lost if client == 2)
    sent = late.ledger.traffic[0, 2, "up"]
    assert (sent.messages, sent.lost) == (first + 1, 1)
    assert sent.messages < reference.ledger.traffic[0, 2, "up"].messages == 4
    assert late.ledger.traffic[0, 0, "up"].lost == 0


def _numbered(played: Played) -> list[tuple[tuple[int, int], Reply]]:
    """(client, its how many-th message) and the answer, in order."""
    counts = dict.fromkeys(range(3), -1)
    found = []
    for client, _, _, reply in played.said:
        counts[client] += 1
        found.append(((client, counts[client]), reply))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[] if name in ("ushape", "hybrid") else pytest.mark.long)
        for name in METHODS
        if name != "spry"
    ],
)
def test_every_method_continues_after_a_deadline(method: str, place: Path, tmp_path: Path) -> None:
    whole = play(site(place, method), tmp_path)
    due_s = 0.6 * whole.ends[0].finish_s
    late = play(site(place, method, schedule="deadline", deadline_s=due_s), tmp_path)
    assert len(late.ends) == 3
    assert late.ledger.total("up").lost > 0
    assert late.ends[0].finish_s < whole.ends[0].finish_s


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedlora", "diloco"])
def test_a_buffer_of_all_clients_at_one_pace_is_a_synchronous_run(method: str, tmp_path: Path) -> None:
    """Sentences of one length on an ideal link take everybody the same time: no work is old."""
    toy.model(tmp_path / "model", is_base=True)
    lines = [f"{' '.join(toy.WORDS[i : i + 4])}\t{toy.LABELS[i % 2]}\tgroup-{i % 3}" for i in range(9)]
    (tmp_path / "data.tsv").write_text("\n".join(["text\tlabel\tgroup", *lines * 5]) + "\n")
    settings: dict[str, Any] = {"client_flops": [], "partition": "iid", "link": {}, "batch_size": 1}
    settings["head_schedule"] = "cosine"
    together = play(site(tmp_path, method, **settings), tmp_path)
    buffered = play(site(tmp_path, method, schedule="buffered", **settings), tmp_path)
    assert {row["staleness"] for row in buffered.rows("update")} == {0}
    assert sorted(together.losses) == sorted(buffered.losses)
    assert all(torch.equal(value, buffered.trained[name]) for name, value in together.trained.items())
    assert [end.finish_s for end in buffered.ends] == [end.finish_s for end in together.ends]


@pytest.mark.slow
def test_one_client_at_its_own_pace_is_that_client(place: Path, tmp_path: Path) -> None:
    one: dict[str, Any] = {"clients": 1, "client_flops": []}
    together = play(site(place, **one), tmp_path)
    assert same(play(site(place, **one, schedule="buffered"), tmp_path), together)
    assert same(play(site(place, **one, schedule="anarchic", mixing=1.0), tmp_path), together)


QUICK = ("sfl-v2",)
OWN_PACE = [name for name, spec in METHODS.items() if spec.asynchronous is True]


@pytest.mark.parametrize("schedule", ["buffered", pytest.param("anarchic", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "method",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow, pytest.mark.long]) for n in OWN_PACE],
)
def test_the_fast_do_more_and_age_is_in_the_ledger(
    method: str, schedule: str, place: Path, tmp_path: Path
) -> None:
    own: dict[str, Any] = (
        {"buffer": 2} if schedule == "buffered" else {"pause_s": 0.01, "client_steps": [1, 2, 3]}
    )
    played = play(site(place, method, schedule=schedule, **own), tmp_path)
    rows = played.rows("update")
    by_client = [sum(row["client"] == client for row in rows) for client in range(3)]
    assert len(rows) == 9
    assert by_client == sorted(by_client, reverse=True)
    assert by_client[0] > by_client[2]
    assert len(played.ends) == 3
    assert played.ledger.mean_staleness() == sum(row["staleness"] for row in rows) / len(rows) > 0.0
    versions = [message.version for *_, message, _ in played.said if isinstance(message, Adapter)]
    assert versions
    assert set(played.trained) == set(play(site(place, method), tmp_path).trained)


@pytest.mark.slow
def test_the_service_order_does_not_depend_on_threads(place: Path, tmp_path: Path) -> None:
    own = site(place, schedule="anarchic", pause_s=0.05, client_steps=[1, 2, 3])
    alone = play(own, tmp_path)
    for order in ((0, 1, 2), (2, 1, 0)):
        path = tmp_path / f"{order}.jsonl"
        with Events(path) as events:
            server = own.server_method()
            server_loop = server_loop_of(own, server, Ledger(), events, _Nobody())
            threads = [threading.Thread(target=_live, args=(own, server_loop, client)) for client in order]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60.0)
                assert not thread.is_alive()
        assert path.read_text() == (tmp_path / "played.jsonl").read_text()
        assert all(torch.equal(value, alone.trained[name]) for name, value in server.trained().items())


def _live(own: Experiment, server_loop: Any, client: int) -> None:
    node = ClientNode(client, own.client_method(client))
    run_client(node, _Direct(server_loop), most_rounds(own.config.federation), Leave, lambda *_: None)


class _Direct:
    """A client's line to a server_loop in the same process."""

    def __init__(self, server_loop: AsyncServer) -> None:
        self._server_loop = server_loop

    def request(self, frame: bytes) -> bytes:
        _, envelope = decode(frame)
        if envelope.lap < 0:
            return encode(Joined(round=0), Envelope(**vars(envelope)))
        replies: list[bytes] = []
        self._server_loop.handle(Frame(frame), replies.append)
        return replies[0]


class _Nobody:
    def stepped(self, round_index: int, client: int, steps: int) -> None:
        pass

    def all_began(self, round_index: int) -> None:
        pass

    def ended(self, end: Any) -> None:
        pass


@pytest.mark.parametrize("method", [name for name in METHODS if name not in OWN_PACE])
def test_a_method_that_needs_all_in_one_round_is_refused_with_the_reason(method: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not support federation.schedule 'buffered': .*'deadline'"):
        site(place, method, schedule="buffered")


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"federation": {"aggregator": "rolora"}}, "aggregator must be 'ffa' or 'mean'"),
        (
            {"federation": {"buffer": 2}},
            "read only with federation.schedule 'buffered': leave it at 0, got 2",
        ),
        (
            {"federation": {"schedule": "synchronous", "staleness_power": 1.0}},
            "federation.staleness_power is read only with federation.schedule 'buffered' and 'anarchic'",
        ),
        ({"federation": {"schedule": "deadline"}}, "needs federation.deadline_s above 0.0"),
        ({"federation": {"client_ranks": [2, 2, 1]}}, "federation.client_ranks must be \\[\\] with"),
        ({"fault_tolerance": {"clients_per_round": 2}}, "fault_tolerance.clients_per_round must be"),
        ({"fault_tolerance": {"on_loss": "continue"}}, "fault_tolerance.on_loss must be"),
        ({"method": {"in_flight": 2}}, "method.in_flight must be"),
        ({"method": {"server_batch": 2}}, "method.server_batch must be 1 with federation.schedule"),
        ({"link": {"scenario": "urban-macro-edge"}}, "requires a link of its own for each client"),
    ],
)
def test_settings_that_exclude_an_asynchronous_schedule_are_refused(
    place: Path, tables: Any, complaint: str
) -> None:
    federation = {**UNEQUAL, "schedule": "anarchic", **tables.get("federation", {})}
    with pytest.raises(ConfigError, match=complaint):
        Experiment.of(toy.config(place, **{**tables, "federation": federation}))
