"""The scripts that Colosseum calls and the daemon behind them, by dash."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.testbed.colosseum.node import SCRIPTS, ScriptedNode, steps

API = (
    "start",
    "stop",
    "status",
    "statistics",
    "update_environment",
    "update_outcomes",
    "scenario_discontinuity",
)


def test_all_seven_scripts_can_be_executed_and_parsed() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.sh")} == set(API)
    for path in SCRIPTS.iterdir():
        assert path.stat().st_mode & 0o111
        assert path.read_text().startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n", path], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="the program shellcheck is not installed")
def test_the_scripts_pass_shellcheck() -> None:
    subprocess.run(["shellcheck", "-s", "sh", *SCRIPTS.iterdir()], check=True)


def test_status_is_an_error_with_exit_status_0_before_the_daemon_and_after_its_death(tmp_path: Path) -> None:
    with ScriptedNode(tmp_path, run="true") as node:
        assert node.status == ("ERROR", "splitfl-radio has not started")
        assert node.call("statistics") == "{}\n"
        node.boot()
        node.reach("READY")
        node.kill()
        assert node.status == ("ERROR", "splitfl-radio has ended")


def test_a_job_goes_from_booting_to_finished(tmp_path: Path) -> None:
    with ScriptedNode(
        tmp_path, run='cat "$SPLITFL_EXPERIMENT"; exec sleep 60', experiment='{"a": "\\n"}'
    ) as node:
        (tmp_path / "root/radio_api/colosseum_config.ini").write_text("[RF]\n")
        node.boot()
        node.reach("READY", "waiting for start.sh")
        node.call("start")
        node.reach("ACTIVE", "loop 1 of 1")
        node.call("stop")
        node.reach("FINISHED")
        assert list(steps(node)) == ["BOOTING", "BOOTING", "READY", "ACTIVE", "STOPPING", "FINISHED"]
        loop = node.logs / "loop-1"
        assert (loop / "run.log").read_text() == '{"a": "\\n"}\n'
        assert (loop / "exit_status").read_text() == "143\n"
        assert {"radio.conf", "colosseum_config.ini"} < {path.name for path in loop.iterdir()}
        node.kill()
        assert node.status[0] == "FINISHED"


@pytest.mark.slow
def test_a_start_before_ready_is_obeyed_as_soon_as_the_node_is_ready(tmp_path: Path) -> None:
    with ScriptedNode(tmp_path, run="true", warm="sleep 1") as node:
        node.call("start")  # before the daemon runs
        node.boot()
        node.reach("ACTIVE", "the run has ended with exit status 0")
        assert json.loads(node.call("statistics")) == {"NODE": "one", "LOOP": 1, "LOOPS": 1, "EXIT_STATUS": 0}


@pytest.mark.slow
def test_each_loop_has_its_own_start_stop_ready_and_logs(tmp_path: Path) -> None:
    with ScriptedNode(tmp_path, run='echo "in $SPLITFL_LOOP"', loops=2) as node:
        node.boot()
        for loop in (1, 2):
            node.reach("READY")
            node.call("start")
            node.reach("ACTIVE", f"loop {loop} of 2: the run has ended with exit status 0")
            node.call("stop")
        node.reach("FINISHED")
        texts = [(node.logs / f"loop-{loop}" / "run.log").read_text() for loop in (1, 2)]
        assert texts == [f"in {node.logs}/loop-{loop}\n" for loop in (1, 2)]


@pytest.mark.slow
def test_a_loop_that_passed_while_the_node_booted_is_counted(tmp_path: Path) -> None:
    with ScriptedNode(tmp_path, run="true", warm="sleep 1.5", loops=2) as node:
        node.boot()
        node.reach("BOOTING", "loading the model")
        for script in ("start", "stop", "start"):
            node.call(script)
        node.reach("ACTIVE", "loop 2 of 2")
        node.call("stop")
        node.reach("FINISHED")
        assert not (node.logs / "loop-1").exists()


@pytest.mark.slow
def test_a_stop_before_any_start_ends_the_job(tmp_path: Path) -> None:
    with ScriptedNode(tmp_path, run="true", warm="sleep 60") as node:
        node.boot()
        node.reach("BOOTING", "loading the model")
        node.call("stop")
        node.reach("FINISHED")


@pytest.mark.slow
def test_a_run_that_saves_its_work_at_termination_has_the_time_to(tmp_path: Path) -> None:
    run = "trap 'sleep 1; echo saved; exit 0' TERM; while :; do sleep 0.1; done"
    with ScriptedNode(tmp_path, run=run, stop_s=10) as node:
        node.boot()
        node.reach("READY")
        node.call("start")
        node.reach("ACTIVE")
        time.sleep(0.5)  # until the shell has set its trap
        node.call("stop")
        node.reach("STOPPING")
        node.reach("FINISHED")
        assert (node.logs / "loop-1" / "run.log").read_text().endswith("saved\n")
        assert (node.logs / "loop-1" / "exit_status").read_text() == "0\n"


@pytest.mark.slow
def test_a_run_that_ignores_termination_is_killed(tmp_path: Path) -> None:
    run = "trap '' TERM; echo deaf; while :; do sleep 1; done"
    with ScriptedNode(tmp_path, run=run) as node:
        node.boot()
        node.reach("READY")
        node.call("start")
        node.reach("ACTIVE")
        node.call("stop")
        node.reach("FINISHED")
        assert (node.logs / "loop-1" / "exit_status").read_text() == "137\n"


@pytest.mark.slow
@pytest.mark.parametrize("modem_start", ["boot", "start"])
def test_a_modem_that_leaves_a_program_behind_is_fine_and_that_is_ended(
    modem_start: str, tmp_path: Path
) -> None:
    modem = 'sleep 600 & echo $! >"$SPLITFL_ROOT/pid"'
    with ScriptedNode(tmp_path, run="true", modem=modem, modem_start=modem_start) as node:
        node.boot()
        node.reach("READY")
        assert (tmp_path / "pid").exists() == (modem_start == "boot")
        node.call("start")
        node.reach("ACTIVE", "exit status 0")
        left = int((tmp_path / "pid").read_text())
        assert psutil.pid_exists(left)
        node.call("stop")
        node.reach("FINISHED")
        assert not psutil.pid_exists(left)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conf", "info"),
    [
        ({}, "radio.conf is missing, or has no line run"),
        ({"run": "true", "warm": "exit 3"}, "loading the model ended with exit status 3; see warm.log"),
        ({"run": "true", "modem": "exit 4", "warm": "sleep 0.5"}, "the modem ended with exit status 4"),
    ],
)
def test_a_node_that_cannot_boot_says_why(conf: dict[str, str], info: str, tmp_path: Path) -> None:
    with ScriptedNode(tmp_path, **conf) as node:
        node.boot()
        node.reach("ERROR", info)


@pytest.mark.slow
def test_a_run_that_fails_is_an_error_until_stop_and_the_next_loop_is_ready(tmp_path: Path) -> None:
    with ScriptedNode(tmp_path, run="echo no model; exit 2", loops=2) as node:
        node.boot()
        node.reach("READY")
        node.call("start")
        node.reach("ERROR", "the run has ended with exit status 2; see run.log")
        node.call("stop")
        node.reach("READY", "loop 1 of 2 has ended")


@pytest.mark.slow
def test_notices_during_a_scenario_are_kept_in_the_logs(tmp_path: Path) -> None:
    with ScriptedNode(tmp_path, run="true") as node:
        (tmp_path / "root/radio_api/environment.json").write_text('{"scenario_rf_bandwidth": 10000000}\n')
        for script in ("update_environment", "update_outcomes", "scenario_discontinuity"):
            node.call(script)
        words = (node.logs / "events.log").read_text().split()
        assert [word for word in words if word.startswith(("update", "scenario"))] == [
            "update_environment",
            "update_outcomes",
            "scenario_discontinuity",
        ]
        assert "10000000}" in words
