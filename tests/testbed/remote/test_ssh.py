"""What ssh and rsync report becomes one sentence, and a socket's path fits."""

import shutil
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from splitfl.core.errors import ConfigError, PeerLost
from testbed.errors import CommandFailed
from testbed.inventory.nodes import Node
from testbed.remote import ssh
from testbed.remote.fleet import Fleet

CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        (CHANGED, "the host key of srn2 has changed: if that is expected"),
        ("Host key verification failed.\n", "the host key of srn2 is not known: connect once by `ssh srn2`"),
        (
            "me@gw: Permission denied (publickey,password).\nConnection closed by UNKNOWN port 65535\n",
            "srn2 refuses your key, and would ask for a password: me@gw: Permission denied",
        ),
        (
            "Connection closed by UNKNOWN port 65535\r\n",
            "the gateway of srn2 closed the connection, as it does",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.1",
            "srn2 drops connections, as where too many begin at once: try `ssh srn2`",
        ),
        ("ssh: connect to host a port 22: No route to host\r\n", "ssh: connect to host a port 22: No route"),
        ("", "ssh to srn2 failed without a message"),
    ],
)
def test_errors_of_ssh_are_one_sentence_with_the_remedy(errors: str, sentence: str) -> None:
    assert ssh.sentence("srn2", errors).startswith(sentence)
    assert "\n" not in ssh.sentence("srn2", errors)


def test_a_socket_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(ConfigError, match="is too long for a socket: set XDG_RUNTIME_DIR"):
        ssh.options(Node(name="a", ssh="a"))


@pytest.mark.parametrize(
    ("errors", "tries"),
    [("kex_exchange_identification: Connection closed by remote host", 3), ("Permission denied", 1)],
)
def test_a_connection_that_a_busy_server_drops_is_tried_again(
    errors: str, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ssh"
    program.write_text(
        f'#!/bin/sh\necho >>{tmp_path}/tries\n[ "$(wc -l <{tmp_path}/tries)" -ge 3 ] || '
        f"{{ echo '{errors}' >&2; exit 255; }}\n"
    )
    program.chmod(0o755)
    waits: list[float] = []
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(ssh, "options", lambda node: [])
    monkeypatch.setattr(ssh, "time", SimpleNamespace(monotonic=time.monotonic, sleep=waits.append))
    with nullcontext() if tries == 3 else pytest.raises(PeerLost, match="refuses your key"):
        ssh.connect(Node(name="a", ssh="srn2"))
    assert len((tmp_path / "tries").read_text()) == tries
    assert len(waits) == tries - 1


def test_all_nodes_are_connected_to_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the limit for one holds for all."""
    together = threading.Barrier(40)

    def connect(node: Node) -> None:
        together.wait(10)
        raise PeerLost(f"no connection to {node.ssh}")

    monkeypatch.setattr(ssh, "connect", connect)
    monkeypatch.setattr(ssh, "need_programs", lambda nodes: None)
    with Fleet([Node(name=f"n{number}", ssh="x") for number in range(40)]) as fleet:
        assert len(fleet.unreachable) == 40


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_files_of_this_machine_are_copied_exactly_and_a_missing_one_is_named(tmp_path: Path) -> None:
    source, target = tmp_path / "model", tmp_path / "node"
    source.mkdir()
    target.mkdir()
    (source / "a.json").write_text("{}")
    (source / "link.json").symlink_to(source / "a.json")
    here = Node(name="here")
    ssh.push(here, [source], str(target / "model"), exactly=True)
    (target / "model" / "old.json").write_text("")
    ssh.push(here, [source], str(target / "model"), exactly=True)
    assert sorted(path.name for path in (target / "model").iterdir()) == ["a.json", "link.json"]
    assert not (target / "model" / "link.json").is_symlink()
    with pytest.raises(CommandFailed, match=r"rsync ended with 23: .*none"):
        ssh.push(here, [tmp_path / "none"], str(target))
