"""Batch jobs from an inventory: who runs what, and what a batch job cannot have."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from testbed.colosseum.batch_file import read_batch
from testbed.colosseum.batch_plan import BatchPlan, BatchSettings, plan_batch
from testbed.colosseum.radio_conf import RadioConf, read_radio_conf
from testbed.colosseum.rules import Rules
from testbed.inventory.load import read

EXPERIMENT: dict[str, Any] = {
    "federation": {"clients": 2},
    "model": {"name": "minilm"},
    "transport": {"name": "grpc", "secrets": "/opt/splitfl/secrets"},
}
NODES: dict[str, Any] = {
    "base": {"rf_node": 1, "role": "server", "address": "172.16.0.1"},
    "ue2": {"rf_node": 3, "data": "/data/mine.tsv"},
    "ue1": {"rf_node": 2, "device": "cpu"},
    "relay": {"rf_node": 4, "role": "none"},
}


def inventory(nodes: dict[str, Any] = NODES, **changes: Any) -> dict[str, Any]:
    return {"nodes": nodes, "port": 29500, "scenario": {"id": 1009, "traffic": 10090}, **changes}


def planned(table: dict[str, Any] | None = None, **settings: Any) -> BatchPlan:
    plain = {"name": "demo", "duration_s": 600, "image": "splitfl"}
    return plan_batch(read(table or inventory()), EXPERIMENT, BatchSettings(**{**plain, **settings}))


def test_the_server_listens_at_its_fixed_address_and_the_clients_connect_to_it() -> None:
    confs = planned().confs
    server, client = confs["demo-base.conf"], confs["demo-ue1.conf"]
    assert shlex.split(server.run)[:7] == [
        "splitfl", "serve", "$SPLITFL_EXPERIMENT", "--host", "172.16.0.1", "--port", "29500",
    ]  # fmt: skip
    assert shlex.split(client.run)[:3] == ["splitfl", "join", "172.16.0.1:29500"]
    assert "--device cpu" in client.run
    assert "--data /data/mine.tsv" in confs["demo-ue2.conf"].run
    assert [("--client 0" in confs[f"demo-{name}.conf"].run) for name in ("ue2", "ue1")] == [True, False]
    assert "--transport grpc" in client.run
    assert "--secrets /opt/splitfl/secrets" in client.run
    assert json.loads(server.experiment) == EXPERIMENT
    assert json.loads(client.experiment)["server"] == {"device": "cpu"}
    assert (confs["demo-relay.conf"].run, confs["demo-relay.conf"].warm) == ("true", "true")


def test_the_written_files_are_those_of_the_plan_and_in_the_teams_folders(tmp_path: Path) -> None:
    plan = planned(loops=2, gateways=("base",), modem="python3 scope_start.py", modem_start="start")
    paths = plan.write(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in paths) == [
        "batch/demo.json",
        *(f"config/demo-{name}.conf" for name in ("base", "relay", "ue1", "ue2")),
    ]
    assert read_batch(tmp_path / "batch/demo.json", Rules()) == plan.batch
    for node in plan.batch.nodes:
        assert read_radio_conf((tmp_path / "config" / node.config).read_text()) == plan.confs[node.config]
    assert [node.config for node in plan.batch.nodes if node.is_gateway] == ["demo-base.conf"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (inventory({**NODES, "gpu": {"ssh": "root@gpu"}}), "nodes.gpu has no rf_node: .* not on GPU nodes"),
        (inventory({**NODES, "base": {"rf_node": 1, "role": "server"}}), "fixed IPv4 address .*got 'base'"),
        (inventory({**NODES, "ue1": {"rf_node": 7}}), "RFNode_ID must number the nodes 1 to 4"),
        (inventory(scenario={"id": 1009}), "needs scenario.traffic in the inventory"),
        (inventory(scenario={"traffic": 10090}), "needs scenario.id in the inventory"),
        (inventory(listen_port=22), "listen_port must be port"),
        (inventory(broker={"address": "10.0.0.1"}), "reaches no broker"),
        (inventory(reservation={"minutes": 19}), "takes 20 min .* but reservation.minutes is 19"),
    ],
)
def test_an_inventory_that_no_batch_job_can_have_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(table)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a/b"}, "a batch's name must be letters"),
        ({"image": "under_score"}, "an image's name must be 1 to 30"),
        ({"gateways": ("bass",)}, "unknown gateway 'bass'; did you mean 'base'"),
        ({"modem": "one\ntwo"}, "modem must be one line"),
        ({"modem_start": "later"}, "unknown modem_start 'later'"),
        ({"duration_s": 0}, "Duration must be at least 1"),
    ],
)
def test_settings_that_no_batch_job_can_have_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(**settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"federation": {"clients": 3}}, "must be the number of clients in the inventory, 2, got 3"),
        ({"transport": {"name": "mqtt"}}, "unknown transport.name of a batch job 'mqtt'; have grpc, rpc"),
        ({"auto": {"budget": "memory"}}, "auto.budget must be none in a batch job"),
    ],
)
def test_an_experiment_that_no_batch_job_can_have_is_refused(change: dict[str, Any], message: str) -> None:
    settings = BatchSettings(name="demo", duration_s=600, image="splitfl")
    with pytest.raises(ConfigError, match=message):
        plan_batch(read(inventory()), {**EXPERIMENT, **change}, settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node = one\nrole = client\n", "radio.conf must have the key run"),
        ("node: one\n", "must be `key = value`, got 'node: one'"),
        ("rum = true\n", "unknown key of radio.conf 'rum'; did you mean 'run'"),
        ("node = one\nrole = client\nrun = true\nloops = two\n", "loops must be a whole number, got 'two'"),
    ],
)
def test_a_damaged_radio_conf_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_radio_conf(text)


def test_a_radio_conf_is_read_as_it_was_written() -> None:
    conf = RadioConf(
        node="one", role="client", run='echo "a = b" \\n', loops=3, experiment='{"a": "\\u00e9"}'
    )
    assert read_radio_conf(conf.text()) == conf
