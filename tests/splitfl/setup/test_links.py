"""Each kind of link is a row; a link of another package is chosen by name and carries a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from channel.live.emulation import Emulation
from channel.live.json_codec import written
from channel.live.switch import DeliveryOrder
from channel.scenario.load import Scenario
from splitfl.config import LinkConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict
from splitfl.setup.link_kinds import LINKS, LinkKind
from splitfl.setup.links import cell, check_link, describe_link, link_or_scenario
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.installed import installed, package

LAGGING = """
from dataclasses import dataclass

import numpy as np

from channel.core.link import Delivery
from channel.core.link import packets_of
from splitfl.config import at_least
from splitfl.setup.link_kinds import LinkKind


@dataclass(frozen=True, kw_only=True)
class LaggingSettings:
    lag_s: float = 0.25

    def __post_init__(self):
        at_least("link.lag_s", self.lag_s, 0.0)


@dataclass(frozen=True)
class Lagging:
    mtu_bytes: int
    lag_s: float

    def transfer(self, transfer):
        packets = packets_of(transfer, self.mtu_bytes).sizes_bytes.size
        return Delivery(
            arrived=np.ones(packets, dtype=bool),
            finish_s=transfer.start_s + self.lag_s,
            retransmissions=0,
            airtime_s=0.0,
            energy_j=0.0,
        )


PLUGIN = LinkKind(
    about="a quarter of a second for every message",
    make=lambda config: Lagging(config.link.mtu_bytes, config.link.of(LaggingSettings).lag_s),
    describe=lambda link: f"every message takes {1e3 * link.of(LaggingSettings).lag_s:g} ms",
    settings=LaggingSettings,
)
"""
CHOSEN = {
    "fixed": {"up": {"rate_bps": 1e6}},
    "trace": {"trace": "recorded.csv"},
    "scenario": {"scenario": "urban-micro"},
}


@pytest.fixture
def lagging(tmp_path: Path) -> Iterator[None]:
    with installed(package(tmp_path, "splitfl.links", "lagging", LAGGING), LINKS):
        yield


@pytest.mark.parametrize("name", LINKS)
def test_the_keys_of_a_link_choose_its_kind(name: str, tmp_path: Path) -> None:
    recording = tmp_path / "recorded.csv"
    recording.write_text("time_s,rate_bps,delay_s,loss_rate\n0,1e6,0.02,0\n1,1e6,0.02,0\n")
    tables = {key: str(recording) if key == "trace" else value for key, value in CHOSEN[name].items()}
    config = from_dict({"link": tables})
    assert config.link.name == name
    check_link(config)
    is_shared = LINKS[name].make is None
    assert isinstance(link_or_scenario(config), Scenario) == (cell(config) is not None) == is_shared
    assert describe_link(config.link).endswith("; packets of 1500 bytes")


@pytest.mark.slow
@pytest.mark.usefixtures("lagging")
def test_a_link_of_another_package_carries_a_run(tmp_path: Path) -> None:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv")
    site = Experiment.of(toy.config(tmp_path, link={"kind": "lagging", "lag_s": 0.125}))
    run = play(site, tmp_path)
    transfers = run.rows("transfer")
    assert {round(row["finish_s"] - row["start_s"], 9) for row in transfers} == {0.125}
    assert run.ledger.total().payload_bytes == sum(row["payload_bytes"] for row in transfers)
    assert describe_link(site.config.link) == "every message takes 125 ms; packets of 1500 bytes"
    assert as_dict(site.config)["link"]["lag_s"] == 0.125
    assert dict(LINKS)["lagging"].about == "a quarter of a second for every message"


@pytest.mark.usefixtures("lagging")
def test_a_link_of_another_package_stands_alone_and_is_not_made_live() -> None:
    with pytest.raises(ConfigError, match=r"unknown link.kind 'laging'; did you mean 'lagging'\?"):
        LinkConfig(kind="laging")
    with pytest.raises(ConfigError, match=r"link.kind 'lagging' excludes link.scenario and"):
        LinkConfig(kind="lagging", scenario="urban-micro")
    order = DeliveryOrder(seed=0, jitter_s=0.0, in_order=True)
    air = link_or_scenario(from_dict({"link": {"kind": "lagging"}}))
    with pytest.raises(ValueError, match=r"a live link must consist of .*, got Lagging"):
        written(Emulation(air=air, clients=1, order=order))


@pytest.mark.usefixtures("lagging")
def test_a_setting_of_a_link_of_another_package_is_its_own() -> None:
    assert as_dict(from_dict({"link": {"kind": "lagging"}}, ["link.lag_s=2"]))["link"]["lag_s"] == 2.0
    for table, reason in (
        ({"lag_s": 1.0}, r"'link.lag_s'; the keys are kind, mtu_bytes, .*; it is a key of lagging"),
        (
            {"kind": "lagging", "lag": 1.0},
            r"'link.lag'; did you mean 'lag_s'\? the kind of link 'lagging' has",
        ),
        ({"kind": "lagging", "lag_s": -1.0}, r"\[link\] link.lag_s must be at least 0.0, got -1.0"),
        ({"kind": "laging"}, r"unknown link.kind 'laging'; did you mean 'lagging'\? have lagging$"),
        ({"kind": "fixed"}, r"unknown link.kind 'fixed'; have lagging$"),
    ):
        with pytest.raises(ConfigError, match=reason):
            from_dict({"link": table})


def test_a_link_that_no_package_registers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"link.kind must be empty, since no package with links is"):
        LinkConfig(kind="lagging")


def test_a_cell_of_another_package_is_refused_by_the_key_that_takes_it(tmp_path: Path) -> None:
    code = "from splitfl.setup.link_kinds import LINKS\n\nPLUGIN = LINKS['scenario']\n"
    with installed(package(tmp_path, "splitfl.links", "street", code), LINKS):
        config = from_dict({"link": {"kind": "street"}})
        with pytest.raises(ConfigError, match=r"link.kind 'street' must make a link for each client"):
            check_link(config)


def test_a_kind_of_link_that_makes_nothing_or_two_things_is_refused() -> None:
    with pytest.raises(ConfigError, match="must have either a make or a scenario"):
        LinkKind(about="nothing", describe=lambda link: "")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rate_bps": -1.0}, "link rate_bps must be at least 0, got -1.0"),
        ({"delay_s": float("inf")}, "link delay_s must be a finite number, got inf"),
        ({"loss_rate": 1.0}, r"link loss_rate must lie in \[0, 1\), got 1.0"),
        ({"loss": "gilbert-elliott", "loss_rate": 0.1}, "link loss_rate must be 0 where loss is a model"),
        ({"loss": "gilbert-elliott", "leave_bad": 1.3}, r"link leave_bad must lie in \[0, 1\], got 1.3"),
        ({"loss": "gilbert-elliott", "leave_bad": 0.0}, r"link leave_good \+ leave_bad must be above 0"),
        ({"leave_good": 0.1}, "need the loss 'gilbert-elliott'"),
        ({"loss": "burst"}, "unknown link loss 'burst'"),
    ],
)
def test_a_direction_out_of_range_is_refused_by_its_key(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        from_dict({"link": {"down": settings}})
