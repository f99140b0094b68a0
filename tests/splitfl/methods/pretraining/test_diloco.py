"""Local steps and outer gradients, beside the methods and settings that they equal."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import Adapter, AdapterDelta, Begin, Done
from splitfl.methods.parts.method import Turn
from splitfl.methods.pretraining.diloco import local_steps
from splitfl.setup.adapter_codec import EncodingClient
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.methods.losing import Losing

FULL = {side: {"kind": "full"} for side in ("head", "body")}
ROUNDS, STEPS = 3, 2

place = toy.place(is_base=True, rows=40)


def settings(place: Path, **tables: Any) -> RunConfig:
    tables["method"] = {"name": "diloco", **tables.get("method", {})}
    federation = {"rounds": ROUNDS, "local_steps": STEPS, "partition": "iid", **tables.pop("federation", {})}
    return toy.config(place, federation=federation, adapter=FULL, **tables)


def played(place: Path, folder: Path, link: Losing | None = None, **tables: Any) -> Played:
    return play(Experiment.of(settings(place, **tables)), folder, link)


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-6, atol=1e-6)


ONCE = {"rounds": 1, "local_steps": 4}
"""In later rounds AdamW divides the rounding errors of gradients that are zero by themselves."""

SGD = {"outer_optimiser": "sgd", "outer_lr": 1.0}


@pytest.mark.slow
def test_outer_sgd_with_rate_1_is_fedlora_with_all_weights(place: Path, tmp_path: Path) -> None:
    own, other = (
        played(place, tmp_path, method=method, federation=ONCE)
        for method in ({**SGD, "betas": [0.9, 0.999]}, {"name": "fedlora"})
    )
    assert own.losses == other.losses
    assert_close(own.trained, other.trained)


def test_a_reply_to_begin_says_how_many_batches_were_handed_out(place: Path, tmp_path: Path) -> None:
    """Client 1 does not hear of it in the second round, in which its work is handed out all the same."""
    run = played(place, tmp_path, Losing(frozenset({(1, "down", 2)})))
    told = [
        (client, at, reply.first_batch)
        for client, at, message, reply in run.said
        if isinstance(message, Begin) and isinstance(reply, Done | Adapter)
    ]
    assert told == [(0, 0, 0), (1, 0, 2), (0, 1, 4), (0, 2, 8), (1, 2, 10)]


@pytest.mark.slow
def test_encoded_replies_say_how_many_batches_were_handed_out(place: Path, tmp_path: Path) -> None:
    run = played(place, tmp_path, codec={"adapter_up": "int8", "adapter_down": "int8"})
    told = [reply.first_batch for _, _, _, reply in run.said if isinstance(reply, AdapterDelta)]
    assert told == [4, 6, 8, 10]
    assert [int(node._method.state()["method.batch"]) for node in run.nodes] == [10, 12]


def test_steps_by_speed_are_in_proportion_to_the_fastest_client(place: Path) -> None:
    federation = {"clients": 3, "local_steps": 32, "client_flops": [0.5e10, 0.158e10, 1e10]}
    assert local_steps(settings(place, method={"pace": "speed"}, federation=federation)) == (16, 6, 32)
    assert local_steps(settings(place, federation=federation)) == (32, 32, 32)


@pytest.mark.slow
def test_clients_at_their_own_pace_take_their_steps(place: Path, tmp_path: Path) -> None:
    federation = {"clients": 2, "client_flops": [1e9, 4e9], "local_steps": 4, "schedule": "buffered"}
    federation |= {"buffer": 1, "aggregator": "mean"}
    delayed = {"outer_optimiser": "delayed-nesterov", "outer_every": 2, "outer_share": 0.1}
    run = played(place, tmp_path, method={"pace": "speed", **delayed}, federation=federation)
    uploads = [
        (client, len(message.losses)) for client, *_, message, _ in run.said if isinstance(message, Adapter)
    ]
    assert set(uploads) == {(0, 1), (1, 4)}
    assert len(run.rows("update")) == 2 * ROUNDS


@pytest.mark.slow
def test_top_k_of_all_numbers_is_outer_sgd_without_an_error(place: Path, tmp_path: Path) -> None:
    codec = {"adapter_up": "topk:k=4096", "error_decay": 0.95}
    sparse, dense = (played(place, tmp_path, method=SGD, codec=own, federation=ONCE) for own in (codec, {}))
    assert_close(sparse.trained, dense.trained)
    for node in played(place, tmp_path, method=SGD, codec=codec).nodes:
        assert isinstance(node._method, EncodingClient)
        assert not any(value.any() for value in node._method._error.values())


@pytest.mark.slow
def test_a_client_adds_its_decayed_error_to_the_next_update(place: Path, tmp_path: Path) -> None:
    def errors(decay: float) -> dict[str, Tensor]:
        codec = {"adapter_up": "topk:k=2", "error_decay": decay}
        run = played(place, tmp_path, method=SGD, codec=codec, federation={"rounds": 1})
        assert isinstance(run.nodes[0]._method, EncodingClient)
        return run.nodes[0]._method._error

    whole, half = errors(1.0), errors(0.5)
    assert any(value.any() for value in whole.values())
    assert all(torch.equal(half[name], 0.5 * value) for name, value in whole.items())


def test_an_update_of_other_tensors_is_refused(place: Path) -> None:
    server = Experiment.of(settings(place)).server_method()
    turn = Turn(client=0, round=0, lap=1, position=2)
    name = "classifier.bias"
    for tensors, reason in (
        ({name: torch.zeros(3)}, r"an update has 'classifier.bias' of shape \[3\], which has \[2\]"),
        ({"x": torch.zeros(1)}, r"an update has 'x' of shape \[1\], which is not trained"),
    ):
        with pytest.raises(WireError, match=reason):
            server.compute(turn, Adapter(version=0, samples=1, tensors=tensors))
    with pytest.raises(WireError, match="version of an update must lie in"):
        server.compute(turn, Adapter(version=1, samples=1, tensors={name: torch.zeros(2)}))


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"federation": {"local_steps": 0}},
        "local_steps must be at least 1 with the method 'diloco'",
    ),
    ({"method": {"pace": "speed"}}, "client_flops must have each client's speed with method.pace 'speed'"),
    (
        {
            "method": {"pace": "speed"},
            "federation": {"client_flops": [1e9, 2e9], "client_steps": [1, 2]},
        },
        r"client_steps must be \[\] with method.pace 'speed', which gives each client's steps; got \[1, 2\]",
    ),
    (
        {"codec": {"adapter_up": "topk:k=64+int8"}},
        "outer_optimiser must be 'sgd' with codec.adapter_up 'topk:k=64.int8'.*; got 'nesterov'",
    ),
    ({"federation": {"server_optimiser": "adam"}}, "'diloco' does not read federation.server_optimiser"),
    (
        {"codec": {"error_decay": 0.9}},
        "error_decay is read only with codec.adapter_up: leave it at 1.0, got 0.9",
    ),
    (
        {"codec": {"adapter_up": "int8", "error_feedback": False, "error_decay": 0.9}},
        "error_decay is read only with codec.error_feedback: leave it at 1.0, got 0.9",
    ),
    ({"codec": {"adapter_up": "int8", "error_decay": 0.0}}, r"error_decay must lie in \(0, 1\], got 0.0"),
]


@pytest.mark.parametrize(("tables", "reason"), REFUSED)
def test_settings_that_exclude_each_other_are_refused(
    tables: dict[str, Any], reason: str, place: Path
) -> None:
    with pytest.raises(ConfigError, match=reason):
        Experiment.of(settings(place, **tables))
