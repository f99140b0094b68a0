"""No label leaves the client; what is lost between the two exchanges of a step costs that step."""

from pathlib import Path

import pytest
import torch

from splitfl.accounting.flops import cost
from splitfl.adapters.inject import trainable
from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import Activation, Adapter, Begin, Gradient, Output, Skip
from splitfl.methods.parts.method import Turn
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.methods.losing import Losing

place = toy.place(is_base=True, rows=40)


def site(place: Path, clients: int = 1, steps: int = 1, tail_blocks: int = 1) -> Experiment:
    federation = {"clients": clients, "rounds": 1, "local_steps": steps, "aggregator": "mean"}
    partition = {"cut": 1, "tail_blocks": tail_blocks}
    return Experiment.of(
        toy.config(place, method={"name": "ushape"}, federation=federation, partition=partition)
    )


@pytest.mark.slow
def test_the_client_sends_the_loss_and_no_labels(place: Path, tmp_path: Path) -> None:
    played = play(site(place, clients=2, steps=3), tmp_path)
    messages = [message for _, _, message, _ in played.said]
    assert all(message.labels is None for message in messages if isinstance(message, Activation))
    losses = [message.loss for message in messages if isinstance(message, Gradient)]
    assert sorted(losses) == sorted(played.losses)
    assert [row["step"] for row in played.rows("step")] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("lost", "head_learns", "body_learns"),
    [
        pytest.param(("up", 1), False, False, marks=pytest.mark.slow),  # the activation
        (("down", 1), False, False),  # the output
        pytest.param(("up", 2), False, False, marks=pytest.mark.slow),  # the gradient of the output
        (("down", 2), False, True),  # the gradient of the activation
        (("up", 9), True, True),  # nothing
    ],
)
def test_any_lost_message_skips_the_step(
    place: Path, tmp_path: Path, lost: tuple[str, int], head_learns: bool, body_learns: bool
) -> None:
    one = site(place)
    first = trainable(one.whole())
    played = play(one, tmp_path, Losing(frozenset({(0, *lost)})))
    (upload,) = [message for _, _, message, _ in played.said if isinstance(message, Adapter)]
    assert (upload.samples > 0) is head_learns
    assert any(not torch.equal(first[n], value) for n, value in upload.tensors.items()) is head_learns
    body = {name: value for name, value in played.trained.items() if name not in upload.tensors}
    assert any(not torch.equal(first[name], value) for name, value in body.items()) is body_learns
    assert len(played.losses) == int(body_learns)


def test_a_dropped_half_step_cannot_be_completed(place: Path) -> None:
    one = site(place)
    server, batch = one.server_method(), one.batches(0).batch(0)
    hidden = torch.ones(*batch.inputs["input_ids"].shape, 32)

    def say(lap: int, message: Activation | Gradient | Begin | Skip | None) -> object:
        turn = Turn(client=0, round=0, lap=lap, position=lap)
        answer = server.compute(turn, message) if message is not None else None
        server.commit(turn, answer)
        return answer.reply if answer is not None else None

    say(0, Begin(steps=7))
    gradient = Gradient(ids_B=batch.ids_B, grad=hidden, loss=1.0)
    with pytest.raises(WireError, match="unexpected Gradient"):
        say(1, gradient)
    for over in (Skip(), None):
        assert isinstance(say(1, Activation(ids_B=batch.ids_B, hidden=hidden)), Output)
        say(2, over)
        with pytest.raises(WireError, match="unexpected Gradient"):
            say(3, gradient)
    say(4, Activation(ids_B=batch.ids_B, hidden=hidden))
    with pytest.raises(WireError, match="unexpected Gradient"):
        say(5, Gradient(ids_B=batch.ids_B + 1, grad=hidden, loss=1.0))
    assert isinstance(say(5, gradient), Gradient)


@pytest.mark.slow
def test_both_halves_of_a_step_use_the_same_parameters(place: Path, tmp_path: Path) -> None:
    """Another client's step in between changes the body, and nothing of what this one hears."""
    one = site(place, clients=2)
    said = play(one, tmp_path).said
    forth = {client: m for client, _, m, _ in said if isinstance(m, Activation)}
    back = {client: m for client, _, m, _ in said if isinstance(m, Gradient)}
    heard = []
    for order in ((0, 0), (0, 1, 1, 0)):
        server, waiting = one.server_method(), set[int]()
        for position, client in enumerate(order):
            turn = Turn(client=client, round=0, lap=1 + (client in waiting), position=position)
            answer = server.compute(turn, back[client] if client in waiting else forth[client])
            server.commit(turn, answer)
            waiting.add(client)
        assert isinstance(answer.reply, Gradient)
        heard.append(answer.reply.grad)
    assert torch.equal(*heard)


@pytest.mark.slow
def test_each_piece_is_counted_with_one_forward_and_one_backward_pass(place: Path, tmp_path: Path) -> None:
    one = site(place)
    played = play(one, tmp_path)
    shape = one.batches(0).batch(0).inputs["input_ids"].shape
    pieces = PieceLoader(config=one.config, task=one.task, num_blocks=one.num_blocks, device="cpu")
    head, body, tail = (cost(piece, *shape) for piece in (pieces.head(), pieces.body(), pieces.tail()))
    assert played.ledger.total_flops("client") == head.step_flops + tail.step_flops
    assert [row["flops"] for row in played.rows("compute") if row["side"] == "server"] == [
        body.forward_flops,
        body.backward_flops,
    ]


def test_a_client_without_a_tail_is_refused(place: Path) -> None:
    reason = r"partition.tail_blocks must be at least 1 with the method 'ushape'.* 3 of the 4"
    with pytest.raises(ConfigError, match=reason):
        site(place, tail_blocks=0)
    with pytest.raises(ConfigError, match=r"the tail may have 0..2 of the 3 blocks above the cut, got 3"):
        site(place, tail_blocks=3)
