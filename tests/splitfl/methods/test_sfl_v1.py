"""A body for each client, averaged by the rule that the heads are averaged by."""

from pathlib import Path

import pytest
import torch

from splitfl.adapters.inject import trainable
from splitfl.core.messages import Activation, Adapter
from splitfl.federation.aggregators import weighted_mean
from splitfl.methods.parts.method import Turn
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.methods.losing import Losing

place = toy.place(is_base=True, rows=40)


def site(
    place: Path, name: str = "sfl-v1", aggregator: str = "mean", rounds: int = 1, steps: int = 1
) -> Experiment:
    federation = {"clients": 2, "rounds": rounds, "local_steps": steps, "aggregator": aggregator}
    return Experiment.of(toy.config(place, method={"name": name}, federation=federation))


@pytest.mark.slow
def test_the_body_is_the_mean_of_the_bodies_trained_per_client(place: Path, tmp_path: Path) -> None:
    one = site(place, steps=2)
    played = play(one, tmp_path)
    config = site(place, "sfl-v2", steps=2).config
    alone = []
    for client in range(2):
        pieces = PieceLoader(config=config, task=one.task, num_blocks=one.num_blocks, device="cpu")
        server = METHODS["sfl-v2"].server(pieces, config)
        sent = [m for sender, _, m, _ in played.said if sender == client and isinstance(m, Activation)]
        for position, message in enumerate(sent):
            turn = Turn(client=client, round=0, lap=position + 1, position=position)
            server.commit(turn, server.compute(turn, message))
        samples = sum(len(message.ids_B) for message in sent)
        alone.append(Adapter(version=0, tensors=server.trained(), samples=samples))
    mean = weighted_mean(alone)
    assert mean.keys() < played.trained.keys()
    assert all(torch.equal(value, played.trained[name]) for name, value in mean.items())


@pytest.mark.slow
def test_tensors_frozen_by_the_aggregator_are_frozen_in_the_bodies_too(place: Path, tmp_path: Path) -> None:
    one = site(place, aggregator="rolora")
    first = trainable(one.whole())
    played = play(one, tmp_path)
    moved = {name for name, value in played.trained.items() if not torch.equal(first[name], value)}
    assert not any("lora_A" in name for name in moved)
    assert {name for name in first if "lora_B" in name or "classifier" in name} == moved
    assert play(site(place, aggregator="rolora", rounds=2), tmp_path).ledger.total_flops("server") > 0.0


@pytest.mark.slow
def test_a_client_without_received_messages_has_no_weight_in_the_mean(place: Path, tmp_path: Path) -> None:
    one = site(place)
    lost = play(one, tmp_path, Losing(frozenset({(1, "up", 1)})))
    body = {n: value for n, value in lost.server.trained().items() if "classifier" in n}
    config = toy.config(place, method={"name": "sfl-v1"}, federation={"clients": 2, "local_steps": 1})
    pieces = PieceLoader(config=config, task=one.task, num_blocks=one.num_blocks, device="cpu")
    (sent,) = [m for sender, _, m, _ in lost.said if sender == 0 and isinstance(m, Activation)]
    server = METHODS["sfl-v2"].server(pieces, config)
    turn = Turn(client=0, round=0, lap=1, position=0)
    server.commit(turn, server.compute(turn, sent))
    assert body
    assert all(torch.equal(value, server.trained()[name]) for name, value in body.items())


@pytest.mark.slow
def test_bodies_without_received_messages_are_unchanged(place: Path, tmp_path: Path) -> None:
    one = site(place)
    played = play(one, tmp_path, Losing(frozenset({(0, "up", 1), (1, "up", 1)})))
    first = trainable(one.whole())
    assert all(torch.equal(first[name], value) for name, value in played.trained.items())


@pytest.mark.slow
def test_a_restored_server_trains_the_tensors_of_its_round(place: Path) -> None:
    own = site(place, aggregator="rolora")
    one, other = own.server_method(), own.server_method()
    one.end_round(0)
    other.restore(one.state())
    free = [
        [
            [name for name, value in body._master.items() if value.requires_grad]
            for body in server._bodies  # type: ignore[attr-defined]
        ]
        for server in (one, other)
    ]
    assert free[0] == free[1]
    assert any("lora_A" in name for name in free[0][0])
