"""Plans of labs: what they may say, and the rules that follow."""

from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from testbed.inventory import load as inventory
from testbed.lab import plan
from testbed.lab.firewall import ruleset

PLAN: dict[str, Any] = {
    "networks": {"a0": "10.1.0.0/24", "b0": "10.2.0.0/24"},
    "nodes": {
        "one": {"role": "radio", "a0": "10.1.0.2", "routes": {"default": "10.1.0.1"}},
        "two": {"role": "server", "b0": "10.2.0.2"},
        "wall": {"role": "router", "a0": "10.1.0.1", "b0": "10.2.0.1", "closed": True},
    },
    "allow": [{"from": ["radio"], "to": ["two"], "ports": [80, 443]}, {"from": ["b0"], "to": ["one"]}],
}


def changed(**nodes: Any) -> dict[str, Any]:
    return {**PLAN, "nodes": {**PLAN["nodes"], **nodes}}


@pytest.mark.parametrize("name", plan.names())
def test_the_plans_that_come_with_splitfl_are_good_and_as_on_colosseum(name: str) -> None:
    lab = plan.find(name)
    assert lab.about
    assert str(lab.nodes["srn2"].addresses["can0"].ip) == "172.18.77.102"
    assert str(lab.nodes["srn2"].addresses["tr0"].ip) == "192.168.102.1"
    assert lab.nodes["gpu"].address == "10.100.13.153"


def test_rules_decide_permitted_connections() -> None:
    lab = plan.read("x", PLAN)
    rules = ruleset(lab, lab.nodes["wall"])
    assert "ip saddr { 10.1.0.2 } ip daddr { 10.2.0.2 } tcp dport { 80, 443 } accept" in rules
    assert "ip saddr { 10.2.0.0/24 } ip daddr { 10.1.0.2 } accept" in rules
    assert 'counter name "blocked" drop' in rules
    refusing = plan.read("x", changed(wall={**PLAN["nodes"]["wall"], "refuses": True}))
    assert "reject with icmp type admin-prohibited" in ruleset(refusing, refusing.nodes["wall"])


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"nodes": {}}, r"a lab must have a table \[networks\]"),
        ({**PLAN, "nods": {}}, r"unknown 'nods'; did you mean 'nodes'\?"),
        ({**PLAN, "networks": {"a0": "10.1.0.1/24"}}, r"networks\.a0 must be an IPv4 network"),
        (changed(one={"role": "ship", "a0": "10.1.0.2"}), "one of radio, station, .*, got 'ship'"),
        (changed(one={"role": "radio"}), "nodes.one is on no network; have a0, b0"),
        (changed(one={"role": "radio", "a0": "10.2.0.9"}), r"must lie in 10\.1\.0\.0/24, got 10\.2\.0\.9"),
        (changed(one={"role": "radio", "a0": "10.1.0.1"}), r"both have the address 10\.1\.0\.1"),
        (changed(one={"role": "radio", "a0": "10.1.0.2", "closed": True}), "only a router may have closed"),
        (
            changed(one={"role": "radio", "a0": "10.1.0.2", "routes": {"all": "10.1.0.1"}}),
            "default or an IPv4 network",
        ),
        (
            changed(Big={"role": "radio", "a0": "10.1.0.3"}),
            "lower-case letters and digits, got 'Big'",
        ),
        ({**PLAN, "allow": [{"from": ["radios"], "to": ["two"]}]}, "unknown 'radios'; did you mean 'radio'"),
        ({**PLAN, "allow": [{"from": ["radio"]}]}, r"allow\.to must name"),
        (
            {**PLAN, "allow": [{"from": ["radio"], "to": ["station"]}]},
            r"allow\.to: no node has the role 'station'; the nodes are radio, router, server",
        ),
        (
            {**PLAN, "allow": [{"from": ["broker"], "to": ["two"]}]},
            "no node has the role 'broker'",
        ),
        (
            {**PLAN, "allow": [{"from": ["one"], "to": ["two"], "ports": [0]}]},
            r"lie in 1\.\.65535, got \[0\]",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        plan.read("x", table)


def test_an_unknown_plan_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown lab 'opem'; did you mean 'open'"):
        plan.find("opem")


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("what = is this")
    with pytest.raises(ConfigError, match=r"x\.toml: Invalid value"):
        plan.find(str(tmp_path / "x.toml"))


def test_a_number_that_is_too_long_to_be_shown_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(f"[networks]\na = 0x{'f' * 5000}\n")
    with pytest.raises(ConfigError, match=r"long\.toml: Exceeds the limit"):
        plan.find(str(tmp_path / "long.toml"))


def test_a_broker_without_an_address_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text('server = "gpu"\n[broker]\nport = 1883\n[nodes.gpu]\n[nodes.radio]\n')
    with pytest.raises(ConfigError, match=r"nodes\.toml: broker needs the key address, got none"):
        inventory.load(path)


def test_a_plan_and_an_inventory_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "marked.TOML").write_bytes(
        b'\xef\xbb\xbf[networks]\na0 = "10.1.0.0/24"\n[nodes.one]\nrole = "radio"\na0 = "10.1.0.2"\n'
    )
    assert list(plan.find(str(tmp_path / "marked.TOML")).nodes) == ["one"]
    (tmp_path / "INVENTORY.TOML").write_bytes(b'\xef\xbb\xbfserver = "a"\n[nodes.a]\n[nodes.b]\n')
    assert inventory.load(tmp_path / "INVENTORY.TOML").server.name == "a"
