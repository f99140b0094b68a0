"""What a run over the waveform refuses before anything is made, and what it reports; nothing needs root."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("numba", reason="numba is not installed")

from channel.core.clock import SimulatedClock
from experiments.cli.main import main
from experiments.live.radio_figures import in_real_time, in_words, live_figures, radio_rows, totals
from experiments.live.radio_run import require_time, run_radio, scenario_of, settings_of
from experiments.live.radio_screen import RadioScreen
from splitfl.core.errors import ConfigError
from splitfl.runtime.screen import Silent
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from testbed.errors import NotRoot
from testbed.radio.radio_link import turns
from tests.splitfl import toy

place = toy.place()


def no_folder() -> Path:
    raise AssertionError("a refused run has no folder")


@pytest.mark.parametrize(
    ("name", "tables", "message"),
    [
        ("ideal", {"transport": {"name": "inproc"}}, "transport.name must be rpc or grpc"),
        ("ideal", {"erasure": {"gradient": "zero"}}, "erasure.gradient must be 'reliable' over TCP"),
        ("ideal", {"radio": {"mcs": 3}}, "[radio] mcs must lie in [6, 28], got 3"),
        ("ideal", {"radio": {"fft_size": 100}}, "[radio] fft_size must be one of 64, 128, 256, got 100"),
        ("ideal", {"federation": {"clients": 5}}, "federation.clients must be at most the 4 users of ideal"),
        ("ideel", {}, "--radio ideel: unknown scenario 'ideel'; did you mean 'ideal'?"),
    ],
)
def test_settings_that_the_waveform_cannot_have_are_refused(
    name: str, tables: dict[str, Any], message: str, place: Path
) -> None:
    config = toy.config(place, **{"transport": {"name": "rpc"}, **tables})
    with pytest.raises(ConfigError, match=re.escape(message)):
        run_radio(Experiment.of(config), name, no_folder, Silent())


def test_a_run_over_the_waveform_without_root_is_one_clear_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    config = toy.config(place, transport={"name": "rpc"})
    with pytest.raises(NotRoot, match="runs over the waveform need root; run with sudo"):
        run_radio(Experiment.of(config), "ideal", no_folder, Silent())


def test_messages_that_the_waveform_cannot_carry_in_time_are_refused(place: Path) -> None:
    config = toy.config(place, transport={"name": "rpc", "timeout_s": 2.0}, radio={"rate_hz": 5e4})
    experiment = Experiment.of(config)
    message = (
        r"the messages of a step have .* where 2 clients share 67.8 kbit/s, but transport.timeout_s is 2: "
    )
    with pytest.raises(ConfigError, match=message):
        require_time(experiment, settings_of(config))
    require_time(experiment, replace(settings_of(config), rate_hz=5e6))


def test_a_rate_is_above_0() -> None:
    with pytest.raises(ConfigError, match=r"radio.rate_hz must be above 0.0, got 0.0"):
        from_dict({"radio": {"rate_hz": 0.0}})


def test_the_scenario_has_the_runs_clients_and_seed(place: Path) -> None:
    config = toy.config(place, train={"seed": 7}, radio={"mcs": 9, "mtu_bytes": 600})
    scenario, settings = scenario_of(config, "lab-wifi"), settings_of(config)
    assert (scenario.place.users, scenario.seed) == (2, 7)
    assert (settings.modem.mcs, settings.modem.longest, settings.congestion) == (9, 600, "reno")


def test_one_client_sends_at_any_time_and_several_in_turn() -> None:
    assert turns(1) == []
    assert turns(3) == ["1100", "1010", "1001"]


def node(*others: int, sent: int = 10) -> dict[str, Any]:
    arq = {"sent": sent, "retransmissions": 2, "given_up": 0, "dropped": 1, "acknowledgements": 3}
    far = {"packets": 20, "bad": 2, "snr_db": 12.0, "delivered_bytes": 900, "arq": arq, "last": None}
    radio = {"overflows": 2}
    return {"sent_s": 0.5, "late_bursts": 1, "radio": radio, "nodes": {str(one): far for one in others}}


AIR: dict[str, Any] = {
    "rate_hz": 5e5, "seconds": 10.0, "wall_s": 10.2, "samples": 5_000_000,
    "slips": {"slipped_s": 0.2, "late_blocks": 9, "worst_late_s": 0.01},
}  # fmt: skip
MEASURED: dict[str, Any] = {
    "scenario": "ideal", "mcs": 16, "air": AIR, "nodes": [node(1, 2, sent=40), node(0, 2), node(0, 1)],
    "rows": [],
}  # fmt: skip


def test_totals_have_a_row_per_client_and_direction() -> None:
    radio = totals(MEASURED)
    rows = radio_rows(radio)
    assert [(row.client, row.direction) for row in rows] == [(0, "up"), (1, "up"), (0, "down"), (1, "down")]
    assert [row.sent for row in rows] == [10, 10, 40, 40]
    assert rows[0].error_rate == 0.1
    assert radio["airtime_s"] == [0.5, 0.5, 0.5]
    assert (radio["late_bursts"], radio["overflows"]) == (3, 6)
    assert in_words(radio, "up") == (
        "SNR 12.0 dB, 4 of 40 packets with errors (10.0 %), 4 retransmissions, 0 given up"
    )


def latest(at: int, node: int, time_s: float, snr_db: float) -> dict[str, Any]:
    return {"at": at, "node": node, "time_s": time_s, "snr_db": snr_db, "goodput_bps": 2e5}


def test_live_figures_are_those_of_links_that_were_just_heard() -> None:
    rows = [
        latest(0, 1, 9.0, 10.0),
        latest(0, 2, 10.0, 12.0),
        latest(1, 0, 10.0, 20.0),
        latest(2, 0, 3.0, 1.0),
    ]
    assert live_figures(rows) == "up 11.0 dB, 400 kbit/s; down 20.0 dB, 200 kbit/s"
    assert live_figures([]) == ""


class Link:
    """What a RadioScreen asks of a RadioLink."""

    def latest(self) -> list[dict[str, Any]]:
        return [latest(0, 1, 1.0, 10.0)]


class Shown(Silent):
    """Keeps what it shows."""

    def __init__(self) -> None:
        self.figures: list[str] = []
        self.steps = 0

    def live(self, figures: str) -> None:
        self.figures.append(figures)

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        self.steps += steps


def test_the_screen_shows_live_figures_about_once_a_second() -> None:
    clock, shown = SimulatedClock(), Shown()
    screen = RadioScreen(shown, Link(), clock)
    for tenth in range(25):
        clock.advance_to(tenth / 10)
        screen.stepped(0, 0, 1)
    assert (shown.steps, shown.figures) == (25, ["up 10.0 dB, 200 kbit/s"] * 3)


def test_a_run_that_slipped_says_that_it_was_not_in_real_time() -> None:
    radio = totals(MEASURED)
    assert in_real_time(radio) == "The waveform ran in real time: 10 s of samples took 10.2 s."
    late = {**radio, "slipped_s": 20.0, "wall_s": 30.0}
    assert in_real_time(late).startswith(
        "The waveform did NOT run in real time: 10 s of samples took 30 s, and the clock slipped by 20 s in 9"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "demo", "--radio", "ideel"), "unknown scenario 'ideel'; did you mean 'ideal'?"),
        (("run", "demo", "--radio", "ideal", "--live"), "give one of --live, --radio and --on"),
        (("radio", "bridge", "none.toml"), "cannot read the settings of a bridge from none.toml"),
    ],
)
def test_bad_input_is_one_clear_error(words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert message in result.output
