import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.link import Delivery, Transfer


def delivery(arrived):
    return Delivery(
        arrived=np.array(arrived, dtype=bool), finish_s=1.0, retransmissions=0, airtime_s=0.5, energy_j=0.1
    )


def test_a_delivery_is_complete_when_every_packet_came_through():
    assert delivery([True, True]).is_complete
    assert not delivery([True, False]).is_complete
    assert delivery([]).is_complete


def test_the_loss_rate_is_the_share_of_packets_that_never_came():
    assert delivery([True, False, True, True]).loss_rate == 0.25
    assert delivery([True, False, True, True]).packets == 4
    assert delivery([]).loss_rate == 0.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"direction": "sideways"}, "direction must be one of up, down, got 'sideways'"),
        ({"client": -1}, "client must be at least 0, got -1"),
        ({"sequence": -1}, "sequence must be at least 0, got -1"),
        ({"payload_bytes": -5}, "payload_bytes must be at least 0, got -5"),
        ({"start_s": float("nan")}, "start_s must be at least 0, got nan"),
        ({"start_s": float("inf")}, "start_s must be at least 0, got inf"),
    ],
)
def test_a_transfer_that_makes_no_sense_is_refused_by_name(setting, message):
    good = {"client": 0, "direction": "up", "sequence": 0, "payload_bytes": 1, "start_s": 0.0}
    Transfer(**good)
    with pytest.raises(BadParameter, match=message):
        Transfer(**{**good, **setting})
