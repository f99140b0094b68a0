"""Every method, stopped after a round and built anew from a file, goes on to the last bit."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from splitfl.core import checkpoint
from splitfl.core.messages import Message
from splitfl.core.state import Stateful
from splitfl.methods.parts.method import ClientMethod, ServerMethod, Turn
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from splitfl.wire import Envelope, encode
from tests.splitfl import toy
from tests.splitfl.methods.test_conformance import site

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

QUICK = ("hybrid",)


class Federation:
    """A server and its clients, one thread, messages handed over as they are."""

    def __init__(self, site: Experiment) -> None:
        self.server: ServerMethod = site.server_method()
        self.clients: Sequence[ClientMethod] = [
            site.client_method(client) for client in range(site.config.federation.clients)
        ]
        self.position = 0

    def play(self, round_index: int, killed_after: int | None = None) -> list[bytes]:
        """A round, or so many laps of it; every message that crossed, as a frame."""
        crossed: list[bytes] = []
        rounds = [client.round(round_index) for client in self.clients]
        pending: dict[int, Message] = {client: next(one) for client, one in enumerate(rounds)}
        for lap in range(100 if killed_after is None else killed_after):
            for client in sorted(pending):
                message = pending.pop(client)
                turn = Turn(client=client, round=round_index, lap=lap, position=self.position)
                self.position += 1
                answer = self.server.compute(turn, message)
                self.server.commit(turn, answer)
                envelope = Envelope(
                    client=client, round=round_index, lap=lap, flops=self.clients[client].take_flops()
                )
                crossed += [encode(message, envelope), encode(answer.reply, envelope)]
                try:
                    pending[client] = rounds[client].send(answer.reply)
                except StopIteration:
                    continue
        if killed_after is not None:
            for client in self.clients:
                client.take_flops()
            return crossed
        assert not pending
        self.server.end_round(round_index)
        return crossed

    @property
    def parts(self) -> Mapping[str, Stateful]:
        return {"server": self.server} | {f"client-{i}": one for i, one in enumerate(self.clients)}

    def save(self, folder: Path) -> None:
        for name, part in self.parts.items():
            checkpoint.save(folder / f"{name}.safetensors", part.state(), {})

    def restore(self, folder: Path) -> None:
        for name, part in self.parts.items():
            part.restore(checkpoint.restore(folder / f"{name}.safetensors")[0])


place = toy.place(is_base=True, rows=40)


def cases() -> list[object]:
    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in METHODS]


@pytest.mark.slow
@pytest.mark.parametrize("name", cases())
def test_a_method_restored_from_its_state_continues_bit_for_bit(
    name: str, place: Path, tmp_path: Path
) -> None:
    settings = site(place, name)
    unbroken = Federation(settings)
    for round_index in range(2):
        unbroken.play(round_index)
    unbroken.save(tmp_path)
    anew = Federation(settings)
    anew.restore(tmp_path)
    anew.position = unbroken.position
    for round_index in (2, 3):
        assert anew.play(round_index) == unbroken.play(round_index)
    assert anew.server.trained().keys() == unbroken.server.trained().keys()
    for key, value in unbroken.server.trained().items():
        assert torch.equal(anew.server.trained()[key], value)


@pytest.mark.parametrize("name", cases())
def test_a_method_can_be_restored_to_an_earlier_state(name: str, place: Path, tmp_path: Path) -> None:
    federation = Federation(site(place, name))
    federation.play(0)
    federation.save(tmp_path)
    position, first = federation.position, federation.play(1)
    federation.play(2)
    federation.restore(tmp_path)
    federation.position = position
    assert federation.play(1) == first


@pytest.mark.slow
def test_steps_in_flight_start_from_the_same_parameters_after_a_restart(place: Path, tmp_path: Path) -> None:
    settings = site(place, "sfl-v2", method={"in_flight": 3})
    unbroken = Federation(settings)
    unbroken.play(0)
    unbroken.save(tmp_path)
    anew = Federation(settings)
    anew.restore(tmp_path)
    anew.position = unbroken.position
    assert anew.play(1) == unbroken.play(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", cases())
def test_a_run_killed_during_an_accumulation_resumes_from_its_last_round(
    name: str, place: Path, tmp_path: Path
) -> None:
    if "train.accumulate" not in METHODS[name].reads:
        pytest.skip(f"{name} does not accumulate gradients")
    one = site(place, name)
    train = dataclasses.replace(one.config.train, accumulate=2, warmup_steps=20, clip_grad_norm=0.05)
    federation = dataclasses.replace(one.config.federation, local_steps=3)
    settings = Experiment.of(dataclasses.replace(one.config, train=train, federation=federation))
    unbroken, killed = Federation(settings), Federation(settings)
    for round_index in range(2):
        unbroken.play(round_index)
    unbroken.save(tmp_path)
    killed.play(0, killed_after=2)  # each client and the body have one batch or more of a group
    killed.restore(tmp_path)
    killed.position = unbroken.position
    for round_index in (2, 3):
        assert killed.play(round_index) == unbroken.play(round_index)
    for key, value in unbroken.server.trained().items():
        assert torch.equal(killed.server.trained()[key], value)
