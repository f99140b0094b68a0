"""Live packets meet the very decisions of the virtual clock."""

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.link import Transfer
from channel.core.rng import stream
from channel.links.fixed import Direction, FixedLink
from channel.links.loss import GilbertElliott, RecordedLoss
from channel.links.recordings import LinkTrace
from channel.links.trace import OpportunityRecording, RateRecording, TraceLink
from channel.live.decider import LinkDecider, PacketOutcome
from channel.live.persistent_links import BLOCK

PLENTY = 10**9


def offered(
    decider: LinkDecider, times_s: list[float], direction: str = "up", size: int = 1000
) -> list[PacketOutcome]:
    for time_s in times_s:
        decider.offer(0, direction, size, time_s)
    return decider.decided(0.0)


def test_a_live_packet_has_the_draws_of_the_simulated_transfer_of_its_name() -> None:
    link = FixedLink(
        seed=7, up=Direction(loss_rate=0.3, rate_bps=1e9, delay_s=0.01), max_tries=2, retry_s=0.02
    )
    outcomes = offered(LinkDecider(link, 1, PLENTY), [0.1 * number for number in range(300)])
    for number, outcome in enumerate(outcomes):
        transfer = Transfer(
            client=0, direction="up", sequence=number, payload_bytes=1000, start_s=0.1 * number
        )
        virtual = link.transfer(transfer)
        assert (outcome.number, outcome.due_s, outcome.arrived) == (
            number,
            virtual.finish_s,
            virtual.is_complete,
        )
    assert {outcome.arrived for outcome in outcomes} == {True, False}


def test_packets_leave_one_after_the_other_at_the_rate() -> None:
    link = FixedLink(seed=0, up=Direction(rate_bps=8e6, delay_s=0.005))
    outcomes = offered(LinkDecider(link, 1, PLENTY), [0.0, 0.0, 0.0, 0.01])
    assert [outcome.due_s for outcome in outcomes] == pytest.approx([0.006, 0.007, 0.008, 0.016])


def test_a_full_queue_drops_packets_until_one_has_left() -> None:
    decider = LinkDecider(FixedLink(seed=0, up=Direction(rate_bps=8e6)), 1, 2500)
    assert [decider.offer(0, "up", 1000, 0.0) for _ in range(3)] == [0, 1, None]
    assert decider.offer(0, "up", 500, 0.0) == 2
    assert decider.offer(0, "up", 1000, 0.00099) is None
    assert decider.offer(0, "up", 1000, 0.001) == 3
    assert len(decider.decided(0.001)) == 4


def test_clients_and_directions_have_queues_of_their_own() -> None:
    way = Direction(rate_bps=8e3)
    decider = LinkDecider(FixedLink(seed=0, up=way, down=way), 2, 1000)
    for client in range(2):
        for direction in ("up", "down"):
            assert decider.offer(client, direction, 1000, 0.0) == 0
            assert decider.offer(client, direction, 1000, 0.0) is None


def test_bursts_continue_from_packet_to_packet() -> None:
    """The row of one long transfer; asked anew for each packet, the model would forget its state."""
    model = GilbertElliott(leave_good=0.02, leave_bad=0.2)
    link = FixedLink(seed=3, up=Direction(loss=model), max_tries=1)
    arrived = [outcome.arrived for outcome in offered(LinkDecider(link, 1, PLENTY), [0.0] * BLOCK)]
    np.testing.assert_array_equal(arrived, model.arrives(stream(3, "live", "up", 0, 0), BLOCK))
    lost = ~np.asarray(arrived)
    stays = (lost[1:] & lost[:-1]).sum() / lost[:-1].sum()
    assert abs(stays - 0.8) < 3 * (0.8 * 0.2 / lost[:-1].sum()) ** 0.5


def test_a_recorded_row_of_losses_is_replayed_in_order() -> None:
    row = np.asarray([True, True, False])
    link = FixedLink(seed=1, up=Direction(loss=RecordedLoss(arrived=row)), max_tries=1)
    arrived = [outcome.arrived for outcome in offered(LinkDecider(link, 1, PLENTY), [0.0] * 30)]
    assert any(arrived == np.roll(np.tile(row, 10), shift).tolist() for shift in range(3))


def test_a_recorded_rate_holds_live() -> None:
    trace = LinkTrace(
        time_s=np.asarray([0.0, 1.0]),
        rate_bps=np.asarray([8e6, 8e4]),
        delay_s=np.asarray([0.0, 0.1]),
        loss_rate=np.zeros(2),
    )
    recording = RateRecording(trace=trace)
    decider = LinkDecider(TraceLink(seed=0, up=recording, down=recording), 1, PLENTY)
    outcomes = offered(decider, [0.0, 0.0, 2.0, 2.0])
    assert [outcome.due_s for outcome in outcomes] == pytest.approx([0.001, 0.002, 2.2, 2.3])


def test_small_packets_share_a_chance_to_deliver_and_large_ones_take_one_each() -> None:
    """As mahimahi's link does: an unused chance is lost, what is left of one serves the next packet."""
    recording = OpportunityRecording(time_K=np.asarray([0.010, 0.020, 0.030]))
    decider = LinkDecider(TraceLink(seed=0, up=recording, down=recording), 1, PLENTY)
    sizes = [1500, 1500, 500, 500, 1000, 100]
    for size in sizes:
        decider.offer(0, "up", size, 0.001)
    decider.offer(0, "up", 1500, 0.0605)
    due_s = [outcome.due_s for outcome in decider.decided(0.0)]
    assert due_s == pytest.approx([0.010, 0.020, 0.030, 0.030, 0.040, 0.040, 0.070])


@pytest.mark.parametrize(("clients", "queue_bytes"), [(0, 1), (1, 0)])
def test_no_clients_and_an_empty_queue_are_refused(clients: int, queue_bytes: int) -> None:
    with pytest.raises(BadParameter, match="must be a whole number of at least 1, got 0"):
        LinkDecider(FixedLink(seed=0), clients, queue_bytes)
