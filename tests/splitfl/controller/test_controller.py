"""The controller from round to round: what it goes by, what it spends, and that nothing of it is lost."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from channel.core.link import Delivery, Transfer
from splitfl.client.client import ClientNode
from splitfl.config import ErasureConfig, RunConfig
from splitfl.controller.budget import resolved
from splitfl.controller.cost_table import Option, declared
from splitfl.controller.dry_run import controller_for, run_dry, table_of
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Adapter, Gradient
from splitfl.runtime.simulate import run_inproc
from splitfl.server.run import Run
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict
from splitfl.setup.links import own_link
from tests.splitfl import toy
from tests.splitfl.driver import Played, play

ROUNDS, CLIENTS = 4, 2
WAY = {"rate_bps": 1e6, "delay_s": 1e-3}
ROLES = {"methods": ["sfl-v2", "frozen"]}
ALL = {"methods": ["sfl-v2", "hybrid", "cse-fsl", "frozen"], "head_lrs": [1e-3, 0.1, 5e-4, 1e-3]}


place = toy.place(is_base=True, rows=40)


def asked(
    place: Path, *, federation: Any = None, link: Any = None, method: Any = None, **auto: Any
) -> RunConfig:
    clients = {"clients": CLIENTS, "rounds": ROUNDS, "partition": "iid", **(federation or {})}
    tables: dict[str, Any] = {
        "adapter": {"head": {"rank": 4}, "body": {"rank": 4}},
        "federation": clients,
        "partition": {"cut": 1},
        "link": link or {"up": WAY, "down": WAY},
        "server": {"device": "cpu", "flops": 1e9},
        "auto": {"budget": "bytes", "limit": 1e6, "every": 1, **auto},
        "method": method or {},
    }
    return toy.config(place, **tables)


def spent(played: Played, client: int) -> float:
    both = (played.ledger.traffic[at, client, way] for at in range(ROUNDS) for way in ("up", "down"))
    return float(sum(one.payload_bytes for one in both))


def least_and_most(place: Path) -> tuple[float, float]:
    """Bytes of a round in which client 0 stands still, and of one in which it learns."""
    options = table_of(resolved(asked(place, **ROLES)))[0]
    return tuple(sum(one.payload_bytes for one in option.crosses.values()) for option in options[::-1])  # type: ignore[return-value]


@pytest.mark.slow
def test_a_budget_between_two_plans_is_met_by_alternating_between_them(place: Path, tmp_path: Path) -> None:
    least, most = least_and_most(place)
    budget = 0.5 * (least + most)
    played = play(Experiment.of(resolved(asked(place, limit=budget, **ROLES))), tmp_path)
    plans = [row["method"] for row in played.rows("plan") if row["client"] == 0]
    assert {"sfl-v2", "frozen"} == set(plans)
    assert 0.7 * ROUNDS * budget < spent(played, 0) <= ROUNDS * budget
    hears = {at: 0 for at in range(ROUNDS)}
    for client, at, message, reply in played.said:
        if client == 0 and isinstance(message, Activation):
            hears[at] += isinstance(reply, Gradient)
    assert [bool(heard) for heard in hears.values()] == [plan == "sfl-v2" for plan in plans]


@pytest.mark.slow
def test_the_first_codec_that_fits_is_taken_and_both_ends_use_it(place: Path, tmp_path: Path) -> None:
    free = play(Experiment.of(resolved(asked(place, codecs=["none", "int8"]))), tmp_path)
    assert {row["codec"] for row in free.rows("plan")} == {"none"}
    tight = resolved(asked(place, limit=0.6 * spent(free, 0) / ROUNDS, codecs=["none", "int8"]))
    played = play(Experiment.of(tight), tmp_path)
    assert played.rows("plan")[0]["codec"] == "int8"
    for kind in ("Activation", "Gradient"):
        first = [
            next(row["payload_bytes"] for row in one.rows("transfer") if row["kind"] == kind)
            for one in (free, played)
        ]
        assert first[1] < 0.6 * first[0]
    assert played.losses[-1] < played.losses[0]


@pytest.mark.slow
def test_a_codec_for_messages_sent_as_analog_symbols_is_refused(place: Path) -> None:
    config = asked(place, codecs=["none", "int8"])
    noisy = dataclasses.replace(config, analog=dataclasses.replace(config.analog, kinds=("activation",)))
    with pytest.raises(ConfigError, match=r"codec.activation must be 'none' where analog.kinds has"):
        resolved(noisy)


class _Slows:
    """A link that takes ten times as long for client 0 from a moment on."""

    def __init__(self, own: Any, from_s: float) -> None:
        self._own, self._from_s = own, from_s

    def transfer(self, transfer: Transfer) -> Delivery:
        delivery: Delivery = self._own.transfer(transfer)
        if transfer.client or transfer.start_s < self._from_s:
            return delivery
        airtime_s = 10 * delivery.airtime_s
        finish_s = delivery.finish_s + airtime_s - delivery.airtime_s
        return dataclasses.replace(delivery, airtime_s=airtime_s, finish_s=finish_s)


@pytest.mark.slow
def test_a_client_whose_link_is_slower_than_planned_gets_a_plan_with_fewer_bytes(
    place: Path, tmp_path: Path
) -> None:
    usual = asked(place, budget="seconds", limit=100.0, **ROLES)
    option = next(one for one in table_of(resolved(usual))[0] if one.plan.method == "sfl-v2")
    most = 1.5 * option.seconds(declared(usual)[0], usual.server.flops)
    site = Experiment.of(resolved(asked(place, budget="seconds", limit=most, **ROLES)))
    quick = play(site, tmp_path)
    assert {row["method"] for row in quick.rows("plan")} == {"sfl-v2"}
    slow = play(site, tmp_path, _Slows(own_link(site.config), quick.ends[0].finish_s))
    told = {(row["round"], row["client"]): row["method"] for row in slow.rows("plan")}
    assert told[0, 0] == told[1, 0] == "sfl-v2"
    assert "frozen" in {told[at, 0] for at in range(2, ROUNDS)}
    assert {told[at, 1] for at in range(ROUNDS)} == {"sfl-v2"}
    changed = [reason for reason in slow.ledger.chosen if "client 0: frozen" in reason]
    assert changed
    assert "airtime over the dry run's: up 10, down 10" in changed[0]


@pytest.mark.slow
def test_energy_is_a_budget_too(place: Path, tmp_path: Path) -> None:
    free = resolved(asked(place, budget="joules", limit=1e6, **ROLES))
    played = play(Experiment.of(free), tmp_path)
    each = sum(played.ledger.traffic[1, 0, way].energy_j for way in ("up", "down"))
    assert {row["method"] for row in played.rows("plan")} == {"sfl-v2"}
    saving = play(Experiment.of(resolved(asked(place, budget="joules", limit=0.7 * each, **ROLES))), tmp_path)
    assert "frozen" in {row["method"] for row in saving.rows("plan") if row["client"] == 0}


@pytest.mark.slow
def test_a_client_with_little_memory_holds_and_receives_less(place: Path, tmp_path: Path) -> None:
    cuts = {"cuts": [1, 2, 3], "budget": "seconds", "limit": 1e3}
    fast = {"client_flops": [1e12, 1e12]}
    free = resolved(asked(place, federation=fast, **cuts))
    assert free.federation.client_cuts == (3, 3)
    options = table_of(free)[0]
    room = next(one.memory.total_bytes for one in options if one.plan.cut == 2)
    tight = resolved(asked(place, federation=fast, client_memory_bytes=[room, 10 * room], **cuts))
    assert tight.federation.client_cuts == (2, 3)
    played = play(Experiment.of(tight), tmp_path)
    assert {row["cut"] for row in played.rows("plan") if row["client"] == 0} <= {1, 2}
    assert run_dry(Experiment.of(tight)).clients[0].total_bytes <= room
    with pytest.raises(
        ConfigError, match=r"auto finds no plan within client 0's memory of 1 B: the smallest is"
    ):
        resolved(asked(place, client_memory_bytes=[1, room], **cuts))


def room_of(options: Sequence[Option], method: str) -> int:
    """Memory that is just enough for a client that has all four methods' pieces to learn by this one."""
    parameters = max(one.memory.parameter_bytes for one in options)
    one = next(one.memory for one in options if one.plan.method == method)
    return parameters + one.optimiser_bytes + one.gradient_bytes + one.saved_bytes


@pytest.mark.slow
def test_a_client_without_memory_for_backpropagation_uses_forward_mode(place: Path, tmp_path: Path) -> None:
    free = resolved(asked(place, **ALL))
    options = table_of(free)[0]
    need = {name: room_of(options, name) for name in ALL["methods"]}
    assert need["frozen"] == need["hybrid"] < need["sfl-v2"] < need["cse-fsl"]
    rooms = [need["hybrid"], need["sfl-v2"]]
    played = play(Experiment.of(resolved(asked(place, client_memory_bytes=rooms, **ALL))), tmp_path)
    told = {(row["client"], row["method"]) for row in played.rows("plan")}
    assert told == {(0, "hybrid"), (1, "sfl-v2")}
    uploads = [message for who, _, message, _ in played.said if who == 0 and isinstance(message, Adapter)]
    assert all(any(value.abs().sum() for value in upload.tensors.values()) for upload in uploads)


@pytest.mark.slow
def test_every_method_has_its_turn_as_the_budget_gets_smaller(place: Path, tmp_path: Path) -> None:
    """By bytes: gradients come down by two of the methods, and by one an auxiliary travels too."""
    options = table_of(resolved(asked(place, **ALL)))[0]
    costs = {one.plan.method: sum(its.payload_bytes for its in one.crosses.values()) for one in options}
    assert costs["frozen"] < costs["cse-fsl"] < min(costs["hybrid"], costs["sfl-v2"])
    found = set()
    for most in (costs["sfl-v2"], costs["cse-fsl"], costs["frozen"]):
        played = play(Experiment.of(resolved(asked(place, limit=1.01 * most, **ALL))), tmp_path)
        found |= {row["method"] for row in played.rows("plan")}
        assert spent(played, 0) <= 1.01 * most * ROUNDS
    assert found == {"sfl-v2", "cse-fsl", "frozen"}


@pytest.mark.slow
def test_plans_hold_for_as_many_rounds_as_the_settings_say(place: Path, tmp_path: Path) -> None:
    config = resolved(asked(place, every=3, **ROLES))
    played = play(Experiment.of(config), tmp_path)
    assert [row["round"] for row in played.rows("plan")] == [0, 0, 3, 3]


@pytest.mark.slow
@pytest.mark.parametrize("methods", [ROLES, ALL])
def test_dry_run_and_run_send_the_same_bytes(methods: Any, place: Path, tmp_path: Path) -> None:
    least, most = least_and_most(place)
    site = Experiment.of(
        resolved(asked(place, limit=0.5 * (least + most), codecs=["none", "int4"], **methods))
    )
    foreseen, played = run_dry(site), play(site, tmp_path)
    for way in ("up", "down"):
        assert foreseen.ledger.total(way) == played.ledger.total(way)
    assert foreseen.ledger.chosen == played.ledger.chosen
    assert foreseen.ledger.total_flops("client") == played.ledger.total_flops("client")


@pytest.mark.slow
def test_settings_of_such_a_run_come_back_from_a_file_as_they_were(place: Path) -> None:
    config = resolved(asked(place, **ROLES))
    assert resolved(config) is config
    assert from_dict(json.loads(json.dumps(as_dict(config)))) == config


class _Killed(BaseException):
    pass


class _Silent:
    def stepped(self, round_index: int, client: int, steps: int) -> None:
        pass

    def measured(self, row: Any) -> None:
        pass


def whole_run(site: Experiment, folder: Path, killed_before: int | None = None) -> None:
    shelves = folder / "checkpoint"
    nodes = [
        ClientNode.of(site, client, CheckpointStore.of_client(shelves / f"client-{client}"))
        for client in range(CLIENTS)
    ]
    with Run(site, folder, _Silent(), CheckpointStore(shelves).newest(), controller_for(site.config)) as run:
        at = run.first_round

        def on_round() -> None:
            nonlocal at
            if at == killed_before:
                raise _Killed
            at += 1

        for node in nodes:
            node.restore(run.first_round)
        run_inproc(site.config, nodes, run.server_loop, run.first_round, on_round=on_round)
        run.finish([])


@pytest.mark.parametrize(
    ("round_index", "methods"),
    [(2, ROLES)] + [pytest.param(3, methods, marks=pytest.mark.slow) for methods in (ALL, ROLES)],
)
def test_a_resumed_run_has_the_plans_of_an_uninterrupted_one(
    round_index: int, methods: Any, place: Path, tmp_path: Path
) -> None:
    least, most = least_and_most(place)
    config = resolved(asked(place, limit=0.5 * (least + most), codecs=["none", "int8"], **methods))
    site = Experiment.of(config)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole_run(site, tmp_path / "whole")
    with pytest.raises(_Killed):
        whole_run(site, tmp_path / "parts", killed_before=round_index)
    whole_run(site, tmp_path / "parts")
    rows = [_rows(tmp_path / name) for name in ("whole", "parts")]
    assert rows[0] == rows[1]
    assert any(row["event"] == "plan" for row in rows[0])
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "parts")]
    assert summaries[0]["chosen"] == summaries[1]["chosen"]
    trained = [
        (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes()
        for name in ("whole", "parts")
    ]
    assert trained[0] == trained[1]


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "wall_s"} for row in rows]


@pytest.mark.slow
def test_a_client_says_how_fast_it_was_and_is_planned_by_that(place: Path, tmp_path: Path) -> None:
    """By the settings it works at an impossible speed, which fits; what it is found to do does not.

    What it says as a round begins is of use from the next decision on.
    """
    fast = {"client_flops": [1e16] * CLIENTS}
    tables = {"federation": fast, "link": {"up": {}, "down": {}}, "budget": "seconds", **ROLES}
    site = Experiment.of(resolved(asked(place, limit=1.0, **tables)))
    options = [one for one in table_of(site.config)[0] if one.plan.method == "sfl-v2"]
    most = options[0].server_flops / site.config.server.flops + options[0].client_flops / 1e13
    methods = {}
    for speed in ("declared", "measured"):
        played = play(Experiment.of(resolved(asked(place, limit=most, speed=speed, **tables))), tmp_path)
        methods[speed] = [row["method"] for row in played.rows("plan") if row["client"] == 0]
    assert methods == {"declared": ["sfl-v2"] * ROUNDS, "measured": ["sfl-v2", "sfl-v2", "frozen", "frozen"]}


@pytest.mark.parametrize(
    ("auto", "complaint"),
    [
        (
            {"methods": ["sfl-v2", "sfl-v1"]},
            r"auto.methods must name sfl-v2, frozen, cse-fsl, hybrid with auto.every, .* got 'sfl-v1'",
        ),
        ({"head_lrs": [1e-3]}, r"auto.head_lrs must name a rate for each of the 0 auto.methods, .* got 1"),
        (
            {"methods": ["sfl-v2", "cse-fsl"], "cuts": [1, 3], "method": {"auxiliary_blocks": 2}},
            r"method.auxiliary_blocks must be at most the 1 blocks above the cut, got 2",
        ),
        (
            {"methods": ["sfl-v2", "cse-fsl"], "method": {"mu": 1e-2}},
            r"unknown key 'method.mu'; the method 'sfl-v2' has .*, auxiliary_blocks, upload_interval; it is",
        ),
        ({"ranks": [8]}, r"auto.ranks are of LoRA and at most adapter.head.rank, 4, got 8"),
        (
            {"limit": 1.0, "codecs": ["none", "int4"]},
            r"client 0 spends at least .* B in a round, .*, and auto.limit is 1",
        ),
        ({"cuts": [1, 4]}, r"federation.client_cuts must lie in 1\.\.3"),
    ],
)
def test_an_experiment_without_a_possible_plan_is_refused_before_it_starts(
    place: Path, auto: Any, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Experiment.of(resolved(asked(place, **auto)))


def test_other_methods_are_not_planned_from_round_to_round(place: Path) -> None:
    config = asked(place, **ROLES)
    other = dataclasses.replace(config, method=dataclasses.replace(config.method, name="hybrid"))
    with pytest.raises(ConfigError, match=r"auto.every needs method.name 'sfl-v2', got 'hybrid'"):
        resolved(other)
    stale = dataclasses.replace(asked(place, cuts=[1, 2]), erasure=ErasureConfig(gradient="stale"))
    with pytest.raises(ConfigError, match=r"cannot be 'stale' with several auto\.cuts"):
        resolved(stale)
    rounded = dataclasses.replace(config, codec=dataclasses.replace(config.codec, gradient="int8"))
    with pytest.raises(ConfigError, match=r"leave \[codec\] at its defaults and name auto.codecs"):
        resolved(rounded)


@pytest.mark.slow
def test_equal_plans_are_equal_bits_whatever_they_are_chosen_by(place: Path, tmp_path: Path) -> None:
    """Where one plan always fits, the controller changes nothing of the run."""
    played = play(Experiment.of(resolved(asked(place, **ROLES))), tmp_path)
    federation = {"clients": CLIENTS, "rounds": ROUNDS, "partition": "iid", "client_cuts": [1, 1]}
    plain = toy.config(
        place,
        adapter={"head": {"rank": 4}, "body": {"rank": 4}},
        federation=federation,
        partition={"cut": 1},
        link={"up": WAY, "down": WAY},
        server={"device": "cpu", "flops": 1e9},
    )
    other = play(Experiment.of(plain), tmp_path)
    assert played.losses == other.losses
    assert all(torch.equal(value, other.trained[name]) for name, value in played.trained.items())
