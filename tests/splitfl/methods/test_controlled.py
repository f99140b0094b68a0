"""`sfl-v2` that is told in every round what to do: one plan for ever is the ordinary method."""

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from channel.core.link import Link
from splitfl.accounting.ledger import Ledger
from splitfl.config import AutoConfig, FederationConfig, RunConfig
from splitfl.controller.controller import Controller, with_single_plan
from splitfl.core.errors import WireError
from splitfl.core.events import Events
from splitfl.core.messages import LOST, Activation, Adapter, Begin, Done, Gradient, Plan, Skip
from splitfl.methods.parts.auxiliary import PREFIX
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import Played, play, play_once
from tests.splitfl.methods.losing import Losing

SIDES = {"head": {"rank": 4}, "body": {"rank": 4}}


place = toy.place(is_base=True, rows=40)


def tables(aggregator: str = "rolora", **federation: Any) -> dict[str, Any]:
    clients = {"clients": 2, "aggregator": aggregator, "rounds": 3, "partition": "iid", **federation}
    return {"federation": clients, "adapter": SIDES}


def played_by(
    place: Path,
    folder: Path,
    plan: Plan,
    aggregator: str = "rolora",
    clients: int = 2,
    link: Link | None = None,
    **settings: Any,
) -> Played:
    auto = {"budget": "bytes", "limit": 1e9, "every": 1, "cuts": [plan.cut], "methods": [plan.method]}
    table = {**tables(aggregator, clients=clients), **settings}
    return play(Experiment.of(with_single_plan(toy.config(place, auto=auto, **table), plan)), folder, link)


def turning(place: Path, *plans: Plan) -> Experiment:
    """A run whose plans may be these."""
    auto = {
        "budget": "bytes",
        "limit": 1e9,
        "every": 1,
        "methods": sorted({"sfl-v2", "frozen", *(plan.method for plan in plans)}, reverse=True),
        "cuts": sorted({plan.cut for plan in plans}),
        "ranks": sorted({plan.rank for plan in plans}, reverse=True),
        "codecs": ["none"],
        "chosen": ["by this test"],
    }
    held = max(plan.cut for plan in plans)
    least = {"cut": min(plan.cut for plan in plans)}
    return Experiment.of(toy.config(place, auto=auto, partition=least, **tables(client_cuts=[held] * 2)))


@pytest.mark.parametrize("aggregator", ["rolora", pytest.param("mean", marks=pytest.mark.slow)])
def test_a_constant_plan_equals_sfl_v2_bit_for_bit(aggregator: str, place: Path, tmp_path: Path) -> None:
    planned = played_by(place, tmp_path, Plan(method="sfl-v2", cut=2, rank=4), aggregator)
    table = {**tables(aggregator, client_cuts=[2, 2]), "partition": {"cut": 2}}
    plain = play(Experiment.of(toy.config(place, **table)), tmp_path)
    assert planned.losses == plain.losses
    assert planned.trained.keys() == plain.trained.keys()
    assert all(torch.equal(value, plain.trained[name]) for name, value in planned.trained.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "clients", "settings"),
    [
        ("cse-fsl", 2, {}),
        ("cse-fsl", 1, {"upload_interval": 2, "auxiliary_blocks": 1}),
        ("hybrid", 1, {"perturbations": 2}),
        ("hybrid", 1, {"derivative": "central", "slices": True}),
    ],
)
def test_a_constant_plan_equals_its_method_bit_for_bit(
    name: str, clients: int, settings: Any, place: Path, tmp_path: Path
) -> None:
    """For one client alone by hybrid, where the mean of several heads is not the sum of their moves; and with
    rare uploads, as who takes turns with whom is another matter where skipped batches take one, too.
    """
    planned = played_by(place, tmp_path, Plan(method=name, cut=2, rank=4), clients=clients, method=settings)
    table = {**tables(clients=clients), "partition": {"cut": 2}, "method": {"name": name, **settings}}
    plain = play(Experiment.of(toy.config(place, **table)), tmp_path)
    assert planned.losses == plain.losses
    assert planned.trained.keys() == plain.trained.keys()
    assert all(torch.equal(value, plain.trained[name]) for name, value in planned.trained.items())
    assert planned.losses[-1] < planned.losses[0]


@pytest.mark.slow
def test_a_method_of_another_package_with_a_local_update_can_be_chosen(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = dataclasses.replace(METHODS["sfl-v2"], about="as sfl-v2, by another name")
    monkeypatch.setitem(vars(METHODS)["_own"], "twin", twin)
    planned = played_by(place, tmp_path, Plan(method="twin", cut=2, rank=4))
    assert planned.losses == played_by(place, tmp_path, Plan(method="sfl-v2", cut=2, rank=4)).losses


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sfl-v2", "cse-fsl", "hybrid"])
@pytest.mark.parametrize("lost", [("up", 2), ("down", 2)])
def test_a_lost_message_has_the_same_effect_as_in_the_plans_method(
    name: str, lost: tuple[str, int], place: Path, tmp_path: Path
) -> None:
    plan, link = Plan(method=name, cut=2, rank=4), Losing(frozenset({(0, *lost)}))
    planned = played_by(place, tmp_path, plan, clients=1, link=link)
    table = {**tables(clients=1), "partition": {"cut": 2}, "method": {"name": name}}
    plain = play(Experiment.of(toy.config(place, **table)), tmp_path, link)
    assert any(reply is LOST for *_, reply in planned.said)
    assert planned.losses == plain.losses
    assert all(torch.equal(value, plain.trained[name]) for name, value in planned.trained.items())


def test_batches_without_an_upload_send_skip_messages(place: Path, tmp_path: Path) -> None:
    plan, settings = Plan(method="cse-fsl", cut=2, rank=4), {"upload_interval": 3}
    played = played_by(place, tmp_path, plan, method=settings)
    said = [message for who, at, message, _ in played.said if (who, at) == (0, 0)]
    kinds = [getattr(message, "ask", "") or type(message).__name__ for message in said]
    assert kinds == ["Begin", "Activation", "Skip", "Skip", "Adapter"]


@pytest.mark.slow
def test_only_clients_that_trained_an_auxiliary_upload_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, with_it = Plan(method="sfl-v2", cut=2, rank=4), Plan(method="cse-fsl", cut=2, rank=4)
    _Turns(monkeypatch, [[alone, with_it], [with_it, alone], [alone, alone]])
    played = play(turning(place, alone, with_it), tmp_path)
    uploads = {(who, at): message for who, at, message, _ in played.said if isinstance(message, Adapter)}
    sent = {key for key, update in uploads.items() if any(name.startswith(PREFIX) for name in update.tensors)}
    assert sent == {(1, 0), (0, 1)}
    begun = {
        (who, at): set(reply.tensors)
        for who, at, message, reply in played.said
        if isinstance(message, Begin) and isinstance(reply, Adapter)
    }
    assert any(name.startswith(PREFIX) for name in begun[0, 1])
    assert not any(name.startswith(PREFIX) for name in played.trained)


@pytest.mark.slow
def test_a_head_has_the_learning_rate_of_its_method(place: Path, tmp_path: Path) -> None:
    plans = {"sfl-v2": Plan(method="sfl-v2", cut=2, rank=4), "hybrid": Plan(method="hybrid", cut=2, rank=4)}
    for name, plan in plans.items():
        auto = {"budget": "bytes", "limit": 1e9, "every": 1, "methods": ["sfl-v2", "hybrid"]}
        config = toy.config(place, auto=auto, **tables(clients=1))
        rates = dataclasses.replace(config.auto, head_lrs=(2e-3, 0.07))
        own = play(Experiment.of(with_single_plan(dataclasses.replace(config, auto=rates), plan)), tmp_path)
        lr = {"sfl-v2": 2e-3, "hybrid": 0.07}[name]
        train = dataclasses.replace(config.train, head_lr=lr)
        same = play(Experiment.of(with_single_plan(dataclasses.replace(config, train=train), plan)), tmp_path)
        other = play(Experiment.of(with_single_plan(config, plan)), tmp_path)
        assert own.losses == same.losses != other.losses


@pytest.mark.slow
def test_a_frozen_client_sends_activations_and_receives_no_gradient(place: Path, tmp_path: Path) -> None:
    played = played_by(place, tmp_path, Plan(method="frozen", cut=2, rank=4))
    assert {type(message) for *_, message, _ in played.said} == {Begin, Activation, Adapter}
    assert not any(isinstance(reply, Gradient) for *_, reply in played.said)
    uploads = [message for *_, message, _ in played.said if isinstance(message, Adapter)]
    assert all(not upload.tensors and not upload.samples for upload in uploads)
    assert not any(f"layer.{block}." in name for name in played.server.trained() for block in (0, 1))
    assert played.losses[-1] < played.losses[0]


@pytest.mark.parametrize(
    ("aggregator", "method"),
    [
        pytest.param("rolora", "sfl-v2", marks=pytest.mark.slow),
        ("rolora", "hybrid"),
        pytest.param("rolora", "cse-fsl", marks=pytest.mark.slow),
        pytest.param("ffa", "sfl-v2", marks=pytest.mark.slow),
    ],
)
def test_ranks_above_the_plans_keep_their_initial_values(
    aggregator: str, method: str, place: Path, tmp_path: Path
) -> None:
    whole = play_once(turning(place, Plan(method="sfl-v2", cut=2, rank=4)).config, place)
    initial = whole.nodes[0]._initial
    assert initial is not None
    start = {name: value.detach() for name, value in initial.items() if "value." in name}
    played = played_by(place, tmp_path, Plan(method=method, cut=2, rank=1), aggregator)
    uploads = [message for *_, message, _ in played.said if isinstance(message, Adapter)]
    moved = 0
    for upload in uploads:
        for name, value in upload.tensors.items():
            if not name.startswith(PREFIX):
                assert value.shape[0 if "lora_A" in name else 1] == 1
    for name, value in played.trained.items():
        if f"value.{name}" in start and "lora_" in name:
            axis = 0 if "lora_A" in name else 1
            first = start[f"value.{name}"]
            assert torch.equal(value.narrow(axis, 1, 3), first.narrow(axis, 1, 3))
            moved += not torch.equal(value.narrow(axis, 0, 1), first.narrow(axis, 0, 1))
    assert moved


class _Turns:
    """Stands in for the controller: these plans, round by round."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rounds: list[list[Plan]]) -> None:
        self._rounds, self._at = rounds, 0
        monkeypatch.setattr(Controller, "__init__", lambda planner, *_: None)
        monkeypatch.setattr(Controller, "begins", lambda planner, *_: None)
        monkeypatch.setattr(Controller, "plan", lambda planner, client: self._rounds[self._at][client])
        monkeypatch.setattr(Controller, "ended", lambda planner, round_index: self._on(round_index))
        monkeypatch.setattr("splitfl.controller.dry_run.table_of", lambda config: ())

    def _on(self, round_index: int) -> None:
        self._at = min(round_index + 1, len(self._rounds) - 1)


@pytest.mark.slow
def test_a_block_moves_to_a_client_and_back_with_its_trained_values(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks 1 and 2 learn on the server, then on the clients, then on the server again."""
    low, deep = Plan(method="sfl-v2", cut=1, rank=4), Plan(method="sfl-v2", cut=3, rank=4)
    _Turns(monkeypatch, [[low, low], [deep, deep], [low, low]])
    played = play(turning(place, low, deep), tmp_path)
    told = [reply for _, at, message, reply in played.said if isinstance(message, Begin) and at == 1]
    for reply in told:
        assert isinstance(reply, Adapter)
        assert reply.plan == deep
        assert {block for block in range(4) if any(f"layer.{block}." in name for name in reply.tensors)} == {
            0,
            1,
            2,
        }
    uploads = {at: message for _, at, message, _ in played.said if isinstance(message, Adapter)}
    blocks = {
        at: {block for block in range(4) if any(f"layer.{block}." in name for name in upload.tensors)}
        for at, upload in uploads.items()
    }
    assert blocks == {0: {0}, 1: {0, 1, 2}, 2: {0}}
    assert played.losses[-1] < played.losses[0]


@pytest.mark.slow
def test_shared_tensors_are_equal_on_both_sides_after_every_round(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client alone, whatever its cut: what it and the server know of a block is the same in the end."""
    low, deep, still = (
        Plan(method="sfl-v2", cut=1, rank=4),
        Plan(method="sfl-v2", cut=3, rank=2),
        Plan(method="frozen", cut=3, rank=4),
    )
    _Turns(monkeypatch, [[low, deep], [deep, still], [still, low]])
    played = play(turning(place, low, deep, still), tmp_path)
    heads, body = played.server._client_adapters, played.server._body  # type: ignore[attr-defined]
    shared = heads.tensors.keys() & body.trained().keys()
    assert {block for block in range(4) if any(f"layer.{block}." in name for name in shared)} == {1, 2}
    assert all(torch.equal(heads.tensors[name], body.trained()[name]) for name in shared)


def test_a_client_whose_plan_is_lost_skips_the_round(place: Path) -> None:
    client = turning(place, Plan(method="sfl-v2", cut=2, rank=4)).client_method(0)
    talk = client.round(0)
    assert isinstance(next(talk), Begin)
    said = [talk.send(LOST)]
    with suppress(StopIteration):
        while True:
            said.append(talk.send(Done()))
    assert said == [Skip()] * 4


def test_a_plan_with_an_unavailable_cut_or_method_is_refused(place: Path) -> None:
    talk = turning(place, Plan(method="sfl-v2", cut=2, rank=4)).client_method(0).round(0)
    next(talk)
    other = Plan(method="sfl-v2", cut=3, rank=4)
    with pytest.raises(WireError, match="a plan must name one of the cuts 2, got 3"):
        talk.send(Done(plan=other))
    talk = turning(place, Plan(method="sfl-v2", cut=2, rank=4)).client_method(0).round(0)
    next(talk)
    unknown = Plan(method="hybrid", cut=2, rank=4)
    with pytest.raises(WireError, match="a plan must name one of the methods frozen, sfl-v2, got hybrid"):
        talk.send(Done(plan=unknown))


def test_without_options_every_client_has_the_plan_of_the_settings() -> None:
    assert Controller(_single(), Ledger(), Events(None), ()).plan(1) == Plan(method="sfl-v2", cut=2, rank=4)


def _single() -> Any:
    """The settings of a run with one plan alone, with no model behind them."""
    auto = AutoConfig(
        budget="bytes", limit=1.0, every=1, methods=("sfl-v2",), cuts=(2,), ranks=(4,), codecs=("none",)
    )
    return RunConfig(auto=auto, federation=FederationConfig(clients=2, client_cuts=(2, 2)))
