"""Runs whose messages cross the waveform in one process: the same bits, or the tokens that arrived."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import splitfl
from channel.core.link import Transfer
from experiments.local_clients import run_here
from experiments.report import write_report
from splitfl.config import LinkConfig
from splitfl.controller.budget import resolved
from splitfl.core.errors import ConfigError
from splitfl.run_folder.overview import overview
from splitfl.runtime.screen import Silent
from splitfl.server.run import write_json
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict, partial
from splitfl.setup.links import check_link
from splitfl.setup.overriding import resolved_settings
from testbed.errors import RadioTimeout
from testbed.radio.tokens import on_demand
from testbed.radio.tokens.carrier import open_carrier
from tests.channel.iq.free_ports import free_ports
from tests.command import Start
from tests.command import splitfl as command
from tests.splitfl import toy

place = toy.place()

EDGE = """
[place]
environment = "constant"
loss_db = {loss_db}
users = 2
shadowing = false
[fading]
profile = "none"
[carrier]
base_dbm = 23.0
user_noise_figure_db = 5.0
uplink_target_snr_db = 80.0
"""


def ran(place: Path, folder: Path, transport: dict[str, Any], **tables: Any) -> Path:
    """The folder of a toy run of one round of two steps over this transport."""
    short = {"federation": {"clients": 2, "rounds": 1, "local_steps": 2}, "train": {"batch_size": 4}}
    table = toy.table(place, transport=transport, **short, **tables)
    config = resolved(from_dict(table))
    for name, content in (("config", as_dict(config)), ("environment", {})):
        write_json(folder / f"{name}.json", content)
    run_here(Experiment.of(config), lambda: folder, Silent())
    return folder


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == name]


def edge(folder: Path, loss_db: float) -> str:
    path = folder / "edge.toml"
    path.write_text(EDGE.format(loss_db=loss_db))
    return str(path)


@pytest.mark.slow
def test_a_run_with_everything_acknowledged_has_the_bits_of_the_run_in_one_process(
    place: Path, tmp_path: Path
) -> None:
    for name in ("inproc", "radio"):
        (tmp_path / name).mkdir()
    near = ran(place, tmp_path / "inproc", {"name": "inproc"})
    radio = {"name": "radio", "scenario": edge(tmp_path, 124.2)}
    far = ran(place, tmp_path / "radio", radio)
    one, other = (
        safetensors.torch.load_file(folder / "adapter" / "adapter_model.safetensors")
        for folder in (near, far)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [row["loss"] for row in events(near, "step")] == [row["loss"] for row in events(far, "step")]
    assert sum(row["retransmissions"] for row in events(far, "transfer")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mask", "zero", "rescale", "stale"])
def test_policies_work_with_the_tokens_that_were_received(policy: str, place: Path, tmp_path: Path) -> None:
    radio = {"name": "radio", "scenario": edge(tmp_path, 124.2)}
    gradient = "zero" if policy == "mask" else policy
    folder = ran(place, tmp_path, radio, erasure={"activation": policy, "gradient": gradient})
    lossy = [row for row in events(folder, "transfer") if row["kind"] in ("Activation", "Gradient")]
    assert 0 < sum(row["lost_packets"] for row in lossy) < sum(row["packets"] for row in lossy)
    assert all(row["airtime_s"] > 0.0 for row in lossy)
    if policy == "zero":
        assert_recorded(folder)


def assert_recorded(folder: Path) -> None:
    """The record agrees with the events, and the report draws it."""
    record, summary = (json.loads((folder / f"{name}.json").read_text()) for name in ("radio", "summary"))
    links = summary["radio"]["links"]
    assert [(row["source"], row["target"]) for row in links] == [(1, 0), (2, 0), (0, 1), (0, 2)]
    assert all(0 < row["bad"] < row["packets"] for row in links[:2])
    assert "wall_s" not in summary["radio"]
    assert sum(summary["radio"]["airtime_s"]) == pytest.approx(summary["airtime_s"])
    assert sum(row["retransmissions"] for row in links) == summary["retransmissions"]
    for target, source in ((0, 1), (1, 0)):
        rows = [row for row in record["rows"] if (row["at"], row["node"]) == (target, source)]
        assert sum(row["packets"] for row in rows) == record["nodes"][target]["nodes"][str(source)]["packets"]
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<h2>Waveform</h2>" in page
    for caption in ("The last packet on each link", "The estimated channel of each", "What each node heard"):
        assert caption in page
    assert "how fast samples passed" not in page


@pytest.mark.parametrize(
    ("transport", "tables", "error"),
    [
        ({"scenario": "nowhere"}, {}, "unknown scenario 'nowhere'"),
        (
            {"scenario": "jammed", "air_port": 2000},
            {},
            "transport.scenario is that of the air, if transport.air_",
        ),
        ({"air_port": 70_000}, {}, r"transport.air_port must lie in \[0, 65535\], got 70000"),
        ({"mcs": 3}, {}, r"\[transport\] radio: mcs must lie in \[6, 28\], got 3"),
        ({"packet_bytes": 20_000}, {}, r"size must lie in \[0, 16383\], got 20000"),
        ({"token_packet_bytes": 70_000}, {}, r"packet_bytes must lie in \[1, 65535\], got 70000"),
        ({}, {"federation": {"clients": 5}}, "clients must be at most the 4 users of .* 'ideal', got 5"),
    ],
)
def test_settings_that_scenario_or_modem_do_not_support_are_refused(
    transport: dict[str, Any], tables: dict[str, Any], error: str
) -> None:
    table = {"transport": {"name": "radio", **transport}, **tables}
    with pytest.raises(ConfigError, match=error):
        open_carrier(partial(table, ("federation", "transport")))


def test_without_numba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channel.coding.extra.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs numba; install with: pip install 'splitfl\[radio\]'"):
        on_demand.open_carrier(partial({"transport": {"name": "radio"}}, ("transport",)))


def test_without_pyzmq_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(ConfigError, match=r"need the library pyzmq: pip install 'splitfl\[radio\]'"):
        open_carrier(partial({"transport": {"name": "radio", "air_port": 2000}}, ("transport",)))


@pytest.mark.parametrize("table", [{"link": {"mtu_bytes": 600}}, {"analog": {"snr_db": 3.0}}])
def test_settings_of_emulated_links_are_refused(table: dict[str, dict[str, Any]]) -> None:
    config = partial({"transport": {"name": "radio"}, **table}, ("link", "analog", "transport"))
    (name,) = table
    with pytest.raises(
        ConfigError, match=f"{name}.* is read by emulated links, not by the transport 'radio'"
    ):
        check_link(config)


def test_the_link_of_a_preset_is_dropped_and_said() -> None:
    said: list[str] = []
    table = {"link": {"up": {"loss_rate": 0.1}}, "transport": {"name": "grpc"}}
    config = resolved_settings(table, ["transport.name=radio"], said.append)
    assert config.link == LinkConfig()
    assert "dropped from the experiment, since its transport is no emulated link: link.up" in said


def test_it_needs_the_radios_of_the_command_line(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'radio' needs radios: use the command `splitfl`"):
        splitfl.run(toy.table(place), out=tmp_path, **{"transport.name": "radio"})


@pytest.mark.slow
def test_a_message_that_nobody_answers_is_lost_as_a_whole_and_the_next_one_arrives() -> None:
    carrier = open_carrier(partial({"transport": {"name": "radio", "rate_hz": 5e5}}, ("transport",)))
    client = carrier._ends[0][1]
    take, client.modem.receive = client.modem.receive, lambda: take()[:0]
    transfer = Transfer(client=0, direction="down", sequence=0, payload_bytes=3, start_s=1.0)
    delivery, frame = carrier.carry(transfer, b"abc")
    assert (delivery.is_complete, frame, delivery.rows) == (False, b"", None)
    assert delivery.finish_s > 1.0
    client.modem.receive = take
    delivery, frame = carrier.carry(transfer, b"def")
    assert (delivery.is_complete, frame) == (True, b"def")
    assert 0.0 < delivery.airtime_s < delivery.finish_s - 1.0


@pytest.mark.slow
def test_an_air_that_is_not_there_ends_the_run_in_time(place: Path, tmp_path: Path) -> None:
    radio = {"name": "radio", "air_port": free_ports(6), "timeout_s": 0.2}
    with pytest.raises(RadioTimeout, match=r"gave 0 of 5000 samples in 0\.2 s"):
        ran(place, tmp_path, radio)


@pytest.mark.slow
def test_a_run_over_the_air_of_another_process_has_the_bits_of_the_run_in_one_process(
    place: Path, tmp_path: Path, start: Start
) -> None:
    port, air = free_ports(6), tmp_path / "air"
    air.mkdir()
    options = ("--rate", "1e6", "--port", str(port), "--timeout", "30", "--pace", "free")
    server = command(start, air, "channel", "air", edge(tmp_path, 122.0), *options)
    near, far = tmp_path / "near", tmp_path / "far"
    for folder in (near, far):
        folder.mkdir()
    ran(place, near, {"name": "inproc"})
    ran(place, far, {"name": "radio", "air_port": port, "timeout_s": 60.0})
    assert server.process.poll() is None
    assert [row["loss"] for row in events(near, "step")] == [row["loss"] for row in events(far, "step")]
    summary = json.loads((far / "summary.json").read_text())
    assert dict(overview(summary))["airtime"].endswith("over all clients (waveform)")
