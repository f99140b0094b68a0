"""A lab whose nodes run sshd, each with a host key, configuration and port of its own, behind a gateway."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from testbed.lab.build import Lab
from testbed.lab.plan import find
from testbed.namespaces import ip

ROOT = str(Path(__file__).parents[3])
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
PORT = 22022
GPU = "10.100.13.153"
CLIENTS = ("srn1", "srn2", "srn3")
NODES = ("gpu", *CLIENTS)
PLAN = """
about = "Three radio nodes and a server behind a gateway and a firewall, and the machine that runs them."
[networks]
can0 = "172.18.77.0/24"
link0 = "10.100.1.0/24"
gpu0 = "10.100.13.0/24"
[nodes.control]
role = "station"
can0 = "172.18.77.50"
routes = { default = "172.18.77.1" }
[nodes.srn1]
role = "radio"
can0 = "172.18.77.101"
routes = { default = "172.18.77.1" }
[nodes.srn2]
role = "radio"
can0 = "172.18.77.102"
routes = { default = "172.18.77.1" }
[nodes.srn3]
role = "radio"
can0 = "172.18.77.103"
routes = { default = "172.18.77.1" }
[nodes.gateway]
role = "router"
can0 = "172.18.77.1"
link0 = "10.100.1.1"
routes = { "10.100.13.0/24" = "10.100.1.2" }
[nodes.firewall]
role = "router"
link0 = "10.100.1.2"
gpu0 = "10.100.13.1"
closed = true
routes = { default = "10.100.1.1" }
[nodes.gpu]
role = "server"
gpu0 = "10.100.13.153"
routes = { default = "10.100.13.1" }
[[allow]]
from = ["radio"]
to = ["gpu"]
ports = [50051]
[[allow]]
from = ["gateway"]
to = ["gpu"]
ports = [22022]
[[allow]]
from = ["gpu"]
to = ["gateway"]
ports = [1883]
"""
TO_GPU = """[[allow]]
from = ["radio"]
to = ["gpu"]
ports = [50051]
"""
UNEQUAL_PLAN = PLAN.replace(
    TO_GPU,
    """[[allow]]
from = ["srn1"]
to = ["gpu"]
[[allow]]
from = ["gpu"]
to = ["srn1"]
[[allow]]
from = ["srn2"]
to = ["gpu"]
ports = [50051]
""",
)
"""Only srn1 may use PyTorch RPC; srn2 reaches the one port, and srn3 the broker alone."""
SSHD_CONFIG = """
Port {port}
ListenAddress {address}
HostKey {folder}/{name}.key
AuthorizedKeysFile {folder}/user.key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH={folder}/bin:/usr/local/bin:/usr/bin:/bin
"""

needs_sshd = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(SSHD is None, reason="sshd is not installed (Debian: openssh-server)"),
    pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed (Debian: openssh-client)"),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="the program nft is not installed"),
]

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto, an MQTT broker, is not installed")


class SshSite:
    """A running lab with sshd on all nodes; `nodes.toml` in its folder is the inventory.

    `splitfl` runs on the node control, which reaches gpu through the gateway only. Programs in the folder's
    `bin` are found on all nodes.
    """

    def __init__(self, stack: ExitStack, folder: Path, plan: str = PLAN) -> None:
        self.folder, self._stack = folder, stack
        (folder / "site.toml").write_text(plan)
        self.lab = stack.enter_context(Lab(find(str(folder / "site.toml"))))
        self._runtime = Path(stack.enter_context(_short_folder()))
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own, where no init system has made it
        keygen(folder / "user.key")
        self._pythons: dict[str, str] = {}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        known = []
        for name in (*NODES, "gateway"):
            keygen(folder / f"{name}.key")
            known.append(self._known_host(name))
            self.start_sshd(name)
        (folder / "known_hosts").write_text("".join(known))
        (folder / "ssh_config").write_text(self._ssh_config())
        self.write_inventory()

    def write_inventory(self, head: str = "", **changed: str) -> None:
        """Writes nodes.toml; `changed` has other ssh names by node."""
        lines = ['server = "gpu"', "port = 50051", 'ssh_config = "ssh_config"', head]
        for name in NODES:
            python = self._pythons.get(name, sys.executable)
            lines += [f"[nodes.{name}]", f'ssh = "{changed.get(name, name)}"', f'python = "{python}"']
            lines += [f'address = "{self.address(name)}"', f'folder = "{self.folder}/on/{name}"']
        (self.folder / "on").mkdir(exist_ok=True)
        (self.folder / "nodes.toml").write_text("\n".join(lines))

    def set_clock_ahead(self, name: str, seconds: float) -> None:
        """Gives the node a Python whose clock is ahead of this machine's."""
        home = self.folder / f"{name}-python"
        venv.create(home, symlinks=True)
        (site,) = home.glob("lib/*/site-packages")
        clock = f"import time\ntime.time = lambda: time.clock_gettime(time.CLOCK_REALTIME) + {seconds}\n"
        (site / "clock_ahead.py").write_text(clock)
        (site / "clock.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport clock_ahead\n")
        self._pythons[name] = str(home / "bin" / "python")
        self.write_inventory()

    def address(self, name: str) -> str:
        """The node's address."""
        return self.lab.plan.nodes[name].address

    def start_broker(self) -> str:
        """Starts an MQTT broker on the gateway; returns its address for all nodes, once it listens."""
        path = self.folder / "broker.conf"
        path.write_text("listener 1883 0.0.0.0\nallow_anonymous true\nuser root\n")
        assert MOSQUITTO is not None
        process = self.lab.nodes["gateway"].popen([MOSQUITTO, "-c", path], stdin=subprocess.DEVNULL)
        self._stack.callback(_end, process)
        self._await_port("gateway", 1883, "the broker")
        return "10.100.1.1"

    def start_sshd(self, name: str) -> None:
        """Starts the node's sshd, and returns when it listens."""
        path = self.folder / f"{name}.sshd"
        path.write_text(
            SSHD_CONFIG.format(port=PORT, address=self.address(name), folder=self.folder, name=name)
        )
        log = self._stack.enter_context((self.folder / f"{name}.sshd.log").open("ab"))
        assert SSHD is not None
        self._daemons[name] = self.lab.nodes[name].popen(
            [SSHD, "-D", "-e", "-f", path], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._stack.callback(_end, self._daemons[name])
        self._await_port(name, PORT, "sshd")

    def _await_port(self, name: str, port: int, what: str) -> None:
        deadline_s = time.monotonic() + 20
        while f":{port}" not in self.lab.nodes[name].run(["ss", "-ltn"], 10):
            assert time.monotonic() < deadline_s, f"{what} on {name} does not listen on {port}"
            time.sleep(0.05)

    def reboot(self, name: str) -> None:
        """Kills every process of the node at once, then starts its sshd again."""
        for pid in ip("netns", "pids", self.lab.nodes[name].name).split():
            os.kill(int(pid), signal.SIGKILL)
        self._daemons[name].wait()
        self.start_sshd(name)

    def python(self, *words: str | Path, output: str) -> "subprocess.Popen[bytes]":
        """Starts Python on the node control; its output goes to OUTPUT.out and OUTPUT.err."""
        files = [
            self._stack.enter_context((self.folder / f"{output}.{end}").open("wb")) for end in ("out", "err")
        ]
        process: subprocess.Popen[bytes] = self.lab.nodes["control"].popen(
            [sys.executable, "-P", *words],
            stdin=subprocess.DEVNULL,
            stdout=files[0],
            stderr=files[1],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": ROOT, "XDG_RUNTIME_DIR": str(self._runtime)},
        )
        self._stack.callback(_end, process)
        return process

    def splitfl(self, *words: str | Path, timeout_s: float = 240.0) -> "tuple[int, str, str]":
        """The exit code of `splitfl testbed WORDS`, and what it printed to either end."""
        process = self.python("-m", "experiments", "testbed", *words, output="command")
        code = process.wait(timeout_s)
        return code, *((self.folder / f"command.{end}").read_text() for end in ("out", "err"))  # type: ignore[return-value]

    def files(self) -> dict[str, str]:
        """The content of every file on the nodes by path, secrets by their name only."""
        found = {}
        for path in sorted((self.folder / "on").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = b"" if "secrets" in path.parts else path.read_bytes()
                found[str(path.relative_to(self.folder))] = hashlib.sha256(content).hexdigest()
        return found

    def _known_host(self, name: str) -> str:
        key = (self.folder / f"{name}.key.pub").read_text()
        return f"[{self.address(name)}]:{PORT} {key}"

    def _ssh_config(self) -> str:
        common = {
            "User": "root",
            "Port": str(PORT),
            "IdentityFile": str(self.folder / "user.key"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "GlobalKnownHostsFile": "/dev/null",
        }
        lines = []
        for name in (*NODES, "gateway"):
            lines += [f"Host {name}", f"  HostName {self.address(name)}"]
            lines += ["  ProxyJump gateway"] if name == "gpu" else []
        lines += ["Host silent", "  HostName 10.100.13.200"]
        lines += ["Host locked", "  ProxyJump refusing", f"  HostName {self.address('gpu')}"]
        lines += ["Host refusing", f"  HostName {self.address('gateway')}"]
        lines += ["  User nobody-here"]
        lines += ["Host *", *(f"  {key} {value}" for key, value in common.items())]
        return "\n".join([*lines, ""])


def keygen(path: Path) -> None:
    """Makes a key pair without a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, timeout=30, stdin=subprocess.DEVNULL)


def _short_folder() -> Any:
    """A folder whose path is short enough for sockets in it."""
    import tempfile

    return tempfile.TemporaryDirectory(prefix="sfl-", dir="/tmp")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
