"""Processes with a radio are killed: the run goes back, or is resumed, and ends with the same bits."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import safetensors.torch
import torch

from splitfl.core.errors import ConfigError
from splitfl.core.messages import Join, Leave, Message
from splitfl.setup.experiment_file import from_dict
from splitfl.setup.fault_tolerance import check_fault_tolerance
from splitfl.transport.radio.spec import RadioSettings
from splitfl.wire import Envelope, encode
from testbed.radio.tokens.server import TokenServer
from tests.channel.iq.free_ports import free_ports
from tests.command import Command, Start, splitfl
from tests.experiments.test_runs_that_lose_somebody import client_of, rounds_done, run_folder
from tests.splitfl import toy
from tests.testbed.radio.tokens.test_carrier import edge, events
from tests.testbed.waiting import until

place = toy.place()
AIR_TIMEOUT_S = 100
SHORT = {
    "federation": {"clients": 2, "rounds": 4, "local_steps": 2},
    "train": {"batch_size": 4},
    "eval": {"every": 4},
    "fault_tolerance": {"on_loss": "rollback", "reconnect_timeout_s": 200.0},
}


def started(place: Path, folder: Path, start: Start) -> Command:
    """A run of two clients around an air that waits for a node as long as its restart may take."""
    port = free_ports(6)
    options = ("--rate", "5e5", "--port", str(port), "--timeout", str(AIR_TIMEOUT_S), "--pace", "free")
    splitfl(start, folder, "channel", "air", edge(folder, 110.0), *options)
    radio = {"name": "radio-nodes", "air_port": port, "rate_hz": 5e5, "timeout_s": 5.0}
    (folder / "toy.json").write_text(json.dumps(toy.table(place, transport=radio, **SHORT)))
    return splitfl(start, folder, "run", folder / "toy.json", "--out", folder / "runs")


def assert_bits_of_one_process(place: Path, folder: Path, start: Start) -> None:
    """Also that the air did not wait for a client that left before the other."""
    path = folder / "near.json"
    path.write_text(json.dumps(toy.table(place, transport={"name": "inproc"}, **SHORT)))
    command = splitfl(start, folder, "run", path, "--out", folder / "near" / "runs")
    assert command.code(200.0) == 0, command.complained()
    near, far = run_folder(folder / "near"), run_folder(folder)
    assert [row["loss"] for row in events(near, "step")] == [row["loss"] for row in events(far, "step")]
    assert events(far, "round")[-1]["wall_s"] < AIR_TIMEOUT_S
    one, other = (
        safetensors.torch.load_file(run / "adapter" / "adapter_model.safetensors") for run in (near, far)
    )
    assert all(torch.equal(one[name], other[name]) for name in one | other)


def test_clients_that_leave_keep_their_radios_until_all_have_left_or_the_run_is_restarted() -> None:
    answered: list[int] = []

    def asks(client: int, message: Message) -> None:
        request = encode(message, Envelope(client=client, round=0, lap=0))
        ask(client, request, lambda reply: answered.append(client))

    server = TokenServer(lambda: cast(Any, None), RadioSettings(), 1.0, clients=2)
    ask = server.handler(lambda client, request, answer: answer(b"reply"))
    asks(1, Leave())
    assert answered == []
    asks(0, Leave())
    assert sorted(answered) == [0, 1]
    asks(1, Leave())
    asks(0, Join())
    assert answered[2:] == [1, 0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_go_back_where_a_client_with_a_radio_is_killed(place: Path, tmp_path: Path, start: Start) -> None:
    command = started(place, tmp_path, start)
    until(lambda: rounds_done(tmp_path) >= 1, 200.0)
    client_of(command, 1).kill()
    assert command.code(200.0) == 0, command.complained()
    assert command.complained().count("rolling back to the last checkpoint") == 1
    assert_bits_of_one_process(place, tmp_path, start)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_with_a_radio_is_killed_and_resumed(place: Path, tmp_path: Path, start: Start) -> None:
    command = started(place, tmp_path, start)
    until(lambda: rounds_done(tmp_path) >= 1, 200.0)
    command.process.kill()
    command.process.wait()
    resumed = splitfl(start, tmp_path, "resume", run_folder(tmp_path))
    assert resumed.code(200.0) == 0, resumed.complained()
    assert_bits_of_one_process(place, tmp_path, start)


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"on_loss": "continue"}, "on_loss must be 'abort' or 'rollback' with the transport 'radio-nodes', "),
        ({"quorum": 1}, "fault_tolerance.quorum must be 0 with the transport 'radio-nodes', whose air needs"),
        ({"step_s": 2.5}, "fault_tolerance.step_s must be 0 with .* all clients, got 2.5"),
    ],
)
def test_a_run_whose_air_needs_all_clients_does_not_continue_without_one(
    table: dict[str, Any], error: str
) -> None:
    config = from_dict({"transport": {"name": "radio-nodes", "air_port": 2000}, "fault_tolerance": table})
    with pytest.raises(ConfigError, match=error):
        check_fault_tolerance(config)
