"""A deployment's version, its programs, the session, and the plan against a reservation."""

import dataclasses
import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from splitfl.setup.experiment_file import from_dict, overridden
from testbed.clocks import ClockOffset
from testbed.doctor.examine import Examination, NodePair
from testbed.inventory.load import read
from testbed.inventory.nodes import Inventory
from testbed.remote.deployment import Deployment, DeploymentFolder, check_folders
from testbed.remote.plan import TransportChoice, run_plan
from testbed.remote.programs import (
    check_transport,
    client_program,
    has_secrets,
    overlay_program,
    server_program,
)
from tests.splitfl import toy

place = toy.place()


def inventory_of(**tables: Any) -> Inventory:
    nodes = {
        "gpu": {"address": "10.0.0.1"},
        "a": {"address": "10.0.0.2", "data": "/own.tsv", "device": "cpu"},
        "b": {"address": "10.0.0.3"},
    }
    return read({"server": "gpu", "port": 50051, "nodes": nodes, **tables})


def deployment_of(
    place: Path,
    chosen: str,
    inventory: Inventory | None = None,
    routes: Mapping[str, str] | None = None,
    **tables: Any,
) -> Deployment:
    name = "rpc" if chosen == "overlay" else chosen
    table = overridden(toy.table(place, **tables), [f'transport.name="{name}"'])
    wheel = place / "splitfl.whl"
    wheel.write_bytes(b"wheel")
    nodes = inventory or inventory_of(broker={"address": "10.0.0.9"})
    return Deployment.of("toy", from_dict(table), nodes, chosen, "10.0.0.1", wheel, routes or {})


def words(argv: tuple[str, ...]) -> str:
    return " ".join(argv)


def test_a_version_changes_with_whatever_is_deployed(place: Path) -> None:
    first = deployment_of(place, "grpc")
    assert deployment_of(place, "grpc").version == first.version
    assert deployment_of(place, "rpc").version != first.version
    assert deployment_of(place, "grpc", federation={"rounds": 3}).version != first.version
    (place / "data.tsv").touch()
    assert deployment_of(place, "grpc").version != first.version


def test_over_grpc_clients_join_the_one_port_with_their_own_files(place: Path) -> None:
    deployment, inventory = deployment_of(place, "grpc"), inventory_of()
    home = f"{{root}}/versions/{deployment.version}"
    server = words(server_program(deployment, inventory.server, "").argv)
    assert server.startswith(f"-m experiments serve {home}/toy.json --host 10.0.0.1 --port 50051")
    assert f'--set transport.secrets="{home}/secrets"' in server
    first, second = (client_program(deployment, inventory, node) for node in inventory.clients)
    assert words(first.argv).startswith("-m experiments join 10.0.0.1:50051 --transport grpc --client 0")
    assert "--data /own.tsv --device cpu" in words(first.argv)
    assert f"--data {home}/data/data.tsv --dealt" in words(second.argv)
    assert words(second.argv).endswith(f"--secrets {home}/secrets")
    assert first.env["HF_HUB_OFFLINE"] == "1"


def test_clients_join_by_their_own_routes_unless_the_server_publishes_its_address(place: Path) -> None:
    inventory = inventory_of()
    for transport, where in (("grpc", "172.16.0.1:9"), ("rpc", "10.0.0.1:50051"), ("mqtt", "10.0.0.9:1883")):
        deployment = deployment_of(place, transport, routes={"b": "172.16.0.1:9"})
        _, second = inventory.clients
        assert words(client_program(deployment, inventory, second).argv).split()[3].startswith(where)


def test_in_a_mixed_run_each_client_joins_over_its_own_transport_and_the_server_listens_on_all(
    place: Path,
) -> None:
    inventory = inventory_of(broker={"address": "10.0.0.9"}, listen_port=29500)
    examined = Examination(findings=[], advice=[])
    choice = TransportChoice(transport="mixed", why="", clients=("rpc", "mqtt"), examination=examined)
    table = overridden(toy.table(place), choice.settings(inventory))
    wheel = place / "splitfl.whl"
    wheel.write_bytes(b"wheel")
    routes = {"a": "172.16.0.1:9", "b": "172.16.0.1:9"}
    made = Deployment.of("toy", from_dict(table), inventory, "mixed", "10.0.0.1", wheel, routes)
    server = words(server_program(made, inventory.server, "").argv)
    assert "--host 10.0.0.1 --out" in server
    assert made.settings["transport"]["rpc_port"] == 29501
    assert made.settings["transport"]["broker"] == "10.0.0.9:1883"
    first, second = (words(client_program(made, inventory, node).argv) for node in inventory.clients)
    assert "join 10.0.0.1:29501 --transport rpc --client 0" in first
    assert f"join 10.0.0.9:1883/splitfl-{made.version} --transport mqtt --client 1" in second
    assert not has_secrets(made)
    over_grpc = dataclasses.replace(choice, clients=("grpc", "mqtt"))
    table = overridden(toy.table(place), over_grpc.settings(inventory))
    made = Deployment.of("toy", from_dict(table), inventory, "mixed", "10.0.0.1", wheel, routes)
    assert "transport.secrets=" in words(server_program(made, inventory.server, "").argv)
    first, second = (words(client_program(made, inventory, node).argv) for node in inventory.clients)
    assert "join 172.16.0.1:9 --transport grpc --client 0" in first
    assert "--secrets" in first
    assert "--secrets" not in second
    assert overlay_program(made, inventory, inventory.server) is None


def test_an_interrupted_server_resumes_its_run(place: Path) -> None:
    program = server_program(deployment_of(place, "rpc"), inventory_of().server, "toy-1")
    assert program.argv[:4] == ("-m", "experiments", "resume", "{root}/run/runs/toy-1")


def test_over_mqtt_all_meet_at_the_broker_on_one_topic(place: Path) -> None:
    deployment, inventory = deployment_of(place, "mqtt"), inventory_of()
    topic = f"splitfl-{deployment.version}"
    server = words(server_program(deployment, inventory.server, "").argv)
    assert "--host 10.0.0.9 --port 1883" in server
    assert f'--set transport.topic="{topic}"' in server
    client = words(client_program(deployment, inventory, inventory.clients[1]).argv)
    assert f"join 10.0.0.9:1883/{topic} --transport mqtt --client 1" in client


def test_over_the_overlay_rpc_meets_at_the_hub(place: Path) -> None:
    deployment, inventory = deployment_of(place, "overlay"), inventory_of()
    hub, member = (overlay_program(deployment, inventory, node) for node in inventory.members[:2])
    assert hub is not None
    assert member is not None
    assert "overlay hub --listen 10.0.0.1:50051" in words(hub.argv)
    assert "overlay join 10.0.0.1:50051 --name client-0" in words(member.argv)
    assert "--host 10.99.0.1 --port 29500" in words(server_program(deployment, inventory.server, "").argv)
    client = words(client_program(deployment, inventory, inventory.clients[0]).argv)
    assert "join 10.99.0.1:29500 --transport rpc" in client
    assert overlay_program(deployment_of(place, "rpc"), inventory, inventory.server) is None


def test_another_number_of_clients_and_missing_data_are_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"federation.clients must be 2, the nodes with role client"):
        deployment_of(place, "grpc", federation={"clients": 3})
    with pytest.raises(ConfigError, match=r"task.data: /none.tsv does not exist on this machine"):
        deployment_of(place, "grpc", task={"data": "/none.tsv"})


def test_files_of_a_transport_that_nodes_do_not_have_are_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"transport.secrets must be empty .*, got 'mine'"):
        check_transport({"name": "grpc", "secrets": "mine"})


@pytest.mark.parametrize(
    ("change", "places", "parts"),
    [
        ({"radio_log": "link.jsonl"}, "", ""),
        ({"device": "cuda"}, "", "changed since `deploy` (b): restore it, or use `deploy`"),
        ({"folder": "other"}, "to the folder .splitfl-testbed of srn-2, which the inventory no", "(b)"),
        ({"ssh": "srn-9"}, "the last `deploy` wrote nodes.b to the folder", "(b)"),
        (None, "the last `deploy` wrote nodes.b to the folder", "(b)"),
    ],
)
def test_nodes_that_moved_or_changed_after_a_deployment_are_named(
    tmp_path: Path, change: dict[str, Any] | None, places: str, parts: str
) -> None:
    def read_with(b: dict[str, Any] | None) -> Inventory:
        nodes: dict[str, Any] = {"gpu": {"ssh": "g"}, "a": {"ssh": "srn-1", "server_addresses": ["x:1"]}}
        own = {} if b is None else {"b": {"ssh": "srn-2", **b}}
        return read({"server": "gpu", "nodes": {**nodes, **own}})

    session, now = DeploymentFolder(tmp_path / "nodes.toml"), read_with(change)
    session.check_places(now)
    session.keep_nodes(read_with({}).members)
    for check, message in ((session.check_places, places), (session.check_unchanged, parts)):
        with pytest.raises(ConfigError) if message else nullcontext(ValueError("")) as error:
            check(now)
        assert message in str(getattr(error, "value", error))


def test_clients_in_another_order_are_a_change(tmp_path: Path) -> None:
    session = DeploymentFolder(tmp_path / "nodes.toml")
    session.keep_nodes(inventory_of().members)
    session.check_unchanged(inventory_of())
    clients = inventory_of().clients
    with pytest.raises(ConfigError, match=r"changed since `deploy` \(their order\)"):
        session.check_unchanged(dataclasses.replace(inventory_of(), clients=clients[::-1]))


def test_two_nodes_with_one_folder_of_one_machine_are_refused() -> None:
    same = {"ssh": "srn-1", "folder": "x"}
    with pytest.raises(ConfigError, match=r"nodes.b and nodes.a both have the folder x of srn-1: correct"):
        check_folders(read({"server": "g", "nodes": {"g": {}, "a": same, "b": same}}))
    with pytest.raises(ConfigError, match=r"nodes.b and nodes.a both have the folder .* of this machine"):
        check_folders(read({"server": "g", "nodes": {"g": {"ssh": "g"}, "a": {"lab": "lab"}, "b": {}}}))


def test_a_session_keeps_the_deployment_until_it_is_forgotten(place: Path, tmp_path: Path) -> None:
    session = DeploymentFolder(tmp_path / "nodes.toml")
    with pytest.raises(ConfigError, match="nothing is deployed"):
        session.deployment()
    deployment = deployment_of(place, "grpc")
    session.write(deployment)
    offset = ClockOffset(at_s=1.0, ahead_s=0.5, within_s=0.1)
    session.add_clocks({"a": offset})
    session.add_clocks({"a": offset, "b": offset})
    again = DeploymentFolder(tmp_path / "nodes.toml")
    assert dataclasses.asdict(again.deployment()) == json.loads(json.dumps(dataclasses.asdict(deployment)))
    assert again.clocks() == {"a": [offset, offset], "b": [offset]}
    (again.folder / "deployment.json").write_text("{")
    with pytest.raises(ConfigError, match=r"deployment.json is damaged"):
        again.deployment()
    again.forget()
    assert list(tmp_path.iterdir()) == []


COSTS = {"rounds": 2, "bytes_up_a_client_and_round": 6e6, "bytes_down_a_client_and_round": 3e6}


@pytest.mark.parametrize(
    ("virtual_s", "minutes", "duration_s", "is_too_short"),
    [
        (30.0, 2.0, 96.0, False),
        (30.0, 1.5, 96.0, True),
        (200.0, 2.0, 200.0, True),
        (200.0, 0.0, 200.0, False),
    ],
)
def test_a_reservation_shorter_than_the_longer_duration_is_too_short(
    virtual_s: float, minutes: float, duration_s: float, is_too_short: bool
) -> None:
    """12 MB up at 1 Mbit/s take 96 s."""
    pairs = (
        NodePair(client="a", route="gpu:1", works=("grpc",), rates_bps=(1e6, 1e6)),
        NodePair(client="b", route="gpu:1", works=("grpc",), rates_bps=(2e6, 1e6)),
        NodePair(client="c", route="gpu:1", works=(), rates_bps=None),
    )
    examined = Examination(findings=[], advice=[], pairs=pairs)
    inventory = inventory_of(reservation={"minutes": minutes})
    choice = TransportChoice(transport="grpc", why="", clients=("grpc",) * 3, examination=examined)
    plan = run_plan(inventory, choice, {**COSTS, "virtual_s": virtual_s})
    assert plan.duration_s == pytest.approx(duration_s)
    assert plan.is_too_short == is_too_short
