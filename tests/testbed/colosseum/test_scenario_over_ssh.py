"""Scenario commands on a node behind sshd, with the stand-in for `colosseumcli` installed there."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.testbed.colosseum.colosseum_server import ColosseumServer
from tests.testbed.colosseum.test_colosseumcli import STANDIN
from tests.testbed.remote.ssh_site import SshSite, needs_sshd

pytestmark = needs_sshd
INVENTORY = """
server = "gpu"
ssh_config = "ssh_config"
scenario = { id = 1009 }
[nodes.gpu]
ssh = "gpu"
[nodes.srn2]
ssh = "srn2"
rf_node = 1
[nodes.srn3]
ssh = "srn3"
rf_node = 2
[nodes.away]
ssh = "silent"
"""


def test_a_scenario_is_started_on_a_node_reached_by_ssh(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ColosseumServer(tmp_path / "clisocket", polls_until_start=3))
        site = SshSite(stack, tmp_path)
        program = tmp_path / "bin" / "colosseumcli"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} {server.path} "$@"\n')
        program.chmod(0o755)
        (tmp_path / "nodes.toml").write_text(INVENTORY)
        found = site.splitfl("scenario", "start", "--srn", "srn2=12", "--srn", "srn3=40")
        assert found == (0, "08:53:20\n", "")
        sent = next(one for one in server.requests if one["command"] == "rf_scenario_start")
        assert sent["srn_radio_mapping"]["Node 2"] == {"SRN": 40, "RadioA": 1, "RadioB": 2}
        assert "scenario 1009 is ACTIVE, started at" in site.splitfl("scenario", "status")[1]
        server.refusals = {"rf_scenario_stop": {"status": 400, "message": "no"}}
        code, _, said = site.splitfl("scenario", "stop", "--node", "srn3")
        assert (code, said) == (1, "Error: the scenario was not stopped: no output\n")
        began_s = time.monotonic()
        code, _, said = site.splitfl("scenario", "status", "--node", "away")
        assert code == 1
        assert said.startswith("Error: away: ")
        assert time.monotonic() - began_s < 25
