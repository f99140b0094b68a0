"""Runs whose server and clients are processes with a radio each, around the air of another process."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from experiments.report import write_report
from splitfl.core.errors import ConfigError, WireError
from splitfl.setup.experiment_file import partial
from testbed.radio.tokens.client import open_client_radio
from testbed.radio.tokens.ends import SENT, heard, told
from testbed.radio.tokens.sending import Sending
from testbed.radio.tokens.server import open_server_radio
from tests.channel.iq.free_ports import free_ports
from tests.command import Start, splitfl
from tests.splitfl import toy
from tests.testbed.radio.tokens.test_carrier import edge, events, ran

place = toy.place()

PATIENCE = {"timeout_s": 60.0, "join_timeout_s": 300.0}


def ran_between_processes(place: Path, folder: Path, start: Start, loss_db: float, **tables: Any) -> Path:
    """The folder of a toy run over an air with this path loss."""
    port = free_ports(6)
    options = ("--rate", "5e5", "--port", str(port), "--timeout", "200")
    splitfl(start, folder, "channel", "air", edge(folder, loss_db), *options)
    (folder / "run").mkdir()
    radio = {"name": "radio-nodes", "air_port": port, "rate_hz": 5e5, **PATIENCE}
    return ran(place, folder / "run", radio, **tables)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_between_processes_with_everything_acknowledged_has_the_bits_of_one_in_process(
    place: Path, tmp_path: Path, start: Start
) -> None:
    (tmp_path / "near").mkdir()
    near = ran(place, tmp_path / "near", {"name": "inproc"})
    far = ran_between_processes(place, tmp_path, start, 125.0)
    one, other = (
        safetensors.torch.load_file(folder / "adapter" / "adapter_model.safetensors")
        for folder in (near, far)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [row["loss"] for row in events(near, "step")] == [row["loss"] for row in events(far, "step")]
    assert all(row["airtime_s"] > 0.0 for row in events(far, "transfer"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_between_processes_each_end_erases_the_tokens_that_it_did_not_receive(
    place: Path, tmp_path: Path, start: Start
) -> None:
    erasure = {"activation": "zero", "gradient": "rescale"}
    folder = ran_between_processes(place, tmp_path, start, 127.3, erasure=erasure)
    activations, gradients = (
        [row for row in events(folder, "transfer") if row["kind"] == kind]
        for kind in ("Activation", "Gradient")
    )
    assert 0 < sum(row["lost_packets"] for row in activations) < sum(row["packets"] for row in activations)
    # Gradients of lost tokens are not sent.
    assert sum(row["payload_bytes"] for row in gradients) < sum(row["payload_bytes"] for row in activations)
    assert sum(row["packets"] for row in gradients) < sum(row["packets"] for row in activations)
    assert len(events(folder, "step")) > 0
    assert_both_directions_are_shown(folder)


def assert_both_directions_are_shown(folder: Path) -> None:
    """The record has what every node heard, and the report draws it."""
    record, summary = (json.loads((folder / f"{name}.json").read_text()) for name in ("radio", "summary"))
    links = summary["radio"]["links"]
    assert [(row["source"], row["target"]) for row in links] == [(1, 0), (2, 0), (0, 1), (0, 2)]
    assert all(0 < row["bad"] < row["packets"] for row in links[:2])
    assert all(row["packets"] > 0 and row["delivered_bytes"] > 0 for row in links)
    assert {row["at"] for row in record["rows"]} == {0, 1, 2}
    assert all(seconds > 0.0 for seconds in summary["radio"]["airtime_s"])
    assert summary["radio"]["wall_s"] > 0.0
    page = write_report(folder).read_text(encoding="utf-8")
    assert "whether its clock slipped is said by the air" in page
    shown = ("Mean SNR, share", "The last packet on each", "The estimated channel of", "What each node heard")
    assert all(caption in page for caption in shown)
    assert "how fast samples passed" in page


@pytest.mark.parametrize(
    ("tables", "error"),
    [
        ({"transport": {"air_port": 0}}, "air_port must be the port of an air .*, got 0"),
        (
            {"erasure": {"output": "zero"}},
            "erasure.output must be 'reliable' and .* got 'zero' and 'reliable'",
        ),
        ({"erasure": {"gradient": "stale"}}, "erasure.gradient not 'stale', got 'reliable' and 'stale'"),
        ({"transport": {"mcs": 3}}, r"\[transport\] radio-nodes: mcs must lie in \[6, 28\], got 3"),
    ],
)
def test_settings_that_do_not_work_between_processes_are_refused(tables: dict[str, Any], error: str) -> None:
    transport = {"name": "radio-nodes", "air_port": 2000, **tables.pop("transport", {})}
    config = partial({"transport": transport, **tables}, ("transport", "erasure", "federation"))
    for opened in (lambda: open_server_radio(config), lambda: open_client_radio(config, 0)):
        with pytest.raises(ConfigError, match=error):
            opened()


def test_a_request_says_what_its_message_took() -> None:
    sending = Sending(is_lost=True, took_s=0.25, samples=7, segments=3, retransmissions=2)
    assert heard(told(sending) + b"frame") == (sending, b"frame")
    with pytest.raises(WireError, match="does not say what was sent by radio"):
        heard(SENT)


@pytest.mark.parametrize("took_s", [float("nan"), float("inf"), -1.0])
def test_a_request_whose_message_took_an_impossible_time_is_refused(took_s: float) -> None:
    sending = Sending(is_lost=False, took_s=took_s, samples=7, segments=3, retransmissions=2)
    with pytest.raises(WireError, match=f"must take a finite time of at least 0, got {took_s}"):
        heard(told(sending))
