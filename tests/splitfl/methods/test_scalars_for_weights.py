"""Methods that send scalars in place of weights: bytes by formula, replays after losses, MeZO."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.accounting.flops import cost
from splitfl.core.messages import LOST, Activation, Gradient, Message, Reply, Scalars
from splitfl.methods.decomfl import DecomflClient
from splitfl.methods.hosl import HoslClient
from splitfl.methods.hybrid import HybridClient
from splitfl.methods.parts.method import ClientMethod
from splitfl.methods.parts.perturbations import rademacher
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters
from splitfl.methods.parts.zeroth_order_client import ZerothOrderClient
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.methods.losing import Losing
from tests.splitfl.methods.plain import Plain

METHODS = ("hybrid", "hosl", "decomfl", "hiso", "fedkseed")
POOL = 30
CLIENTS, ROUNDS, STEPS, PERTURBATIONS = 2, 3, 2, 3
LAPS = {"hybrid": STEPS + 2, "hosl": STEPS + 1, "decomfl": 2, "hiso": 2, "fedkseed": 2}
FLOAT_BYTES = 4


place = toy.place(rows=48)


class Watched(Experiment):
    """A site that remembers the clients it has made."""

    def client_method(self, client: int) -> ClientMethod:
        made = super().client_method(client)
        self.__dict__.setdefault("made", []).append(made)
        return made

    def bases(self) -> list[dict[str, Tensor]]:
        """Where every client's last round began."""
        return [zeroth_order.base for zeroth_order in self.zeroth_order_clients()]

    def zeroth_order_clients(self) -> list[ZerothOrderClient]:
        """The clients' own."""
        made = self.__dict__["made"]
        assert all(isinstance(one, (HybridClient, HoslClient, DecomflClient)) for one in made)
        return [one.zeroth_order for one in made]


def watched(place: Path, name: str, **tables: dict[str, Any]) -> Watched:
    method = {"name": name, "perturbations": PERTURBATIONS, **tables.pop("method", {})}
    method |= {"pool": POOL} if name == "fedkseed" else {}
    federation = {"clients": CLIENTS, "rounds": ROUNDS, "local_steps": STEPS, **tables.pop("federation", {})}
    site = Experiment.of(toy.config(place, method=method, federation=federation, **tables))
    return Watched(**vars(site))


def scalar_bytes(messages: Iterable[Message | Reply]) -> int:
    """What the scalars among these messages weigh."""
    return sum(message.values.nbytes for message in messages if isinstance(message, Scalars))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_bytes_are_those_of_the_formulae(name: str, place: Path, tmp_path: Path) -> None:
    """Up and down per step, N elements at the cut: hybrid N b + 4 P and N b, hosl (2 P + 1) N b and 8 P,
    decomfl and fedkseed 4 P and nothing. As a round begins 4 K P down for every step of the last one;
    for fedkseed always 4 bytes for each set of tensors and direction of the pool."""
    site = watched(place, name)
    played = play(site, tmp_path)
    width = 32
    for client in range(CLIENTS):
        batches = site.batches(client)
        for round_index in range(ROUNDS):
            said = [(m, r) for one, at, m, r in played.said if (one, at) == (client, round_index)]
            real = [
                int(batches.batch(round_index * STEPS + step).inputs["attention_mask"].sum())
                for step in range(STEPS)
            ]
            began = 4 * CLIENTS * PERTURBATIONS * STEPS if round_index else 0
            if name == "fedkseed":  # RoLoRA trains two sets of tensors in turn
                began = 4 * 2 * POOL if round_index else 0
            assert scalar_bytes([said[0][1]]) == began
            hidden = [m.hidden.nbytes for m, _ in said if isinstance(m, Activation) and m.hidden is not None]
            grads = [r.grad.nbytes for _, r in said if isinstance(r, Gradient)]
            ups, downs = scalar_bytes(m for m, _ in said), scalar_bytes(r for _, r in said[1:])
            elements = [FLOAT_BYTES * width * tokens for tokens in real]
            if name == "hybrid":
                assert (hidden, grads, ups, downs) == (elements, elements, 4 * PERTURBATIONS * STEPS, 0)
            elif name == "hosl":
                copies = 2 * PERTURBATIONS + 1
                assert hidden == [copies * one for one in elements]
                assert (grads, ups, downs) == ([], 0, 8 * PERTURBATIONS * STEPS)
            else:
                assert (hidden, grads, ups, downs) == ([], [], 4 * PERTURBATIONS * STEPS, 0)


@pytest.mark.slow
def test_decomfl_sends_four_bytes_a_client_and_perturbation(place: Path, tmp_path: Path) -> None:
    """Exactly 4 K P up from all clients together, and as much down to each, in rounds of one step."""
    played = play(watched(place, "decomfl", federation={"local_steps": 1}), tmp_path)
    for round_index in range(ROUNDS):
        said = [(m, r) for _, at, m, r in played.said if at == round_index]
        assert scalar_bytes(m for m, _ in said) == 4 * CLIENTS * PERTURBATIONS
        each = [scalar_bytes([r]) for _, r in said if isinstance(r, Scalars)]
        assert each == [4 * CLIENTS * PERTURBATIONS] * (CLIENTS if round_index else 0)
    biggest = max(row["payload_bytes"] for row in played.rows("transfer"))
    assert biggest < 4 * CLIENTS * PERTURBATIONS + 400  # a frame's own header, and nothing that grows


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_all_clients_and_the_server_hold_the_same_bits(name: str, place: Path, tmp_path: Path) -> None:
    site = watched(place, name)
    ends = play(watched(place, name, federation={"rounds": ROUNDS - 1}), tmp_path).trained
    play(site, tmp_path)
    for base in site.bases():
        assert any(bool(value.any()) for key, value in base.items() if "lora_B" in key)
        for key, value in base.items():
            assert torch.equal(value, ends[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("perturbations", [PERTURBATIONS, 80])
def test_clients_that_lost_messages_end_with_the_same_bits(
    name: str, perturbations: int, place: Path, tmp_path: Path
) -> None:
    """Client 1 hears nothing for a round, then gets two rounds of scalars, or tensors if these are less."""
    laps = LAPS[name]
    lost = frozenset((1, "down", sequence) for sequence in range(laps, 2 * laps))
    site = watched(place, name, method={"perturbations": perturbations})
    played = play(site, tmp_path, Losing(lost))
    assert [reply is LOST for one, _, _, reply in played.said if one == 1].count(True) == len(lost)
    steady, behind = site.bases()
    for key, value in steady.items():
        assert torch.equal(value, behind[key]), key


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("lora", "hybrid"),
        pytest.param("ia3", "hybrid", marks=pytest.mark.slow),
        pytest.param("lora", "hosl", marks=pytest.mark.slow),
        pytest.param("vera", "decomfl", marks=pytest.mark.slow),
        pytest.param("tinylora", "hybrid", marks=pytest.mark.slow),
        pytest.param("loha", "decomfl", marks=pytest.mark.slow),
    ],
)
def test_clients_perturb_their_slices_and_all_have_the_same_bits(
    kind: str, name: str, place: Path, tmp_path: Path
) -> None:
    sides = {"head": {"kind": kind}, **({"body": {"kind": kind}} if name == "decomfl" else {})}
    tables = {"method": {"slices": True}, "adapter": sides}
    site = watched(place, name, **tables)
    ends = play(watched(place, name, federation={"rounds": ROUNDS - 1}, **tables), tmp_path).trained
    play(site, tmp_path)
    for base in site.bases():
        assert all(torch.equal(value, ends[key]) for key, value in base.items())
    perturbed = site.zeroth_order_clients()[0]._perturbed
    assert isinstance(perturbed, PerturbedParameters)
    own = [set(perturbed.draw(client, 1, 0, 0)) for client in range(CLIENTS)]
    assert set.union(*own) == set(perturbed.names(1))
    assert all(names < set(perturbed.names(1)) for names in own)
    assert not any(
        mark in one for one in set.intersection(*own) for mark in ("lora_", "ia3_", "vera_", "hada_")
    )


@pytest.mark.slow
def test_lost_derivatives_update_no_client(place: Path, tmp_path: Path) -> None:
    """The upload of client 1 is lost in the first round: all walk as if it had not taken part."""
    site = watched(place, "hybrid")
    played = play(site, tmp_path, Losing(frozenset({(1, "up", LAPS["hybrid"] - 1)})))
    heard = [r for one, at, m, r in played.said if at == 1 and isinstance(r, Scalars)]
    assert [reply.steps for reply in heard] == [(STEPS, 0)] * CLIENTS
    steady, silent = site.bases()
    assert all(torch.equal(value, silent[key]) for key, value in steady.items())


@pytest.mark.slow
def test_a_lost_gradient_is_a_step_with_zero_derivatives(place: Path, tmp_path: Path) -> None:
    played = play(watched(place, "hybrid"), tmp_path, Losing(frozenset({(0, "down", 1)})))
    (sent,) = [m for one, at, m, _ in played.said if (one, at) == (0, 0) and isinstance(m, Scalars)]
    assert sent.values[0].tolist() == [0.0] * PERTURBATIONS
    assert bool(sent.values[1].all())
    assert len(played.losses) == CLIENTS * ROUNDS * STEPS, "the server has stepped, which is harmless"


@pytest.mark.slow
def test_lost_replies_of_hosl_still_count(place: Path, tmp_path: Path) -> None:
    """The server knows the slopes itself, so the client's own lost answer comes back in the next round."""
    played = play(watched(place, "hosl"), tmp_path, Losing(frozenset({(0, "down", 1)})))
    heard = next(r for one, at, _, r in played.said if (one, at) == (0, 1) and isinstance(r, Scalars))
    assert heard.steps == (STEPS,) * CLIENTS
    assert bool(heard.values.all())


@pytest.mark.slow
@pytest.mark.parametrize("derivative", ["difference", "central"])
def test_a_clients_flops_are_those_of_forward_passes(derivative: str, place: Path, tmp_path: Path) -> None:
    site = watched(place, "hybrid", method={"derivative": derivative}, federation={"clients": 1})
    played = play(site, tmp_path)
    passes = 1 + PERTURBATIONS * (2 if derivative == "central" else 1)
    head, batches = site.zeroth_order_clients()[0].piece, site.batches(0)
    once = sum(
        cost(head, *batches.batch(step).inputs["input_ids"].shape).forward_flops
        for step in range(ROUNDS * STEPS)
    )
    assert played.ledger.total_flops("client") == pytest.approx(passes * once)


@pytest.mark.slow
def test_decomfl_with_one_client_is_mezo(place: Path, tmp_path: Path) -> None:
    """Malladi et al., NeurIPS'23, Algorithm 1: the stock model, the same directions, the same bits."""
    mu, lr = 1e-3, 1e-2
    site = Experiment.of(
        toy.config(
            place,
            method={"name": "decomfl", "derivative": "central", "perturbations": 1, "mu": mu},
            federation={"clients": 1, "rounds": ROUNDS, "local_steps": STEPS, "aggregator": "mean"},
            train={"head_lr": lr},
        )
    )
    plain, batches = Plain(site), site.batches(0)
    played = play(site, tmp_path)
    values = list(plain.parameters.values())
    sizes = [value.numel() for value in values]
    with torch.no_grad():
        for round_index in range(ROUNDS):
            for step in range(STEPS):
                batch = batches.batch(round_index * STEPS + step)
                signs = torch.split(rademacher(sum(sizes), 0, 0, round_index, step, 0), sizes)
                losses = []
                first = [value.clone() for value in values]
                for scale in (mu, -mu):
                    for value, start, sign in zip(values, first, signs, strict=True):
                        value.copy_(start + scale * sign.view_as(value))
                    losses.append(plain.loss(batch))
                slope = ((losses[0] - losses[1]) / (2 * mu)).item()
                for value, start, sign in zip(values, first, signs, strict=True):
                    value.copy_(start - lr * slope * sign.view_as(value))
    assert plain.differs(played.trained) == []
    assert any(bool(value.any()) for key, value in played.trained.items() if "lora_B" in key)
