"""The transport `radio` without samples: the packets of the waveform, lost as the packet level predicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from channel.core.link import Delivery, Transfer
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment_file import partial
from splitfl.transport.radio.spec import RadioSettings
from testbed.radio.tokens.carrier import TokenCarrier, open_carrier
from tests.testbed.radio.tokens.test_carrier import edge


def opened(transport: dict[str, Any]) -> TokenCarrier:
    table = {"federation": {"clients": 2}, "transport": {"name": "radio", **transport}}
    return open_carrier(partial(table, ("federation", "transport")))


def carried(scenario: str, losses: str, frames: list[bytes]) -> list[Delivery]:
    """Deliveries of frames from a client, with everything acknowledged."""
    carrier = opened({"scenario": scenario, "losses": losses, "rate_hz": 1e6})
    found = []
    for sequence, frame in enumerate(frames):
        transfer = Transfer(
            client=1, direction="up", sequence=sequence, payload_bytes=len(frame), start_s=1.0
        )
        delivery, arrived = carrier.carry(transfer, frame)
        assert arrived == (frame if delivery.is_complete else b"")
        found.append(delivery)
    carrier.close()
    return found


FRAME = [bytes(range(250)) * 12]


def test_packets_that_arrive_take_the_time_of_the_waveform(tmp_path: Path) -> None:
    predicted, received = (
        carried(edge(tmp_path, 110.0), losses, FRAME) for losses in ("predicted", "received")
    )
    assert [one.finish_s for one in predicted] == [one.finish_s for one in received]
    assert [one.airtime_s for one in predicted] == [one.airtime_s for one in received]
    assert predicted[0].is_complete


def test_a_message_that_never_arrives_is_given_up(tmp_path: Path) -> None:
    (delivery,) = carried(edge(tmp_path, 150.0), "predicted", FRAME)
    assert not delivery.is_complete
    assert delivery.airtime_s > 0.0


@pytest.mark.slow
def test_at_the_edge_as_many_packets_are_repeated_as_over_the_waveform(tmp_path: Path) -> None:
    frames = [bytes(np.random.default_rng(number).bytes(30_000)) for number in range(4)]
    predicted, received = (
        sum(one.retransmissions for one in carried(edge(tmp_path, 124.2), losses, frames))
        for losses in ("predicted", "received")
    )
    sent = 4 * (30_000 // 1400 + 1)
    assert predicted > 0
    # In white noise 0.1 dB are a factor of two or more, and schemes are within 0.15 dB of the one loss.
    assert abs(predicted - received) <= 0.2 * sent


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"losses": "guessed"}, "transport.losses must be one of received, predicted, got 'guessed'"),
        (
            {"losses": "predicted", "air_port": 2000},
            "transport.losses must be 'received' if transport.air_port is not 0, got 'predicted'",
        ),
    ],
)
def test_other_losses_are_refused(table: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        RadioSettings(**table)


def test_a_scenario_that_cannot_be_predicted_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[transport\] radio: packets are predicted in scenarios without"):
        opened({"scenario": "jammed", "losses": "predicted"})
