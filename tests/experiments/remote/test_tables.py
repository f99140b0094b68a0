"""What a plan says of the scenario and of the reservation."""

from typing import Any

from experiments.remote.tables import plan_lines, warning_lines
from testbed.doctor.examine import Examination
from testbed.doctor.findings import BAD, OWN_NAME, WARNING, Finding
from testbed.inventory.load import read
from testbed.remote.plan import RunPlan, TransportChoice

COSTS = {"bytes_up": 2e6, "bytes_down": 1e6, "airtime_s": 30.0, "virtual_s": 90.0}


def test_a_plan_has_the_doctors_warnings() -> None:
    full = Finding(node="srn2", check="disk", state=WARNING, detail="0.5 GiB free")
    named = Finding(node="srn2", check=OWN_NAME, state=WARNING, detail="is 127.0.1.1")
    open_ = Finding(node="srn2", check="paths", state=BAD, detail="no port is open")
    choice = TransportChoice(
        transport="grpc",
        why="",
        clients=(),
        examination=Examination(findings=[full, named, open_], advice=[]),
    )
    plan = RunPlan(choice=choice, costs=COSTS, transfer_s=None, reserved_s=0)
    assert warning_lines(plan) == ["srn2: disk: 0.5 GiB free"]


def lines(**tables: Any) -> list[str]:
    nodes = {"gpu": {}, "srn40": {"rf_node": 2}, "srn12": {"rf_node": 1, "role": "none"}}
    examined = Examination(findings=[], advice=[])
    why = "one port is open"
    choice = TransportChoice(transport="grpc", why=why, clients=("grpc",), examination=examined)
    inventory = read({"server": "gpu", "nodes": nodes, **tables})
    reserved_s = inventory.reservation.minutes * 60
    plan = RunPlan(choice=choice, costs=COSTS, transfer_s=None, reserved_s=reserved_s)
    return plan_lines(inventory, plan)


def test_a_plan_has_the_scenario_with_its_radio_map_and_compares_the_reservation() -> None:
    transport, costs = lines()
    assert transport == "transport grpc: one port is open"
    assert costs.startswith("2 MB up and 1 MB down, all clients; 30 s of airtime")
    told = lines(scenario={"id": 1009}, reservation={"minutes": 1})
    assert told[1] == "scenario 1009: node 1 is srn12, node 2 is srn40"
    assert told[-1].startswith("the reservation of 60 s is too short: the run takes about 90 s")
    assert "is long enough" in lines(reservation={"minutes": 2})[-1]
