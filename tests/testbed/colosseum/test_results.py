"""The logs of a batch job's nodes: found below a reservation's folder and merged."""

from pathlib import Path

import pytest

from experiments.report.nodes import node_rows
from splitfl.core.errors import DataError
from testbed.colosseum.radio_conf import RadioConf
from testbed.colosseum.results import collect, find_logs


def logs(folder: Path, name: str, role: str, loops: int = 2) -> Path:
    """/logs of a node, as splitfl-radio leaves it."""
    for loop in range(1, loops + 1):
        place = folder / f"loop-{loop}"
        place.mkdir(parents=True)
        (place / "radio.conf").write_text(RadioConf(node=name, role=role, run="true").text())
        (place / "run.log").write_text(f"{name} {loop}\n")
        (place / "exit_status").write_text("0\n")
        if role == "server":
            (place / "demo-1").mkdir()
            (place / "demo-1" / "config.json").write_text(f'{{"loop": {loop}}}')
    (folder / "radio.log").write_text(f"the log of {name}\n")
    (folder / "warm.log").write_text('a warning\n{"versions": {"torch": "2"}}\n')
    return folder


def test_each_loop_becomes_one_run_folder_with_every_nodes_logs(tmp_path: Path) -> None:
    reservation = tmp_path / "RESERVATION-57291"
    logs(reservation / "demo--srn-12", "base", "server")
    client = logs(reservation / "demo--srn-40", "ue1", "client")
    (client / "loop-2" / "exit_status").unlink()  # removed before it ended
    (reservation / "traffic_logs").mkdir()
    for _ in range(2):
        found = collect(reservation, tmp_path / "out")
    assert [(one.conf.node, one.exit_status(1), one.exit_status(2)) for one in found] == [
        ("base", 0, 0),
        ("ue1", 0, None),
    ]
    for loop in (1, 2):
        run = tmp_path / "out" / f"loop-{loop}"
        assert (run / "config.json").read_text() == f'{{"loop": {loop}}}'
        assert (run / "nodes/ue1/run.log").read_text() == f"ue1 {loop}\n"
        assert not (run / "nodes/base/demo-1").exists()
        states = [row["state"] for row in node_rows(run)]
        assert [row["versions"] for row in node_rows(run)] == ["torch 2", "torch 2"]
        assert states == ["ended with 0", "ended with 0" if loop == 1 else "did not end"]
    assert (tmp_path / "out/nodes/base/radio.log").read_text() == "the log of base\n"


def test_a_folder_without_logs_or_with_those_of_two_reservations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder of a node that ran splitfl-radio"):
        find_logs(tmp_path)
    for reservation in ("RESERVATION-1", "RESERVATION-2"):
        logs(tmp_path / reservation / "a--srn-1", "base", "server")
    with pytest.raises(DataError, match="the logs of base are there more than once"):
        find_logs(tmp_path)
