"""Both ends work with the rounded rows of a frame, which are charged, lost and learnt from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from channel.core.link import Delivery, Link, Transfer
from splitfl.client.client import ClientNode
from splitfl.config import EXACT, CodecConfig
from splitfl.core.messages import Activation, Adapter, Gradient, Output, Scalars
from splitfl.methods.parts.method import ServerMethod, ServerReply, Turn
from splitfl.setup.experiment import Experiment
from splitfl.setup.links import own_link
from splitfl.wire.frame import Frame
from splitfl.wire.rows import decode_rows, encode_rows
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.server.test_erasure_policies import TENTH, LosesTokens

ONE = {"federation": {"clients": 1, "rounds": 1, "local_steps": 1}}
WIDTH = 32


place = toy.place(is_base=True)


def played(place: Path, folder: Path, over: Link | None = None, **tables: Any) -> Played:
    return play(Experiment.of(toy.config(place, **tables)), folder, over)


def rounded(rows: Tensor, codec: str) -> Tensor:
    return decode_rows(encode_rows(rows.detach(), codec), 1 << 40)


def gradients(run: Played) -> list[Tensor]:
    return [reply.grad for *_, reply in run.said if isinstance(reply, Gradient)]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["bf16", "int8", "int4"])
def test_a_client_receives_the_rounded_gradient_of_its_activations(
    codec: str, place: Path, tmp_path: Path
) -> None:
    (exact,) = gradients(played(place, tmp_path, **ONE))
    (heard,) = gradients(played(place, tmp_path, codec={"gradient": codec}, **ONE))
    assert torch.equal(heard, rounded(exact, codec))
    assert not torch.equal(heard, exact)


class Overheard:
    """A server that writes down what it hears."""

    def __init__(self, server: ServerMethod) -> None:
        self._server = server
        self.heard: list[Any] = []
        self.commit, self.end_round, self.trained = server.commit, server.end_round, server.trained
        self.state, self.restore = server.state, server.restore

    def compute(self, turn: Turn, message: Any) -> ServerReply:
        self.heard.append(message)
        return self._server.compute(turn, message)


class Listening(Experiment):
    """A site whose server's side is overheard."""

    def server_method(self) -> Any:
        return Overheard(super().server_method())


def test_the_server_works_with_rounded_activations_and_gradients(place: Path, tmp_path: Path) -> None:
    codec = {"activation": "int8", "output": "int4", "gradient": "bf16"}
    tail = {"method": {"name": "ushape"}, "partition": {"tail_blocks": 1}}
    run = play(Listening.of(toy.config(place, codec=codec, **tail, **ONE)), tmp_path)
    sent = [message for _, _, message, _ in run.said]
    heard = run.server.heard  # type: ignore[attr-defined]
    (activation,), (there,) = ([m for m in some if isinstance(m, Activation)] for some in (sent, heard))
    assert torch.equal(there.hidden, rounded(activation.hidden, "int8"))
    (gradient,), (back,) = ([m for m in some if isinstance(m, Gradient)] for some in (sent, heard))
    assert torch.equal(back.grad, rounded(gradient.grad, "bf16"))
    (output,) = [reply for *_, reply in run.said if isinstance(reply, Output)]
    assert torch.equal(output.hidden, rounded(output.hidden, "int4"))
    (adapter,), (its,) = ([m for m in some if isinstance(m, Adapter)] for some in (sent, heard))
    assert all(torch.equal(its.tensors[name], value) for name, value in adapter.tensors.items())


def test_a_client_may_round_otherwise_from_one_message_to_the_next(place: Path) -> None:
    node = ClientNode(0, Experiment.of(toy.config(place)).client_method(0))
    message = Activation(ids_B=torch.arange(1), hidden=torch.ones(2, WIDTH))
    assert node.codec == EXACT
    said = [Frame(node.frame(message)).codec]
    for codec in ("int8", "int4", "none"):
        node.codec = CodecConfig(activation=codec)
        said.append(Frame(node.frame(message)).codec)
    assert said == ["none", "int8", "int4", "none"]


class LosesOneByOne(LosesTokens):
    """The same where no two rows of eight bits have room in a packet."""

    mtu_bytes = 64


@pytest.mark.slow
def test_rows_that_came_through_losses_are_not_rounded_again(place: Path, tmp_path: Path) -> None:
    tables = {**ONE, "link": {"mtu_bytes": LosesOneByOne.mtu_bytes}}
    (exact,) = gradients(played(place, tmp_path, **tables))
    for policy in ("zero", "rescale"):
        lossy = LosesOneByOne("down", [0, 3])
        loss = {"gradient": policy}
        (heard,) = gradients(
            played(place, tmp_path, lossy, erasure=loss, codec={"gradient": "int8"}, **tables)
        )
        expected = rounded(exact, "int8")
        expected[[0, 3]] = 0
        factor = len(exact) / (len(exact) - 2) if policy == "rescale" else 1.0
        assert torch.equal(heard, expected * factor)


class Recording:
    """An ideal link that writes down what crosses it."""

    def __init__(self, inner: Link) -> None:
        self._inner = inner
        self.transfers: list[Transfer] = []

    def transfer(self, transfer: Transfer) -> Delivery:
        self.transfers.append(transfer)
        return self._inner.transfer(transfer)


@pytest.mark.parametrize(
    ("codec", "row"),
    quick(
        [("none", 4 * WIDTH), ("bf16", 2 * WIDTH), ("int8", WIDTH + 4), ("int4", WIDTH // 2 + 4)],
        ("int8", WIDTH + 4),
    ),
)
def test_a_lossy_packet_carries_whole_rounded_rows(codec: str, row: int, place: Path, tmp_path: Path) -> None:
    site = Experiment.of(
        toy.config(
            place,
            codec={"activation": codec, "gradient": codec},
            erasure={"activation": "mask", "gradient": "zero"},
            **ONE,
        )
    )
    link = Recording(own_link(site.config))
    run = play(site, tmp_path, link)
    (count,) = [len(grad) for grad in gradients(run)]
    lossy = [transfer for transfer in link.transfers if transfer.recovery == "none"]
    assert [one.direction for one in lossy] == ["up", "down"]
    for one in lossy:
        assert one.unit_bytes == row
        assert one.payload_bytes - one.reliable_bytes == count * row


@pytest.mark.slow
def test_masked_tokens_and_rounded_rows_go_together(place: Path, tmp_path: Path) -> None:
    loss, codec = {"activation": "mask", "gradient": "rescale"}, {"activation": "int8", "gradient": "int8"}
    run = played(place, tmp_path, erasure=loss, codec=codec, link=TENTH)
    assert run.ledger.total().lost_packets > 0
    assert run.ledger.total().lost == 0
    assert len(run.losses) == 12


@pytest.mark.slow
def test_rounded_training_learns_as_well_for_a_third_of_the_bytes(place: Path, tmp_path: Path) -> None:
    federation = {"clients": 2, "rounds": 4, "local_steps": 10}
    codec = {"activation": "int8", "gradient": "int8"}
    exact = played(place, tmp_path, federation=federation)
    run = played(place, tmp_path, federation=federation, codec=codec)
    assert run.losses != exact.losses
    assert run.ends[-1].train_loss < 0.75 * run.ends[0].train_loss
    assert run.ends[-1].train_loss == pytest.approx(exact.ends[-1].train_loss, abs=0.1)


def scalars(run: Played) -> Tensor:
    return torch.cat(
        [message.values for *_, message, _ in run.said if isinstance(message, Scalars)]
    ).flatten()


@pytest.mark.slow
def test_hybrids_scalars_bear_a_gradient_of_four_bits(place: Path, tmp_path: Path) -> None:
    """They are off by about as much as the gradient is, relatively, in directions of no relation to it."""
    tables = {**ONE, "method": {"name": "hybrid", "perturbations": 64}}
    (exact_ND,) = gradients(played(place, tmp_path, **tables))
    exact = scalars(played(place, tmp_path, **tables))
    rough = scalars(played(place, tmp_path, codec={"gradient": "int4"}, **tables))
    row = (rounded(exact_ND, "int4") - exact_ND).norm() / exact_ND.norm()
    off = (rough - exact).norm() / exact.norm()
    assert 0.1 < row < 0.15
    assert 0.0 < off < 2 * row
