"""Real packets between namespaces: what the virtual clock decides happens, and nothing stays behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from channel.links.fixed import Direction, FixedLink
from channel.live.emulation import Emulation
from channel.live.switch import DeliveryOrder
from channel.scenario import load as scenario
from splitfl.core.errors import ConfigError, PeerLost
from testbed.errors import NotRoot
from testbed.live import LiveLink
from testbed.namespaces import started_at
from tests.testbed.agreement import agreement
from tests.testbed.waiting import until

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="live links need root and /dev/net/tun"
    ),
]
NAMED = Path("/run/netns")


def emulation(air: FixedLink | scenario.Scenario, **settings: int | str) -> Emulation:
    return Emulation(air=air, clients=1, order=DeliveryOrder(seed=1), **settings)  # type: ignore[arg-type]


def left_of(pid: int, ticks: str) -> list[str]:
    """The namespaces of this owner that are still there."""
    return [entry.name for entry in NAMED.iterdir() if f"splitfl-{pid}-{ticks}-" in entry.name]


def own() -> list[str]:
    return left_of(os.getpid(), started_at(os.getpid()))


@pytest.mark.slow
def test_the_very_packets_that_virtual_time_loses_are_lost_live() -> None:
    link = FixedLink(seed=11, up=Direction(rate_bps=50e6, delay_s=0.005, loss_rate=0.2), max_tries=1)
    found = agreement(emulation(link), packets=1000, size_bytes=500, gap_s=0.0005)
    assert 700 < found.virtual_N.sum() < 900
    np.testing.assert_array_equal(found.live_N, found.virtual_N)
    assert own() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jammed", "lab-wifi"])
def test_a_scenario_gives_the_same_loss_and_throughput_live_as_in_virtual_time(name: str) -> None:
    """Within three standard errors: packets come at other moments live, by the machine's own jitter.

    All are of one size and sent at one rate, so their share that arrives is the throughput too.
    """
    loaded = scenario.load(name)
    lossy = replace(loaded, seed=5, link=replace(loaded.link, harq="none", max_tries=1))
    settings = emulation(lossy, recovery="unacknowledged", queue_bytes=10**7)
    found = agreement(settings, packets=4000, size_bytes=1000, gap_s=0.0005)
    assert 0.01 < 1.0 - found.virtual_N.mean() < 0.99
    assert found.sigmas < 3.0


@pytest.mark.slow
def test_two_links_at_once_do_not_touch_each_other() -> None:
    lossy = FixedLink(seed=1, up=Direction(loss_rate=0.5), max_tries=1)
    with LiveLink(emulation(lossy), "reno"):
        found = agreement(emulation(FixedLink(seed=1)), packets=200, size_bytes=100, gap_s=0.0005)
        assert len(own()) == 2
        assert found.live_N.all()
    assert own() == []


def test_the_congestion_control_is_the_one_asked_for_or_there_is_none() -> None:
    with LiveLink(emulation(FixedLink(seed=0)), "reno") as live:
        path = "/proc/sys/net/ipv4/tcp_congestion_control"
        assert [one.run(["cat", path], 5) for one in (live.server, *live.clients)] == ["reno\n"] * 2
    with pytest.raises(ConfigError, match="congestion control could not be set to 'nosuch' in a namespace"):
        LiveLink(emulation(FixedLink(seed=0)), "nosuch")
    assert own() == []


def test_a_link_that_cannot_be_is_refused_before_anything_stays() -> None:
    crowd = Emulation(air=FixedLink(seed=0), clients=300, order=DeliveryOrder(seed=0))
    with pytest.raises(ConfigError, match=r"clients must be at most 253 in 10\.77\.0\.0/24, got 300"):
        LiveLink(crowd, "reno")
    few = emulation(replace(scenario.load("ideal"), seed=0))
    with pytest.raises(ConfigError, match="clients must be at most the cell's"):
        LiveLink(replace(few, clients=200), "reno")
    assert own() == []


def test_without_root_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        NotRoot, match=r"live links need root.*splitfl channel proxy.* rate and delay, and only"
    ):
        LiveLink(emulation(FixedLink(seed=0)), "reno")


@pytest.mark.slow
def test_a_forwarder_that_dies_is_noticed_and_everything_goes() -> None:
    with LiveLink(emulation(FixedLink(seed=0)), "reno") as live:
        assert live.dead() is None
        (forwarder,) = [child for child in children(os.getpid()) if "testbed.forwarder" in child[1]]
        os.kill(forwarder[0], signal.SIGKILL)
        until(lambda: live.dead() is not None)
        assert live.dead() == "the live link's forwarder died with signal SIGKILL"
        with pytest.raises(PeerLost, match="died with signal SIGKILL"):
            live.finish()
    assert own() == []


OWNER = """
import sys, time
from channel.links.fixed import FixedLink
from channel.live.emulation import Emulation
from channel.live.switch import DeliveryOrder
from testbed.live import LiveLink
from tests.testbed.agreement import agreement
live = LiveLink(Emulation(air=FixedLink(seed=0), clients=2, order=DeliveryOrder(seed=0)), "reno")
child = live.clients[1].popen(["setsid", "setpriv", "--pdeathsig", "clear", "sleep", "600"])
time.sleep(0.3)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_an_owner_that_is_killed_leaves_nothing_behind(
    start: Callable[..., "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    output = tmp_path / "owner"
    owner = start(sys.executable, "-c", OWNER, output=output, PYTHONPATH=str(Path(__file__).parents[2]))
    until(lambda: output.read_text().endswith("\n"))
    ticks, family = started_at(owner.pid), children(owner.pid)
    assert len(left_of(owner.pid, ticks)) == 3
    assert len(family) == 2
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    until(lambda: left_of(owner.pid, ticks) == [])  # by the forwarder, before any other run looks
    until(lambda: not any(started_at(pid) for pid, _ in family))


def children(pid: int) -> list[tuple[int, str]]:
    """The child processes of this one, with their command lines."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found.append((int(child), Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")))
    return found
