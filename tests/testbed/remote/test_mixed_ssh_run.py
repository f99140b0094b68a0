"""A run over real ssh whose nodes can reach the server by different transports only."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.splitfl import toy
from tests.testbed.remote.ssh_site import CLIENTS, UNEQUAL_PLAN, SshSite, needs_mosquitto, needs_sshd
from tests.testbed.remote.test_ssh_run import collected, in_one_process, learnt, write_preset
from tests.testbed.waiting import is_learning, until

pytestmark = [*needs_sshd, needs_mosquitto, pytest.mark.timeout(900)]


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshSite]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("site")
        toy.model(folder / "model")
        toy.data(folder / "data.tsv")
        yield SshSite(stack, folder, UNEQUAL_PLAN)


def test_each_client_gets_the_transport_that_works_for_it_and_the_run_survives_a_reboot_of_the_server(
    site: SshSite,
) -> None:
    site.write_inventory(f'[broker]\naddress = "{site.start_broker()}"')
    preset = write_preset(
        site,
        federation={"rounds": 40},
        transport={"timeout_s": 10.0},
        fault_tolerance={"on_loss": "rollback", "reconnect_timeout_s": 200.0},
    )
    code, told, errors = site.splitfl("plan", preset, "--transport", "mixed")
    assert code == 0, errors
    assert "transport mixed: srn1 over rpc, srn2 over grpc, srn3 over mqtt" in told
    code, _, errors = site.splitfl("deploy", preset, "--transport", "mixed")
    assert code == 0, errors
    running = site.python("-m", "experiments", "testbed", "run", output="run")
    until(lambda: is_learning(site.folder / "on" / "gpu"), 200)
    site.reboot("gpu")
    assert running.wait(400) == 0, (site.folder / "run.err").read_text()
    code, _, errors = site.splitfl("collect", "--out", "runs")
    assert code == 0, errors
    folder = collected(site, "runs")
    final = json.loads((folder / "summary.json").read_text())["final"]
    assert learnt(final) == in_one_process(preset, site.folder / "expected")
    rows = {row["node"]: row for row in json.loads((folder / "nodes.json").read_text())}
    assert [rows[name]["transport"] for name in ("gpu", *CLIENTS)] == ["mixed", "rpc", "grpc", "mqtt"]
    assert [rows[name]["starts"] for name in ("gpu", *CLIENTS)] == [2, 1, 1, 1]
    code, _, errors = site.splitfl("down")
    assert code == 0, errors
    assert list((site.folder / "on").iterdir()) == []
