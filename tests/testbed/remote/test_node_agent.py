"""What the agent does with a node's folder: programs, their records, and what it leaves alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.remote import node_agent
from tests.testbed.waiting import until

VERSION = "1"
ROOT = str(Path(__file__).parents[3])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """A deployed folder, whose packages are this checkout's."""
    where = str(tmp_path / "node")
    node_agent.prepare(where, VERSION, "a")
    site = tmp_path / "node" / "versions" / VERSION / "site"
    site.mkdir()
    (site / "testbed").symlink_to(Path(node_agent.__file__).parents[1])
    node_agent.activate(where, VERSION, {"role": "client"})
    yield where
    node_agent.remove(where, [])


def start(folder: str, code: str) -> None:
    assert node_agent.start(folder, VERSION, "client", ["-c", code], {}) == {}


def record(folder: str) -> dict[str, Any]:
    programs: dict[str, dict[str, Any]] = node_agent.look(folder)["programs"]
    return programs["client"]


def test_a_program_leaves_its_exit_code_and_its_lines_with_times(folder: str) -> None:
    began_s = time.time()
    start(folder, "print('one'); print('two'); raise SystemExit(3)")
    ended = until(lambda: one if (one := record(folder))["state"] != "running" else None)
    assert (ended["state"], ended["code"], ended["last"], ended["starts"]) == ("failed", 3, "two", 1)
    assert all("lo" in ended[key]["interfaces"] for key in ("network", "network_at_end"))
    assert ended["network_at_end"]["tcp_segments"].keys() == {"sent", "retransmitted"}
    stamps = [float(line.split()[0]) for line in (Path(folder) / "run/client.log").read_text().splitlines()]
    assert began_s - 0.1 <= stamps[0] <= stamps[1] <= time.time() + 0.1
    start(folder, "")
    assert until(lambda: one if (one := record(folder))["state"] == "done" else None)["starts"] == 2


@pytest.mark.slow
def test_a_running_program_is_not_started_twice_and_stops_even_if_it_ignores_that(folder: str) -> None:
    ignores = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\n"
    start(folder, ignores + "time.sleep(600)")
    until(lambda: record(folder)["last"] == "up")
    pid = record(folder)["pid"]
    start(folder, "")
    assert record(folder)["pid"] == pid
    assert "a run is in progress (client)" in node_agent.prepare(folder, "2", "a")["error"]
    assert node_agent.stop(folder, ["server"]) == {}
    assert record(folder)["state"] == "running"
    assert node_agent.stop(folder, []) == {}
    assert record(folder)["state"] in ("failed", "lost")


def test_a_program_of_an_earlier_boot_is_lost(folder: str) -> None:
    start(folder, "import time; time.sleep(600)")
    path = Path(folder) / "run" / "client.json"
    mine = json.loads(path.read_text())
    path.write_text(json.dumps({**mine, "boot": "another"}))
    assert record(folder)["state"] == "lost"
    path.write_text(json.dumps(mine))
    assert record(folder)["state"] == "running"


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("")
    assert "is not splitfl's" in node_agent.prepare(str(tmp_path / "thesis"), VERSION, "a")["error"]
    assert node_agent.remove(str(tmp_path / "thesis"), []) == {"removed": False}
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_two_nodes_that_see_the_same_disk_must_have_folders_of_their_own(folder: str) -> None:
    refused = node_agent.prepare(folder, VERSION, "b")["error"]
    assert refused == f"{folder} is that of a, on the same disk: set nodes.b.folder to another"
    assert node_agent.remove(folder, ["a"]) == {"removed": False}
    assert node_agent.look(folder)["state"]["node"] == "a"


def test_packages_that_the_interpreter_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_agent.packages() == {}
    monkeypatch.setattr(node_agent, "MODULES", ("torch", "no_such_package", "splitfl"))
    assert node_agent.packages()["error"] == (
        f"{sys.executable} lacks no_such_package: give a `wheelhouse`, or another `python`"
    )


def test_another_version_replaces_the_first_and_its_run(folder: str) -> None:
    (Path(folder) / "run" / "client.log").write_text("old")
    node_agent.prepare(folder, "2", "a")
    node_agent.activate(folder, "2", {})
    assert [path.name for path in (Path(folder) / "versions").iterdir()] == ["2"]
    assert list((Path(folder) / "run").iterdir()) == []
    assert node_agent.look(folder)["state"] == {"version": "2", "node": "a"}


def write_wheel(path: Path, name: str, needs: str = "") -> None:
    """A wheel of a module without content."""
    facts = f"{name}-1.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n" + (
        f"Requires-Dist: {needs}\n" if needs else ""
    )
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path / f"{name}-1-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{facts}/METADATA", metadata)
        archive.writestr(f"{facts}/WHEEL", wheel)
        archive.writestr(f"{facts}/RECORD", "")


@pytest.mark.slow
def test_an_installation_ends_with_the_connection(folder: str, tmp_path: Path) -> None:
    """Else it and that of a repeated `deploy` would write the same files, and those that `down` removes."""
    shutil.rmtree(Path(folder) / "versions" / VERSION / "site")
    pip = f"import os, time\nprint(os.getpid(), file=open({str(tmp_path / 'pid')!r}, 'w'), flush=True)\n"
    (tmp_path / "pip.py").write_text(f"{pip}time.sleep(600)\n")
    agent = subprocess.Popen(
        [sys.executable, "-m", "testbed.remote.node_agent"],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert agent.stdin is not None
    request = {"do": "install", "folder": folder, "version": VERSION, "wheel": "x.whl", "wheelhouse": True}
    agent.stdin.write(json.dumps(request).encode() + b"\n")
    agent.stdin.flush()
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
    agent.stdin.close()
    assert agent.wait(20) == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.slow
def test_a_wheelhouse_brings_all_packages_without_an_index(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pip", reason="installing from a wheelhouse needs pip")
    monkeypatch.setattr(node_agent, "MODULES", ("toy_a", "toy_b"))
    node_agent.prepare(folder, "2", "a")
    write_wheel(Path(folder) / "versions" / "2", "toy_a", needs="toy_b")
    house = Path(folder) / "wheelhouse"
    house.mkdir()
    wheel = "toy_a-1-py3-none-any.whl"
    refused = node_agent.install(folder, "2", wheel, wheelhouse=True)
    assert "No matching distribution found for toy_b" in refused["error"]
    alone = node_agent.install(folder, "2", wheel, wheelhouse=False)
    assert "lacks toy_b: give a `wheelhouse`, or another `python`" in alone["error"]
    shutil.rmtree(Path(folder) / "versions" / "2" / "site")
    write_wheel(house, "toy_b")
    found = node_agent.install(folder, "2", wheel, wheelhouse=True)["versions"]
    assert (found["toy_a"], found["toy_b"]) == ("1", "1")
