"""What is written of an emulation is read again, and nothing else is made of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.link import Delivery, Link, Transfer
from channel.links.fixed import Direction, FixedLink
from channel.links.loss import Bernoulli, GilbertElliott, LossModel, RecordedLoss
from channel.links.recordings import LinkTrace
from channel.links.trace import OpportunityRecording, RateRecording, TraceLink
from channel.live.emulation import Emulation
from channel.live.json_codec import KINDS, read, written
from channel.live.switch import DeliveryOrder
from channel.scenario import load as scenario

TABLE = LinkTrace(
    time_s=np.asarray([0.0, 0.1]),
    rate_bps=np.asarray([1e6, 1e7 / 3.0]),
    delay_s=np.asarray([0.01, 0.02]),
    loss_rate=np.asarray([0.1, 0.2]),
)
MODELS: list[LossModel | None] = [
    None,
    Bernoulli(loss_rate=0.25),
    GilbertElliott(leave_good=0.05, leave_bad=0.3),
    RecordedLoss(arrived=np.asarray([True, False, True])),
]
LINKS: list[Link] = [
    *(FixedLink(seed=1, up=Direction(rate_bps=1e7 / 3.0, loss=model), max_tries=1) for model in MODELS),
    *(
        TraceLink(
            seed=2,
            up=RateRecording(trace=TABLE),
            down=OpportunityRecording(time_K=np.asarray([0.001, 0.003]), loss=model),
            max_tries=2,
        )
        for model in MODELS
    ),
]


class Stranger:
    def transfer(self, transfer: Transfer) -> Delivery:
        raise NotImplementedError


def emulation(air: Link | scenario.Scenario) -> Emulation:
    return Emulation(air=air, clients=1, order=DeliveryOrder(seed=1, jitter_s=0.1 / 3.0, in_order=False))


def facts(link: Link | scenario.Scenario, direction: str) -> tuple[list[bool], float]:
    assert not isinstance(link, scenario.Scenario)
    asked = Transfer(client=0, direction=direction, sequence=3, payload_bytes=60_000, start_s=0.05)
    found = link.transfer(asked)
    return found.arrived.tolist(), found.finish_s


@pytest.mark.parametrize("link", LINKS)
def test_a_link_decides_the_same_after_the_journey(link: Link) -> None:
    back = read(written(emulation(link)))
    assert back.order == emulation(link).order
    for direction in ("up", "down"):
        assert facts(back.air, direction) == facts(link, direction)


@pytest.mark.parametrize("name", scenario.names())
def test_every_scenario_survives_encoding(name: str) -> None:
    sent = emulation(scenario.load(name))
    assert read(written(sent)) == sent


def test_an_unknown_link_class_is_refused_by_name() -> None:
    with pytest.raises(BadParameter, match=r"a live link must consist of .*FixedLink.*, got Stranger"):
        written(emulation(Stranger()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '"word"',
        "{}",
        json.dumps({"Popen": {"args": ["true"]}}),
        json.dumps({"Order": {"seed": 1}}),
        json.dumps({"Order": 1}),
        json.dumps({"Order": {"sid": 1}}),
        json.dumps({"Order": {"seed": 1}, "Direction": {}}),
        json.dumps({"float64": ["x"]}),
    ],
)
def test_foreign_json_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        read(text)


def test_settings_that_cannot_be_are_refused_where_they_are_read() -> None:
    text = written(replace(emulation(FixedLink(seed=0)), mtu_bytes=1500)).replace("1500", "15")
    with pytest.raises(BadParameter, match="mtu_bytes of a live link must be a whole number of at least 576"):
        read(text)


def test_a_kind_is_known_by_its_name() -> None:
    assert all(name == kind.__name__ for name, kind in KINDS.items())
