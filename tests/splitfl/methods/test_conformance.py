"""What every method must keep to: who says what, and what becomes of it where a message is lost."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.adapters.inject import install
from splitfl.config import RunConfig, key_types
from splitfl.core.checkpoint import save
from splitfl.core.errors import WireError
from splitfl.core.messages import (
    LOST,
    Activation,
    Adapter,
    Begin,
    Done,
    Gradient,
    Leave,
    Message,
    Reply,
    RunOver,
)
from splitfl.methods.parts.auxiliary import PREFIX
from splitfl.methods.parts.method import Turn
from splitfl.methods.registry import METHODS, method
from splitfl.setup.experiment import Experiment
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import Played, play, play_once
from tests.splitfl.methods.losing import Losing

# torch itself compiles what forward mode needs the first time it is used, in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

ROUNDS, STEPS = 3, 3
FIRST = Turn(client=0, round=0, lap=0, position=0)


STEPWISE = [name for name, one in METHODS.items() if one.signature.step]
UPLOADING = [
    pytest.param(
        name, marks=[] if name in ("sfl-v2", "fedlora") else pytest.mark.slow
    )  # others share heads.py
    for name, one in METHODS.items()
    if one.signature.end == (Adapter, Done)
]


place = toy.place(is_base=True, rows=40)


def settings(place: Path, name: str, clients: int = 2, **tables: dict[str, Any]) -> RunConfig:
    federation = {"clients": clients, "rounds": ROUNDS, "local_steps": STEPS}
    tables["method"] = {"name": name, **tables.get("method", {})}
    return toy.config(place, federation=federation, **tables)


def site(place: Path, name: str, clients: int = 2, **tables: dict[str, Any]) -> Experiment:
    return Experiment.of(settings(place, name, clients, **tables))


def whole_run(place: Path, name: str, clients: int = 2) -> Played:
    """The run in which nothing is lost; not to be changed."""
    return play_once(settings(place, name, clients), place)


def said_by(played: Played, client: int, round_index: int) -> list[tuple[Message, Reply]]:
    """One client's messages in a round, with their answers."""
    return [
        (message, reply)
        for one, at, message, reply in played.said
        if (one, at) == (client, round_index) and not (isinstance(message, Leave))
    ]


LONG = ("sfl-v2", "hybrid", "fedlora", "hosl", "heron", "mu-splitfed", "hiso", "fedkseed", "spry")
EVERY = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in METHODS]


def expected(name: str, round_index: int) -> list[tuple[type, type]]:
    """What the method's spec declares of a round."""
    signature = METHODS[name].signature
    begins = (Begin, signature.begin if round_index else Done)
    return [begins, *signature.step * STEPS, *([signature.end] if signature.end else [])]


def common(adapter: Adapter) -> dict[str, Tensor]:
    """What is every client's: an aligned auxiliary is one client's own."""
    return {name: value for name, value in adapter.tensors.items() if not name.startswith(PREFIX)}


def up(name: str, round_index: int, lap: int) -> int:
    """The number of this message among all that a client sends; a lost one is never sent again."""
    return round_index * len(expected(name, round_index)) + lap


@pytest.mark.parametrize("name", quick(METHODS, "fedkseed"))
def test_a_method_exchanges_the_messages_of_its_signature(name: str, place: Path) -> None:
    played = whole_run(place, name)
    for client in range(2):
        for round_index in range(ROUNDS):
            said = said_by(played, client, round_index)
            assert [(type(message), type(reply)) for message, reply in said] == expected(name, round_index)
            begin = said[0][0]
            assert isinstance(begin, Begin)
            assert begin.steps == len(said) - 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_refuses_unexpected_messages(name: str, place: Path) -> None:
    server = site(place, name).server_method()
    ids_B = torch.arange(1)
    strange: list[Message] = [
        Gradient(ids_B=ids_B, grad=torch.zeros(1)),
        Activation(ids_B=ids_B, hidden=None),
        RunOver(),
    ]
    for message in strange:
        with pytest.raises(WireError, match=f"the method {name!r} has no reply to it"):
            server.compute(FIRST, message)


@pytest.mark.parametrize("name", EVERY)
def test_a_servers_trained_tensors_fit_the_model_and_a_checkpoint(
    name: str, place: Path, tmp_path: Path
) -> None:
    played = whole_run(place, name)
    install(site(place, name).whole(), played.trained)
    tensors = {**played.trained, **{f"moments.{key}": value for key, value in played.server.state().items()}}
    assert len(tensors) == len(played.trained) + len(played.server.state())
    save(tmp_path / "state.safetensors", tensors, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_run_survives_the_loss_of_any_one_message(
    name: str, direction: str, place: Path, tmp_path: Path
) -> None:
    whole = whole_run(place, name)
    assert whole.ledger.total(direction).messages == 2 * up(name, ROUNDS, 0)
    for sequence in range(up(name, 1, 0), up(name, 2, 0)):
        played = play(site(place, name), tmp_path, Losing(frozenset({(1, direction, sequence)})))
        assert played.ledger.total(direction).lost == 1
        assert len(played.ends) == ROUNDS
        missing = whole.trained.keys() - played.trained.keys()
        assert not missing or name == "spry", "only a slice that was lost is known to nobody"
        assert [reply is LOST for _, _, _, reply in played.said].count(True) == 1


@pytest.mark.parametrize("name", quick(STEPWISE, "sfl-v2"))
def test_a_lost_activation_skips_the_step_on_both_sides(name: str, place: Path, tmp_path: Path) -> None:
    whole = whole_run(place, name, clients=1)
    lost = frozenset({(0, "up", up(name, 1, 1 + len(METHODS[name].signature.step)))})
    played = play(site(place, name, clients=1), tmp_path, Losing(lost))
    before = STEPS + 1
    assert played.losses[:before] == whole.losses[:before]
    assert len(played.losses) == len(whole.losses) - 1
    assert [(row["round"], row["step"]) for row in played.rows("step")][before] == (1, 2)
    assert played.ledger.total("down").messages == whole.ledger.total("down").messages - 1
    assert played.ledger.total_flops("server") < whole.ledger.total_flops("server")


@pytest.mark.parametrize("name", quick(STEPWISE, "hybrid"))
def test_a_lost_reply_keeps_the_servers_step(name: str, place: Path, tmp_path: Path) -> None:
    whole = whole_run(place, name, clients=1)
    lost = frozenset({(0, "down", 2 * len(METHODS[name].signature.step))})
    played = play(site(place, name, clients=1), tmp_path, Losing(lost))
    assert played.losses[:2] == whole.losses[:2]
    assert len(played.losses) == len(whole.losses)
    sides = [[row["side"] for row in run.rows("compute")] for run in (whole, played)]
    assert sides[0].count("server") == sides[1].count("server")


def test_a_lost_gradient_leaves_the_head_unchanged(place: Path, tmp_path: Path) -> None:
    lost = frozenset(
        (0, "down", up("sfl-v2", round_index, lap)) for round_index in range(ROUNDS) for lap in (1, 2, 3)
    )
    one = site(place, "sfl-v2", clients=1)
    played = play(one, tmp_path, Losing(lost))
    uploads = [message for _, _, message, _ in played.said if isinstance(message, Adapter)]
    assert [upload.samples for upload in uploads] == [0, 0, 0]
    assert not any(
        value.any() for upload in uploads for name, value in upload.tensors.items() if "lora_B" in name
    )
    assert len(played.losses) == ROUNDS * STEPS
    body = [value for name, value in played.trained.items() if "lora_B" in name]
    assert body
    assert all(value.any() for value in body)


@pytest.mark.slow
def test_after_a_lost_reply_frozen_sends_the_activation_again(place: Path, tmp_path: Path) -> None:
    one = site(place, "frozen", clients=1, train={"batch_size": 64})
    lost = frozenset({(0, "down", 1)})
    sizes = {}
    for label, link in (("ideal", Losing(frozenset())), ("lossy", Losing(lost))):
        played = play(one, tmp_path, link)
        sent = [message for _, _, message, _ in played.said if isinstance(message, Activation)]
        sizes[label] = [message.hidden is not None for message in sent]
    assert sizes["ideal"] == [True] + [False] * (ROUNDS * STEPS - 1)
    assert sizes["lossy"] == [True, True] + [False] * (ROUNDS * STEPS - 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", UPLOADING)
def test_a_lost_upload_is_excluded_from_the_mean(name: str, place: Path, tmp_path: Path) -> None:
    if "outer_optimiser" in key_types(METHODS[name].settings):
        pytest.skip(f"the server of {name} does not send the mean")
    lost = frozenset({(1, "up", up(name, 0, len(expected(name, 0)) - 1))})
    played = play(site(place, name), tmp_path, Losing(lost))
    (own,) = [m for m, _ in said_by(played, 0, 0) if isinstance(m, Adapter)]
    received = said_by(played, 0, 1)[0][1]
    assert isinstance(received, Adapter)
    assert received.version == 1
    assert all(torch.equal(value, own.tensors[key]) for key, value in common(received).items())


@pytest.mark.slow
@pytest.mark.parametrize("name", UPLOADING)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_client_that_missed_an_adapter_catches_up(
    name: str, direction: str, place: Path, tmp_path: Path
) -> None:
    lost = frozenset({(1, direction, up(name, 1, 0))})
    played = play(site(place, name), tmp_path, Losing(lost))
    replies = [[said_by(played, client, at)[0][1] for client in range(2)] for at in range(ROUNDS)]
    assert replies[1][1] is LOST
    steady, behind = replies[2]
    assert isinstance(steady, Adapter)
    assert isinstance(behind, Adapter)
    assert steady.version == behind.version == 2
    # RoLoRA changed B in round 0 and A in round 1: who missed the first gets both now.
    assert {key for key in steady.tensors if "lora_B" in key} == set()
    assert {key for key in behind.tensors if "lora_B" in key} != set()
    assert behind.tensors.keys() >= steady.tensors.keys()
    assert all(torch.equal(behind.tensors[key], value) for key, value in common(steady).items())


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"unknown method.name 'sfl-v3'; did you mean 'sfl-v2'\? have .*fedlora"
    ):
        method("sfl-v3")


ENDING = [
    pytest.param(name, marks=[] if name == "hybrid" else [pytest.mark.slow, pytest.mark.long])
    for name, one in METHODS.items()
    if one.signature.end
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDING)
@pytest.mark.parametrize("lap", ["first begin", "answer to the first begin", "thanks for the work"])
def test_losing_a_message_without_news_changes_nothing(
    name: str, lap: str, place: Path, tmp_path: Path
) -> None:
    """All are new at first and have the same, thanks tell nothing that the next beginning does not."""
    whole = whole_run(place, name)
    last = len(expected(name, 0)) - 1
    lost = {"first begin": (1, "up", 0), "answer to the first begin": (1, "down", 0)}.get(
        lap, (1, "down", last)
    )
    played = play(site(place, name), tmp_path, Losing(frozenset({lost})))
    assert played.ledger.total(lost[1]).lost == 1
    assert played.losses == whole.losses
    assert all(torch.equal(value, whole.trained[key]) for key, value in played.trained.items())
