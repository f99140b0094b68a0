"""Clients that are cut at different depths, on one body."""

from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.adapters.inject import overwrite, trainable
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Adapter
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import Played, play
from tests.splitfl.methods.plain import Plain

SIDES = {"head": {"rank": 2}, "body": {"rank": 2}}


place = toy.place(is_base=True, rows=40)


def site(place: Path, *cuts: int, aggregator: str = "mean", **tables: Any) -> Experiment:
    federation = {"clients": len(cuts), "client_cuts": list(cuts), "aggregator": aggregator, "rounds": 2}
    table = {"federation": federation, "partition": {"cut": min(cuts)}, "adapter": SIDES, **tables}
    return Experiment.of(toy.config(place, **table))


@pytest.mark.parametrize(
    "cut", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_one_client_at_any_cut_equals_the_unsplit_model(cut: int, place: Path, tmp_path: Path) -> None:
    own = site(place, cut)
    played, plain = play(own, tmp_path), Plain(own)
    batches = own.batches(0)
    losses = [plain.step(batches.batch(step)) for step in range(6)]
    assert played.losses == losses
    assert plain.differs(played.trained) == []


@pytest.mark.slow
def test_equal_cuts_equal_sfl_v2(place: Path, tmp_path: Path) -> None:
    uneven = play(site(place, 2, 2), tmp_path)
    federation = {"clients": 2, "aggregator": "mean", "rounds": 2}
    table: dict[str, Any] = {"federation": federation, "partition": {"cut": 2}, "adapter": SIDES}
    plain = play(Experiment.of(toy.config(place, **table)), tmp_path)
    assert uneven.losses == plain.losses
    assert all(torch.equal(value, plain.trained[name]) for name, value in uneven.trained.items())


def one_round(place: Path, folder: Path) -> tuple[Played, Experiment]:
    federation = {"clients": 3, "client_cuts": [1, 3, 2], "aggregator": "mean", "rounds": 1, "local_steps": 1}
    own = site(place, 1, 3, 2, federation=federation)
    return play(own, folder), own


@pytest.mark.slow
def test_a_client_sends_and_receives_only_its_own_blocks(place: Path, tmp_path: Path) -> None:
    played = play(site(place, 1, 3, 2), tmp_path)
    for client, cut in enumerate((1, 3, 2)):
        own = {f"layer.{block}." for block in range(cut)}
        for sender, _, message, reply in played.said:
            for one in (message, reply):
                if sender == client and isinstance(one, Adapter):
                    found = {next(b for b in range(4) if f"layer.{b}." in name) for name in one.tensors}
                    assert {f"layer.{b}." for b in found} == own


@pytest.mark.slow
def test_a_shared_block_is_the_mean_weighted_by_samples(place: Path, tmp_path: Path) -> None:
    """One step of each: what every holder came to is found again by running each client alone."""
    played, own = one_round(place, tmp_path)
    uploads = {c: m for c, _, m, _ in played.said if isinstance(m, Adapter)}
    samples = [upload.samples for _, upload in sorted(uploads.items())]
    first = {name: value.detach() for name, value in trainable(own.whole()).items()}
    server = _servers_own(own, played)
    for name in (one for one in first if "lora_B" in one and "layer." in one):
        block = next(b for b in range(4) if f"layer.{b}." in name)
        held = [(uploads[c].tensors[name], samples[c]) for c, cut in enumerate((1, 3, 2)) if block < cut]
        through = sum(samples[c] for c, cut in enumerate((1, 3, 2)) if cut <= block)
        if through:
            held.append((server[name], through))
        total = sum(n for _, n in held)
        mean = sum((value.double() * (n / total) for value, n in held), torch.zeros(()))
        torch.testing.assert_close(played.trained[name], mean.float(), rtol=0, atol=1e-7)
    assert set(played.trained) == set(first)


def _servers_own(own: Experiment, played: Played) -> dict[str, torch.Tensor]:
    """The server's copy of every block after the activations that came, in the order in which they came."""
    plain = Plain(own)
    first = {name: value.detach().clone() for name, value in plain.parameters.items()}
    came = [(c, m) for c, _, m, _ in played.said if isinstance(m, Activation)]
    for parameter in plain.parameters.values():
        parameter.requires_grad_(True)
    for client, message in came:
        cut = (1, 3, 2)[client]
        batch = own.batches(client).batch(0)
        assert torch.equal(batch.ids_B, message.ids_B)
        below = {name for name in first if any(f"layer.{block}." in name for block in range(cut))}
        servers = {name: plain.parameters[name].detach().clone() for name in below}
        overwrite(
            plain.parameters, {name: first[name] for name in below}
        )  # the client's own, in its first step
        plain.optimiser.zero_grad()
        plain.loss(batch).backward()
        for name in below:
            plain.parameters[name].grad = None
        plain.optimiser.step()
        overwrite(plain.parameters, servers)
    return {name: value.detach() for name, value in plain.parameters.items()}


@pytest.mark.parametrize("aggregator", ["rolora", pytest.param("ffa", marks=pytest.mark.slow)])
def test_tensors_frozen_by_the_aggregator_are_frozen_on_the_server_too(
    aggregator: str, place: Path, tmp_path: Path
) -> None:
    federation = {"clients": 2, "client_cuts": [1, 3], "aggregator": aggregator, "rounds": 1}
    own = site(place, 1, 3, federation=federation)
    first = {name: value.detach().clone() for name, value in trainable(own.whole()).items()}
    after = play(own, tmp_path).trained
    for name in first:
        is_shared = any(f"layer.{block}." in name for block in (0, 1, 2))
        moved = not torch.equal(first[name], after.get(name, first[name]))
        assert moved == (not is_shared or "lora_B" in name)


@pytest.mark.slow
def test_a_dry_run_with_unequal_cuts_has_the_ledgers_bytes(place: Path, tmp_path: Path) -> None:
    own = site(place, 1, 3)
    played, rehearsed = play(own, tmp_path), run_dry(own)
    for way in ("up", "down"):
        assert rehearsed.ledger.total(way).payload_bytes == played.ledger.total(way).payload_bytes
    for side in ("client", "server"):
        assert rehearsed.ledger.total_flops(side) == played.ledger.total_flops(side)


@pytest.mark.slow
def test_a_restored_server_trains_the_tensors_of_its_round(place: Path) -> None:
    own = site(place, 1, 3, aggregator="rolora")
    one, other = own.server_method(), own.server_method()
    one.end_round(0)
    other.restore(one.state())
    for server in (one, other):
        named = trainable(server._body.piece)  # type: ignore[attr-defined]
        assert all("layer.3" in name or "layer" not in name or "lora_A" in name for name in named)


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        (
            {"federation": {"client_cuts": [1, 4]}},
            r"client_cuts must lie in 1..3 for a model of 4 blocks, got 4",
        ),
        ({"federation": {"client_cuts": [2]}}, "a value for each of the 2 clients, got 1"),
        ({"partition": {"cut": 2}}, "set it to 1, got 2"),
        ({"adapter": {"head": {"rank": 4}, "body": {"rank": 2}}}, "must be the same"),
        ({"federation": {"aggregator": "stack"}}, "must be 'rolora', 'ffa' or 'mean'"),
        ({"federation": {"robust": "median"}}, "federation.robust must be 'none'"),
        ({"method": {"in_flight": 2}}, "method.in_flight must be 1"),
        ({"method": {"server_batch": 2}}, "method.server_batch must be 1 with federation.client_cuts, got 2"),
        ({"federation": {"schedule": "buffered"}}, "does not support federation.schedule 'buffered'"),
        ({"method": {"name": "hybrid"}}, "does not read federation.client_cuts"),
    ],
)
def test_settings_that_exclude_unequal_cuts_are_refused(place: Path, tables: Any, complaint: str) -> None:
    federation = {"clients": 2, "client_cuts": [1, 3], "aggregator": "mean", **tables.get("federation", {})}
    table = {"partition": {"cut": 1}, "adapter": SIDES, **tables, "federation": federation}
    with pytest.raises(ConfigError, match=complaint):
        Experiment.of(toy.config(place, **table))
