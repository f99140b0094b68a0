"""Ways to put adapters together, in whole runs: exact to the last client, for unequal ranks, after a stop."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import install, trainable
from splitfl.adapters.residuals import A, B, folded
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Adapter, Begin
from splitfl.setup.experiment import Experiment
from tests.quick import quick
from tests.splitfl import tiny, toy
from tests.splitfl.driver import Played, play
from tests.splitfl.methods.losing import Losing
from tests.splitfl.methods.test_stopping import Federation

ROUNDS = 3


place = toy.place(rows=60)


def site(
    place: Path,
    aggregator: str,
    name: str = "sfl-v2",
    clients: int = 3,
    init: str = "kaiming",
    **more: Any,
) -> Experiment:
    federation = {"clients": clients, "rounds": ROUNDS, "local_steps": 2, "aggregator": aggregator}
    adapter = {"head": {"rank": 4, "init": init}, "body": {"rank": 3}}
    return Experiment.of(
        toy.config(place, method={"name": name}, federation=federation | more, adapter=adapter)
    )


def products(tensors: dict[str, Tensor], held: dict[str, Tensor]) -> dict[str, Tensor]:
    """What every module's LoRA adds, residual and all, with factors of `held` where none are among them."""
    modules = {name.removesuffix(end) for name in held for end in (A, B) if name.endswith(end)}
    whole = folded({name: value.double() for name, value in {**held, **tensors}.items()})
    return {module: whole[module + B] @ whole[module + A] for module in modules}


def uploads(played: Played, round_index: int) -> list[Adapter]:
    return [m for _, at, m, _ in played.said if at == round_index and isinstance(m, Adapter)]


def heads(one: Experiment) -> dict[str, Tensor]:
    """As all clients begin; the first two blocks are theirs."""
    first = trainable(one.whole())
    return {name: value.detach() for name, value in first.items() if ".0." in name or ".1." in name}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(), (4, 2, 1)], ids=["equal ranks", "unequal ranks"])
@pytest.mark.parametrize("aggregator", ["stack", "fedex"])
def test_a_round_adds_the_mean_of_the_clients_updates(
    aggregator: str, ranks: tuple[int, ...], place: Path, tmp_path: Path
) -> None:
    """What all have after round r: residuals until then, and the weighed mean of B A that came in."""
    one = site(place, aggregator, client_ranks=list(ranks))
    after = [play(site(place, aggregator, client_ranks=list(ranks), rounds=r), tmp_path) for r in (1, 2)]
    first = heads(one)
    came = uploads(after[1], 1)
    samples = sum(update.samples for update in came)
    before = {n: v for n, v in after[0].trained.items() if "residual" in n}
    wanted: dict[str, Tensor] = {}
    for update in came:
        own = products({**update.tensors, **before}, dict(update.tensors))
        for module, value in own.items():
            wanted[module] = wanted.get(module, torch.zeros(())) + value * (update.samples / samples)
    restarted = {
        name: torch.zeros_like(value) if name.endswith(B) else value for name, value in first.items()
    }
    ours = {n: v for n, v in after[1].trained.items() if n in first or "residual" in n}
    found = products(ours, restarted)
    assert found.keys() == wanted.keys()
    for module, value in found.items():
        assert float((value - wanted[module]).norm() / wanted[module].norm()) < 1e-6, module


@pytest.mark.parametrize("aggregator", quick(("stack", "fedex", "svd", "mean", "rolora", "ffa"), "rolora"))
def test_clients_of_unequal_ranks_train_together(aggregator: str, place: Path, tmp_path: Path) -> None:
    played = play(site(place, aggregator, client_ranks=[4, 2, 1]), tmp_path)
    for client, rank in enumerate((4, 2, 1)):
        sent = [m for one, _, m, _ in played.said if one == client and isinstance(m, Adapter)]
        shapes = {min(v.shape) for m in sent for n, v in m.tensors.items() if n.endswith((A, B))}
        assert shapes == {rank}
    install(site(place, aggregator).whole(), played.trained)


@pytest.mark.slow
@pytest.mark.parametrize("init", ["kaiming", "pissa"])
@pytest.mark.parametrize("aggregator", ["fedex", "stack", "svd"])
def test_a_runs_adapter_loads_in_peft(aggregator: str, init: str, place: Path, tmp_path: Path) -> None:
    one = site(place, aggregator, init=init)
    played, whole = play(one, tmp_path), one.whole()
    install(whole, played.trained)
    tensors = {**{n: v.detach() for n, v in trainable(whole).items()}, **played.trained}
    settings = one.config
    out = tmp_path / "adapter"
    export_adapter(out, tensors, whole=whole, model_name="m", adapter=settings.adapter, cut=2)
    stock = tiny.stock(place / "model", "sequence-classification", num_labels=2)
    batch = one.batches(0).batch(0)
    with torch.no_grad():
        found = PeftModel.from_pretrained(stock, out).eval()(**batch.inputs).logits
        torch.testing.assert_close(found, whole(batch.inputs, {}).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("aggregator", ["fedex", "stack", "svd"])
def test_a_client_that_missed_a_round_catches_up_in_the_next(
    aggregator: str, place: Path, tmp_path: Path
) -> None:
    """The beginning of client 1's second round is lost on its way: in the third it hears of both."""
    played = play(site(place, aggregator), tmp_path, Losing(frozenset({(1, "down", 4)})))
    heard = [reply for client, at, message, reply in played.said if at == 2 and isinstance(message, Begin)]
    news = [reply for reply in heard if isinstance(reply, Adapter)]
    assert [reply.version for reply in news] == [2, 2, 2]
    ranks = [sum(len(v) for n, v in one.tensors.items() if n.endswith("residual_A.weight")) for one in news]
    assert (ranks[0] == ranks[2] < ranks[1]) if aggregator != "svd" else ranks == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"aggregator": "stack"},
        {"aggregator": "fedex", "client_ranks": [4, 2]},
        {"aggregator": "mean", "server_optimiser": "adam"},
        {"aggregator": "rolora", "robust": "clip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["sfl-v2", "ushape", "cse-fsl", "fedlora", "heron", "mu-splitfed"])
def test_a_stopped_run_resumes_bit_for_bit(
    name: str, more: dict[str, Any], place: Path, tmp_path: Path
) -> None:
    federation = {"clients": 2, "rounds": 4, "local_steps": 2, **more}
    partition = {"cut": 2, "tail_blocks": int(name == "ushape")}
    one = Experiment.of(toy.config(place, method={"name": name}, federation=federation, partition=partition))
    unbroken = Federation(one)
    for round_index in range(2):
        unbroken.play(round_index)
    unbroken.save(tmp_path)
    anew = Federation(one)
    anew.restore(tmp_path)
    anew.position = unbroken.position
    for round_index in (2, 3):
        assert anew.play(round_index) == unbroken.play(round_index)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["momentum", "adam", "adagrad", "yogi"])
def test_a_server_optimiser_uses_the_mean_update_as_a_gradient(
    kind: str, place: Path, tmp_path: Path
) -> None:
    plain = play(site(place, "mean", rounds=1), tmp_path).trained
    moved = play(site(place, "mean", rounds=1, server_optimiser=kind, server_lr=1e-3), tmp_path).trained
    first = heads(site(place, "mean"))
    for name, start in first.items():
        mean, taken = plain[name] - start, moved[name] - start
        assert not torch.equal(mean, taken)
        assert bool((mean.sign() == taken.sign())[mean.abs() > 1e-6].all()), name


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (
            {"method": {"name": "hybrid"}, "federation": {"aggregator": "stack"}},
            "'hybrid' does not support .*aggregator 'stack'; it supports rolora, ffa, mean, seed-scalar",
        ),
        (
            {"federation": {"aggregator": "seed-scalar"}},
            "does not support federation.aggregator 'seed-scalar'",
        ),
        (
            {"method": {"name": "sfl-v1"}, "federation": {"aggregator": "fedex"}},
            "it supports rolora, ffa, mean",
        ),
        (
            {"federation": {"aggregator": "fedex", "robust": "median"}},
            "federation.robust must be 'none' with federation.aggregator 'fedex', which merges products",
        ),
        (
            {"federation": {"aggregator": "svd", "server_optimiser": "adam"}},
            "server_optimiser must be 'none' with federation.aggregator 'svd'",
        ),
        (
            {"federation": {"robust": "median", "trim": 0.3}},
            "trim is read only with .* 'trimmed-mean': leave",
        ),
        ({"federation": {"server_lr": 0.3}}, "server_lr is read only with federation.server_optimiser"),
        ({"federation": {"robust": "trimmed-mean", "trim": 0.1}}, "must be at least 1 / 2 for 2 clients"),
        ({"federation": {"client_ranks": [4]}}, "one rank for each of the 2 clients, got 1"),
        (
            {"federation": {"client_ranks": [4, 2], "robust": "median"}},
            "federation.robust must be 'none' with federation.client_ranks",
        ),
        (
            {"federation": {"client_ranks": [4, 2]}, "adapter": {"head": {"kind": "ia3"}}},
            "adapter.head.kind must be 'lora'",
        ),
        (
            {"federation": {"aggregator": "stack"}, "adapter": {"head": {"kind": "ia3"}}},
            "adapter.head.kind must be 'lora' .* merges LoRA's products .*; got 'ia3'",
        ),
        (
            {"adapter": {"head": {"kind": "dora"}}},
            "adapter.head.kind must be 'lora' .* mean is exact for weights that are linear .*; got 'dora'",
        ),
        (
            {"federation": {"client_ranks": [4, 2]}, "adapter": {"head": {"init": "pissa"}}},
            "adapter.head.init must be 'kaiming' with federation.client_ranks, since .*; got 'pissa'",
        ),
        (
            {"federation": {"aggregator": "svd"}, "adapter": {"head": {"kind": "loha"}}},
            "adapter.head.kind must be 'lora' .* merges LoRA's products .*; got 'loha'",
        ),
        (
            {
                "method": {"name": "hybrid", "derivative": "jvp"},
                "model": {"attention": "eager"},
                "adapter": {"head": {"kind": "loha"}},
            },
            "adapter.head.kind 'loha' does not work in forward mode: .* take another kind",
        ),
        (
            {
                "method": {"name": "spry"},
                "model": {"attention": "eager"},
                "adapter": {"head": {"kind": "loha"}},
            },
            "'loha' does not work in forward mode",
        ),
        (
            {"method": {"name": "frozen"}, "adapter": {"head": {"rank": 4}}, "train": {"head_lr": 0.1}},
            r"not read adapter.head: leave it at its default, got \(rank=4\).* read train.head_lr: leave",
        ),
        (
            {"method": {"name": "frozen"}, "federation": {"aggregator": "mean"}},
            "not read federation.aggregator",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused(
    tables: dict[str, Any], reason: str, place: Path
) -> None:
    if "adapter" in tables and tables.get("method") != {"name": "frozen"}:
        tables = {**tables, "adapter": {**tables["adapter"], "body": {"rank": 3}}}
    with pytest.raises(ConfigError, match=reason):
        Experiment.of(toy.config(place, **tables))
