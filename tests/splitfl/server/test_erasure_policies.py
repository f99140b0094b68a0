"""What a run makes of lost packets, by the policy of each kind of message."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from channel.core.link import Delivery, Link, Transfer, packets_of
from splitfl.core.errors import ConfigError
from splitfl.core.messages import LOST, Activation, Gradient, Lost
from splitfl.methods.compatibility import check
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from splitfl.setup.links import snr_db
from splitfl.wire import Frame
from splitfl.wire.row_split import Mask, join, split
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import Played, play

TENTH = {"mtu_bytes": 128, "up": {"loss_rate": 0.1}, "down": {"loss_rate": 0.1}}
POLICIES = ("mask", "zero", "rescale", "stale")


place = toy.place(is_base=True)


def played(place: Path, folder: Path, over: Link | None = None, **tables: Any) -> Played:
    return play(Experiment.of(toy.config(place, **tables)), folder, over)


@pytest.mark.slow
def test_reliable_makes_delay_of_loss_and_changes_nothing_else(place: Path, tmp_path: Path) -> None:
    slow = {"up": {"rate_bps": 1e6}, "down": {"rate_bps": 1e6}}
    lossy = {"mtu_bytes": 128, **{way: {"rate_bps": 1e6, "loss_rate": 0.3} for way in slow}}
    whole, late = (played(place, tmp_path, link=one) for one in (slow, lossy))
    assert late.losses == whole.losses
    assert late.ends[-1].finish_s > whole.ends[-1].finish_s
    assert late.ledger.total().lost_packets == 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_with_holes_every_step_is_taken(policy: str, place: Path, tmp_path: Path) -> None:
    run = played(place, tmp_path, erasure={"activation": policy, "gradient": policy}, link=TENTH)
    assert run.ledger.total().lost_packets > 0
    assert run.ledger.total().lost == 0
    assert len(run.losses) == 12
    for way in ("up", "down"):  # once a packet, but for what must arrive
        total = run.ledger.total(way)
        assert total.lost_packets / total.packets == pytest.approx(0.1, abs=0.06)
    gradients = [reply for *_, message, reply in run.said if isinstance(message, Activation)]
    assert all(isinstance(reply, Gradient) for reply in gradients)


class LosesTokens:
    """An ideal link of one packet a token that loses chosen rows of one client's activation or gradient."""

    mtu_bytes = 128

    def __init__(self, direction: str, rows: list[int] | None) -> None:
        self._direction, self._rows = direction, rows

    def transfer(self, transfer: Transfer) -> Delivery:
        packets = packets_of(transfer, self.mtu_bytes)
        arrived = np.ones(packets.sizes_bytes.size, dtype=np.bool_)
        if transfer.recovery == "none" and transfer.direction == self._direction:
            chosen = slice(None) if self._rows is None else self._rows
            arrived[packets.reliable :][chosen] = False
        return Delivery(
            arrived=arrived, finish_s=transfer.start_s, retransmissions=0, airtime_s=0.0, energy_j=0.0
        )


def first_answer(run: Played) -> tuple[Activation, Any]:
    return next((m, reply) for _, _, m, reply in run.said if isinstance(m, Activation))


@pytest.mark.parametrize("policy", quick(POLICIES, "rescale", "stale"))
def test_a_token_lost_on_its_way_up_gets_no_gradient(policy: str, place: Path, tmp_path: Path) -> None:
    one = {"federation": {"clients": 1, "rounds": 1, "local_steps": 1}, "link": {"mtu_bytes": 128}}
    loss = {"activation": policy}
    message, reply = first_answer(played(place, tmp_path, LosesTokens("up", [1, 5]), erasure=loss, **one))
    assert isinstance(reply, Gradient)
    assert message.hidden is not None
    assert reply.grad.shape == message.hidden.shape
    assert torch.equal(reply.ids_B, message.ids_B)
    assert not reply.grad[[1, 5]].any()
    assert reply.grad.any()


class ReceivesTokens:
    """A carrier that loses the rows of LosesTokens; `sent` is what it was given."""

    def __init__(self, direction: str, rows: list[int]) -> None:
        self._direction, self._rows = direction, rows
        self.sent: list[tuple[Transfer, bytes, Mask | None]] = []

    def carry(self, transfer: Transfer, frame: bytes, sent_N: Mask | None = None) -> tuple[Delivery, bytes]:
        self.sent.append((transfer, frame, sent_N))
        arrived, rows_N = np.ones(1, dtype=np.bool_), None
        if transfer.recovery == "none":
            reliable, row_NB = split(frame, sent_N)
            assert transfer.payload_bytes == len(reliable) + row_NB.size
            arrived = np.ones(len(row_NB), dtype=np.bool_)
            if transfer.direction == self._direction:
                arrived[self._rows] = False
            received = join(reliable, row_NB * arrived[:, None], arrived)
            frame, rows_N = received.frame, received.arrived_N
        delivery = Delivery(
            arrived=arrived,
            finish_s=transfer.start_s,
            retransmissions=0,
            airtime_s=0.0,
            energy_j=0.0,
            rows=rows_N,
        )
        return delivery, bytes(frame)


@pytest.mark.parametrize("policy", quick(POLICIES, "mask"))
@pytest.mark.parametrize("direction", quick(["up", "down"], "up"))
def test_received_losses_have_the_effect_of_drawn_ones(
    policy: str, direction: str, place: Path, tmp_path: Path
) -> None:
    site = Experiment.of(
        toy.config(
            place,
            federation={"clients": 1, "rounds": 1, "local_steps": 1},
            link={"mtu_bytes": 128},
            erasure={"activation": policy, "gradient": policy},
        )
    )
    drawn = first_answer(play(site, tmp_path, LosesTokens(direction, [1, 5])))[1]
    received = first_answer(play(site, tmp_path, carrier=ReceivesTokens(direction, [1, 5])))[1]
    assert torch.equal(drawn.grad, received.grad)


def test_a_reply_has_no_gradients_of_tokens_that_were_not_received(place: Path, tmp_path: Path) -> None:
    one = {"federation": {"clients": 1, "rounds": 1, "local_steps": 1}}
    site = Experiment.of(toy.config(place, **one, erasure={"activation": "zero", "gradient": "rescale"}))
    carrier = ReceivesTokens("up", [1, 5])
    _, reply = first_answer(play(site, tmp_path, carrier=carrier))
    transfer, frame, sent_N = next(sent for sent in carrier.sent if sent[2] is not None)
    assert sent_N is not None
    assert np.flatnonzero(~sent_N).tolist() == [1, 5]
    mask_bytes = -(-sent_N.size // 8)
    assert transfer.payload_bytes == len(frame) - 2 * transfer.unit_bytes + mask_bytes
    assert torch.equal(reply.grad, Frame(frame).message().grad)  # all that were sent arrived: no scale


@pytest.mark.slow
def test_lost_gradients_are_nothing_or_make_up_for_each_other(place: Path, tmp_path: Path) -> None:
    one = {"federation": {"clients": 1, "rounds": 1, "local_steps": 1}, "link": {"mtu_bytes": 128}}
    found = {}
    for policy in ("reliable", "zero", "mask", "rescale"):
        lossy = LosesTokens("down", [0, 3])
        found[policy] = first_answer(played(place, tmp_path, lossy, erasure={"gradient": policy}, **one))[
            1
        ].grad
    expected = found["reliable"].clone()
    expected[[0, 3]] = 0
    assert torch.equal(found["zero"], expected)
    assert torch.equal(found["mask"], expected)
    share = (len(expected) - 2) / len(expected)
    torch.testing.assert_close(found["rescale"], expected / share)


@pytest.mark.parametrize(
    ("direction", "policy"),
    quick(product(("up", "down"), (*POLICIES, "skip")), ("up", "mask"), ("up", "stale"), ("down", "skip")),
)
def test_of_a_message_without_any_token_nothing_comes(
    direction: str, policy: str, place: Path, tmp_path: Path
) -> None:
    one = {"federation": {"clients": 1, "rounds": 1, "local_steps": 2}, "link": {"mtu_bytes": 128}}
    loss = {"activation" if direction == "up" else "gradient": policy}
    run = played(place, tmp_path, LosesTokens(direction, None), erasure=loss, **one)
    answers = [reply for *_, message, reply in run.said if isinstance(message, Activation)]
    assert answers == [LOST, LOST]
    assert run.ledger.total(direction).lost == 2
    assert len(run.losses) == (0 if direction == "up" else 2)


def test_one_lost_token_skips_a_whole_message(place: Path, tmp_path: Path) -> None:
    one = {"federation": {"clients": 1, "rounds": 1, "local_steps": 1}, "link": {"mtu_bytes": 128}}
    run = played(place, tmp_path, LosesTokens("up", [2]), erasure={"activation": "skip"}, **one)
    assert isinstance(first_answer(run)[1], Lost)


@pytest.mark.slow
def test_an_old_token_stands_in_for_a_lost_one(place: Path, tmp_path: Path) -> None:
    """The second time round everything is lost, and the first round's values are learnt from."""
    again = {"federation": {"clients": 1, "rounds": 3, "local_steps": 0}, "link": {"mtu_bytes": 128}}

    class LosesLater(LosesTokens):
        def transfer(self, transfer: Transfer) -> Delivery:
            self._rows = [] if transfer.sequence <= 16 else None
            return super().transfer(transfer)

    kept = played(place, tmp_path, LosesLater("up", None), erasure={"activation": "stale"}, **again)
    forgot = played(
        place, tmp_path, LosesLater("up", None), erasure={"activation": "stale", "stale_rounds": 0}, **again
    )
    assert len(kept.losses) > len(forgot.losses) > 0


@pytest.mark.parametrize("method", quick(METHODS, "sfl-v2", "ushape", "decomfl"))
def test_a_method_takes_the_erasure_policies_that_it_declares_and_no_others(method: str, place: Path) -> None:
    for kind in ("activation", "output", "gradient"):
        declared = METHODS[method].sends[kind].policies if kind in METHODS[method].sends else frozenset()
        for policy in (*POLICIES, "skip"):
            config = toy.config(place, method={"name": method}, erasure={kind: policy})
            if policy in declared:
                check(config, "sequence-classification", 4, "bert")
            else:
                with pytest.raises(ConfigError, match=f"sends no {kind}|is not for the method '{method}'"):
                    check(config, "sequence-classification", 4, "bert")


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        (
            {"method": {"name": "fedlora"}, "erasure": {"activation": "zero"}},
            "sends no activation that may be lost",
        ),
        ({"method": {"name": "frozen"}, "erasure": {"activation": "mask"}}, "erased token would stay erased"),
        ({"method": {"name": "hosl"}, "erasure": {"activation": "rescale"}}, "is no directional derivative"),
        ({"erasure": {"output": "zero"}}, "'sfl-v2' sends no output"),
        ({"erasure": {"activation": "masks"}}, "unknown erasure.activation 'masks'; did you mean 'mask'"),
        ({"erasure": {"stale_rounds": -1}}, "erasure.stale_rounds must be at least 0"),
        ({"analog": {"kinds": ["activations"]}}, "unknown analog.kinds"),
        ({"analog": {"kinds": ["activation"]}, "erasure": {"activation": "mask"}}, "without packets"),
        ({"analog": {"kinds": ["activation"], "from_cell": True}}, "link.scenario, which is empty"),
        ({"analog": {"snr_db": 1000.0}}, "analog.snr_db must lie in"),
    ],
)
def test_an_erasure_policy_that_a_method_cannot_use_is_refused(
    place: Path, tables: Any, complaint: str
) -> None:
    reads = {} if tables.get("method", {}).get("name") in (None, "hosl") else {"train": {"batch_size": 8}}
    with pytest.raises(ConfigError, match=complaint):
        Experiment.of(toy.config(place, **tables, **reads))


@pytest.mark.slow
def test_numbers_sent_as_they_are_cost_symbols_and_noise(place: Path, tmp_path: Path) -> None:
    analog = {"kinds": ["activation", "gradient"], "snr_db": 20.0, "symbol_hz": 1e5}
    link = {"up": {"rate_bps": 1e6}, "down": {"rate_bps": 1e6}}
    noisy = played(place, tmp_path, analog=analog, link=link)
    clean = played(place, tmp_path, link=link)
    assert noisy.losses[0] == pytest.approx(clean.losses[0], rel=0.2)
    assert noisy.losses != clean.losses
    for row in noisy.rows("transfer"):
        wanted_s = 8 * row["payload_bytes"] / 1e6 + row["symbols"] / 1e5
        assert row["airtime_s"] == pytest.approx(wanted_s, rel=1e-9)
    sizes = [
        m.hidden.shape for _, _, m, _ in noisy.said if isinstance(m, Activation) and m.hidden is not None
    ]
    assert noisy.ledger.total("up").symbols == sum(rows * width // 2 for rows, width in sizes)
    assert noisy.ledger.total("up").payload_bytes < clean.ledger.total("up").payload_bytes


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_a_split_run_with_a_tenth_of_its_packets_lost_trains(
    policy: str, place: Path, tmp_path: Path
) -> None:
    federation = {"clients": 2, "rounds": 6, "local_steps": 10}
    loss = {"activation": policy, "gradient": policy}
    run = played(place, tmp_path, erasure=loss, federation=federation, link=TENTH)
    whole = played(place, tmp_path, federation=federation)
    assert run.ledger.total().lost_packets > 0.05 * run.ledger.total().packets
    assert run.ends[-1].train_loss < 0.75 * run.ends[0].train_loss
    assert run.ends[-1].train_loss < whole.ends[-1].train_loss + 0.25


def test_noise_may_be_that_of_the_cell(place: Path, tmp_path: Path) -> None:
    analog = {"kinds": ["activation"], "from_cell": True}
    one = {"federation": {"clients": 2, "rounds": 1, "local_steps": 2}}
    run = played(place, tmp_path, analog=analog, link={"scenario": "urban-micro"}, **one)
    configured = snr_db(toy.config(place, analog=analog, link={"scenario": "urban-micro"}))
    # Power control brings both to the same level at the base station; their received SINR differs.
    assert len(set(configured.values())) == 3
    assert len(run.losses) == 4
    assert run.ledger.total("up").symbols > 0


BURSTS = {"loss": "gilbert-elliott", "leave_good": 0.05, "leave_bad": 0.5}


@pytest.mark.slow
def test_losses_may_come_in_bursts(place: Path, tmp_path: Path) -> None:
    link = {"mtu_bytes": 128, "up": BURSTS, "down": BURSTS}
    run = played(place, tmp_path, link=link, erasure={"activation": "rescale", "gradient": "rescale"})
    total = run.ledger.total()
    assert total.lost_packets / total.packets == pytest.approx(1 / 11, abs=0.06)
    assert total.lost == 0


@pytest.mark.slow
def test_a_recorded_link_may_be_replayed(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "link.csv"
    path.write_text("time_s,rate_bps,delay_s,loss_rate\n0,1e6,0.01,0\n0.5,2e6,0.02,0.1\n")
    run = played(place, tmp_path, link={"trace": str(path), "mtu_bytes": 500})
    first = run.rows("transfer")[0]
    assert first["finish_s"] == pytest.approx(first["start_s"] + 8 * first["payload_bytes"] / 1e6 + 0.01)
    assert run.ledger.total().retransmissions > 0
