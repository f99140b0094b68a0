"""Virtual time and the ledger add up: every second and byte is where the model says it is."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from channel.core.link import packet_sizes
from channel.links.fixed import Direction, FixedLink
from splitfl.accounting.ledger import Ledger
from splitfl.core.events import Events
from splitfl.core.messages import Control, Leave, Skip
from splitfl.server.virtual_clock import Load, VirtualClock
from splitfl.setup.experiment import Experiment
from splitfl.wire import Envelope, encode
from tests.splitfl import toy
from tests.splitfl.driver import Played, play

LOSSY = {
    "mtu_bytes": 500,
    "max_tries": 2,
    "up": {"rate_bps": 1e6, "delay_s": 0.01, "loss_rate": 0.15},
    "down": {"rate_bps": 2e6, "delay_s": 0.02, "loss_rate": 0.15},
}
SLOW: dict[str, Any] = {"client": {"device": "cpu", "flops": 1e8}, "server": {"device": "cpu", "flops": 1e9}}


place = toy.place()


def played(place: Path, tmp_path: Path, clients: int, **tables: Any) -> Played:
    federation = {"clients": clients, "rounds": 2, "local_steps": 3}
    return play(Experiment.of(toy.config(place, federation=federation, **SLOW, **tables)), tmp_path)


@pytest.mark.slow
def test_one_client_on_an_ideal_link_takes_the_time_of_all_the_work(place: Path, tmp_path: Path) -> None:
    run = played(place, tmp_path, 1)
    work_s = run.ledger.total_flops("client") / 1e8 + run.ledger.total_flops("server") / 1e9
    # But for the last backward pass of a round, which ends with the round's next message.
    assert run.ends[-1].finish_s == pytest.approx(work_s, rel=1e-9)


def test_transfers_take_their_bytes_over_the_rate_and_the_delay(place: Path, tmp_path: Path) -> None:
    ways = {"up": {"rate_bps": 1e6, "delay_s": 0.01}, "down": {"rate_bps": 2e6, "delay_s": 0.02}}
    run = played(place, tmp_path, 1, link=ways)
    for row in run.rows("transfer"):
        way = ways[row["direction"]]
        assert row["airtime_s"] == 8 * row["payload_bytes"] / way["rate_bps"]
        assert row["finish_s"] == pytest.approx(row["start_s"] + row["airtime_s"] + way["delay_s"], rel=1e-12)
    spent_s = sum(row["finish_s"] - row["start_s"] for row in run.rows("transfer") + run.rows("compute"))
    last = run.rows("transfer")[-1]  # the last acknowledgement, which nobody waits for
    assert run.ends[-1].finish_s == pytest.approx(spent_s - (last["finish_s"] - last["start_s"]), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("link", [{}, LOSSY], ids=["ideal", "lossy"])
def test_the_ledger_holds_the_bytes_of_every_frame(place: Path, tmp_path: Path, link: Any) -> None:
    run = played(place, tmp_path, 2, link=link)
    said = [message for _, _, message, _ in run.said if not is_leave(message)]
    # A frame's length depends on the digits of its numbers; the flops of a message are its own.
    rows = [row for row in run.rows("transfer") if row["direction"] == "up"]
    assert [row["kind"] for row in rows] == [
        "Control" if isinstance(one, Control) else type(one).__name__ for one in said
    ]
    for row, message in zip(rows, said, strict=True):
        bare = len(encode(message, Envelope(client=row["client"], round=row["round"], lap=0)))
        assert 0 <= row["payload_bytes"] - bare < 30
    for direction in ("up", "down"):
        total = run.ledger.total(direction)
        rows = [row for row in run.rows("transfer") if row["direction"] == direction]
        assert total.messages == len(rows)
        assert total.payload_bytes == sum(row["payload_bytes"] for row in rows)
        assert total.packets == sum(row["packets"] for row in rows)
        assert total.retransmissions == sum(row["retransmissions"] for row in rows)
        assert total.lost == sum(row["lost"] for row in rows)
        assert total.airtime_s == pytest.approx(math.fsum(row["airtime_s"] for row in rows), rel=1e-12)
        mtu_bytes = LOSSY["mtu_bytes"] if link else 1500
        assert isinstance(mtu_bytes, int)
        assert total.packets == sum(len(packet_sizes(row["payload_bytes"], mtu_bytes)) for row in rows)
    assert (run.ledger.total().lost > 0) == bool(link)
    assert run.ledger.total().messages == len(run.rows("transfer"))


def is_leave(message: Any) -> bool:
    return isinstance(message, Leave)


@pytest.mark.slow
def test_work_is_counted_by_side_client_and_round(place: Path, tmp_path: Path) -> None:
    run = played(place, tmp_path, 2)
    for side in ("client", "server"):
        rows = [row for row in run.rows("compute") if row["side"] == side]
        assert run.ledger.total_flops(side) == pytest.approx(sum(row["flops"] for row in rows), rel=1e-12)
        assert {row["client"] for row in rows} == {0, 1}
        rate = SLOW[side]["flops"]
        assert all(
            row["finish_s"] - row["start_s"] == pytest.approx(row["flops"] / rate, rel=1e-6) for row in rows
        )


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_client_never_does_two_things_at_once(place: Path, tmp_path: Path, in_flight: int) -> None:
    run = played(place, tmp_path, 3, method={"in_flight": in_flight}, link=LOSSY)
    for client in range(3):
        own = [
            row
            for row in run.events
            if row.get("client") == client
            and row["event"] in ("transfer", "compute")
            and row.get("side") != "server"
        ]
        spans = sorted((row["start_s"], row["finish_s"]) for row in own)
        assert all(later[0] >= earlier[1] - 1e-12 for earlier, later in itertools.pairwise(spans))
    served = [row for row in run.rows("compute") if row["side"] == "server"]
    moments = [(row["start_s"], 1) for row in served] + [(row["finish_s"], -1) for row in served]
    busy = most = 0
    for _, change in sorted(moments):
        busy += change
        most = max(most, busy)
    assert most <= in_flight


@pytest.mark.slow
def test_two_slots_are_faster_than_one_on_the_virtual_clock(place: Path, tmp_path: Path) -> None:
    slow_server: Any = {"server": {"device": "cpu", "flops": 1e7}}
    federation = {"clients": 3, "rounds": 1, "local_steps": 4}

    def finish_s(in_flight: int) -> float:
        tables = {**SLOW, **slow_server, "method": {"in_flight": in_flight}, "federation": federation}
        return play(Experiment.of(toy.config(place, **tables)), tmp_path).ends[-1].finish_s

    assert finish_s(2) < 0.7 * finish_s(1)


def test_a_message_on_its_way_is_counted_when_its_turn_has_come(tmp_path: Path) -> None:
    """Two are under way over RPC, whichever was first: the file has them in the order of their turns."""
    ledger, path = Ledger(), tmp_path / "events.jsonl"
    with Events(path) as events:
        clock, link = VirtualClock(1e9, 1e9, 2, ledger, events), FixedLink(seed=0, up=Direction(rate_bps=1e6))
        senders = [Envelope(client=client, round=0, lap=1, flops=1e6) for client in (1, 0)]
        sent = [clock.depart_up(one, Skip(), Load(payload_bytes=1000)) for one in senders]
        landed = [one.landed(link.transfer(one.transfer), 0.2) for one in sent]
        assert ledger.total().messages == 0
        for one in landed:
            clock.serve([one], [1e6])
    assert ledger.total().messages == 2
    clients = [line.split('"client":')[1][0] for line in path.read_text().splitlines()]
    assert clients == ["1", "1", "1", "0", "0", "0"]
