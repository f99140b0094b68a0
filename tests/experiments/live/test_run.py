"""What a live run refuses, before anything is made; nothing here needs root."""

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from channel.links.fixed import FixedLink
from channel.scenario.load import Scenario
from experiments.cli.main import main
from experiments.live.commands import link_of
from experiments.live.figures import in_short, kept_up, link_rows, links_table
from experiments.live.run import emulation_of, run_live
from splitfl.core.errors import ConfigError
from splitfl.runtime.screen import Silent
from splitfl.setup.experiment import Experiment
from testbed.errors import NotRoot
from tests.splitfl import toy

LINK = {"up": {"rate_bps": 1e6, "loss_rate": 0.5}}


place = toy.place()


def no_folder() -> Path:
    raise AssertionError("a refused run has no folder")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"transport": {"name": "inproc"}}, "transport.name must be rpc or grpc"),
        (
            {"transport": {"name": "mqtt", "host": "127.0.0.1", "port": 1883}},
            "must be rpc or grpc.*got .mqtt.",
        ),
        (
            {"erasure": {"gradient": "zero"}, "link": LINK},
            "erasure.gradient must be 'reliable' over a live link",
        ),
        ({"analog": {"kinds": ["activation"]}}, "analog.kinds must be empty over a live link"),
        ({"link": {"mtu_bytes": 100}}, "mtu_bytes of a live link must be a whole number of at least 576"),
    ],
    ids=["one process", "a broker", "a policy", "analog", "small packets"],
)
def test_settings_that_a_live_link_cannot_have_are_refused(
    tables: dict[str, Any], message: str, place: Path
) -> None:
    config = toy.config(place, **{"transport": {"name": "rpc"}, **tables})
    with pytest.raises(ConfigError, match=message):
        run_live(Experiment.of(config), no_folder, Silent())


def test_a_live_run_without_root_is_one_clear_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    config = toy.config(place, transport={"name": "rpc"})
    with pytest.raises(NotRoot, match="live links need root"):
        run_live(Experiment.of(config), no_folder, Silent())


def test_a_live_link_is_the_one_of_the_settings(place: Path) -> None:
    fixed = emulation_of(
        Experiment.of(toy.config(place, link=LINK, live={"queue_bytes": 9000, "jitter_s": 0.1}))
    )
    assert isinstance(fixed.air, FixedLink)
    assert (fixed.air.up.rate_bps, fixed.queue_bytes, fixed.order.jitter_s) == (1e6, 9000, 0.1)
    cell = emulation_of(Experiment.of(toy.config(place, link={"scenario": "lab-wifi"}, train={"seed": 7})))
    assert isinstance(cell.air, Scenario)
    assert cell.air.seed == 7


LIVE: dict[str, Any] = {
    "unread": 0,
    "refused": 0,
    "lateness": {
        "packets": 100, "median_s": 1e-4, "p99_s": 2e-3, "worst_s": 3e-3, "late_share": 0.0, "bad_seconds": 0,
    },
    "links": [
        {
            "client": 0, "direction": way, "offered": 110, "dropped": 10, "lost": 20,
            "resent": 7, "forwarded": 80, "forwarded_bytes": 80_000, "busy_s": 0.5, "loss_rate": 0.2,
            "throughput_bps": 1.28e6,
        }
        for way in ("up", "down")
    ],
}  # fmt: skip


def test_the_figures_say_rate_loss_and_whether_it_kept_up() -> None:
    assert (
        in_short(LIVE, "up")
        == "1.28 Mbit/s while busy, 20.0 % of 100 packets lost, 10 dropped by full queues"
    )
    assert [row.client for row in link_rows(LIVE)] == [0, 0]
    assert links_table(LIVE).row_count == 2
    assert kept_up(LIVE).startswith("The emulator kept up: packets were released 0.10 ms late at the median")
    behind = {**LIVE, "lateness": {**LIVE["lateness"], "bad_seconds": 3}}
    assert "in 3 seconds more than a tenth were late" in kept_up(behind)
    assert "could NOT keep up: 5 packets arrived faster" in kept_up({**LIVE, "unread": 5})


def test_two_links_in_one_command_are_refused() -> None:
    with pytest.raises(ConfigError, match="give one of --scenario, --trace, or --rate"):
        link_of("lab-wifi", None, 1e6, 0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("emulate", "--loss", "1.5", "true"), "loss_rate must lie in [0, 1), got 1.5"),
        (
            ("emulate", "--scenario", "lab-wify", "true"),
            "unknown scenario 'lab-wify'; did you mean 'lab-wifi'?",
        ),
        (("emulate", "--rate", "1e6", "--jitter", "-1", "true"), "jitter_s must be at least 0, got -1.0"),
        (("proxy", "127.0.0.1"), "a server's address must be HOST:PORT, got '127.0.0.1'"),
        (("proxy", "127.0.0.1:80", "--listen", "here"), "--listen must be HOST:PORT, got 'here'"),
        (("proxy", "127.0.0.1:80", "--rate", "-1"), "rate_bps must be at least 0, got -1.0"),
    ],
)
def test_bad_input_is_one_clear_error(words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, ["channel", *words])
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert message in result.output
