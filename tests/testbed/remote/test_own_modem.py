"""A run over splitfl's own modem: an emulated air, a bridge on each node, and the commands of the testbed."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.splitfl import toy
from tests.testbed.remote.ssh_site import ROOT, SshSite, needs_sshd
from tests.testbed.remote.test_ssh_run import collected, in_one_process, learnt
from tests.testbed.waiting import until

pytestmark = [*needs_sshd, pytest.mark.long, pytest.mark.timeout(600)]

ADDRESSES = {"srn1": "172.18.77.101", "srn2": "172.18.77.102"}
AIR = "172.18.77.50"
START = """
for node in srn1 srn2; do
    [ -e "$node.pid" ] && continue
    ssh -F ssh_config $node "cd $PWD && echo \\$\\$ >$node.pid && PYTHONPATH={root} exec setsid \\
        {python} -P -m experiments radio bridge $node.toml" >"$node.out" 2>&1 </dev/null &
done
for node in srn1 srn2; do
    until grep -q READY "$node.out"; do sleep 0.2; done
done
"""
STOP = 'for node in srn1 srn2; do ssh -F ssh_config $node "kill $(cat $node.pid)"; done; true'


def bridge(node: int, address: str, record: Path) -> str:
    return f"""
[bridge]
node = {node}
addresses = ["10.78.0.1/24", "10.78.0.2/24"]
record = "{record}"
[radio]
kind = "zmq"
sends_at = "tcp://{address}:{2000 + 2 * node}"
hears_at = "tcp://{AIR}:{2001 + 2 * node}"
rate_hz = 5e5
timeout_s = 60.0
"""


def inventory(folder: Path) -> str:
    nodes = [
        f'[nodes.{name}]\nssh = "{name}"\npython = "{sys.executable}"\naddress = "10.78.0.{number}"\n'
        f'folder = "{folder}/on/{name}"\nradio = "splitfl"\nradio_log = "{folder}/{name}.jsonl"'
        for number, name in enumerate(ADDRESSES, 1)
    ]
    hooks = "[hooks]\nstart_radio = 'sh start-radio.sh'\nstop_channel = 'sh stop-radio.sh'"
    return "\n".join(['server = "srn1"', "port = 50051", 'ssh_config = "ssh_config"', *nodes, hooks])


def test_a_run_over_the_modem_learns_what_one_process_learns(tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv")
    with ExitStack() as stack:
        site = SshSite(stack, tmp_path)
        for number, (name, address) in enumerate(ADDRESSES.items()):
            (tmp_path / f"{name}.toml").write_text(bridge(number, address, tmp_path / f"{name}.jsonl"))
        (tmp_path / "start-radio.sh").write_text(START.format(root=ROOT, python=sys.executable))
        (tmp_path / "stop-radio.sh").write_text(STOP)
        (tmp_path / "nodes.toml").write_text(inventory(tmp_path))
        words = ["-m", "experiments", "channel", "air", "ideal", "--users", "1", "--rate", "5e5"]
        hosts = [f"--node-host={node}={address}" for node, address in enumerate(ADDRESSES.values())]
        site.python(*words, "--host", AIR, "--port", "2000", "--timeout", "60", *hosts, output="air")
        federation, transport = {"clients": 1}, {"timeout_s": 30.0, "join_timeout_s": 120.0}
        preset = tmp_path / "toy.json"
        preset.write_text(json.dumps(toy.table(tmp_path, federation=federation, transport=transport)))
        code, _, errors = site.splitfl("deploy", preset, "--transport", "grpc")
        assert code == 0, errors
        code, _, errors = site.splitfl("run")
        assert code == 0, errors
        code, _, errors = site.splitfl("collect", "--out", "runs")
        assert code == 0, errors
        folder = collected(site, "runs")
        final = json.loads((folder / "summary.json").read_text())["final"]
        assert learnt(final) == in_one_process(preset, tmp_path / "expected")
        page = (folder / "nodes" / "srn2" / "report.html").read_text()
        assert "From the record of <code>splitfl radio bridge</code>" in page
        (delays,) = json.loads((folder / "delays.json").read_text())
        assert delays["up_s"] > 0.02  # two blocks of 5 ms and packets of 16 ms, not a wire
        assert site.splitfl("down")[0] == 0
        pids = [int((tmp_path / f"{name}.pid").read_text()) for name in ADDRESSES]
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)
