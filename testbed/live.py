"""A live link on this machine: a namespace for the server and each client, and a forwarder between them."""

import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from channel.core.errors import ChannelError
from channel.live.emulation import Emulation
from channel.live.json_codec import written
from channel.live.switch import addresses
from channel.live.tun import open_tun
from splitfl.core.errors import ConfigError, PeerLost
from testbed.errors import NotRoot
from testbed.local import LocalClients, how
from testbed.namespaces import Namespace, ip, need_root

log = logging.getLogger(__name__)

DEVICE: Final = "air0"
_ROOT: Final = str(Path(__file__).parent.parent)
_CONTROL: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_NO_IPV6: Final = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
# A namespace reaches nothing but the server: what a client needs lies on this machine, fetched by the server.
_OFFLINE: Final = ("env", "HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1")
_HOSTS: Final = "127.0.0.1 localhost\n"
# Packets that the kernel keeps until the forwarder has read them: a whole window that TCP sends at once must
# fit, for what is dropped is the emulated queue's to say.
_UNREAD: Final = 20_000
_ENOUGH: Final = b"."  # a pipe that closes without it is this process's death
_number: Final = itertools.count()


class LiveLink:
    """Network namespaces that reach each other only through an emulated link; gone when left.

    `server` and `clients` are the namespaces, `addresses` the server's and then each client's. A death
    leaves nothing: when this process dies, the forwarder removes everything; when both do, the next run does.
    """

    def __init__(self, emulation: Emulation, congestion: str) -> None:
        """Sets `congestion` as TCP's control in all of them.

        Raises NotRoot without root, ConfigError for what cannot be had on this machine.
        """
        _need_root()
        self._congestion = congestion
        self._stack = ExitStack()
        self._said = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack is one)
        try:
            emulation.switch()
            settings = written(emulation)
            self.addresses = addresses(emulation.network, emulation.clients)
            self.server, *self.clients = self._namespaces(emulation.clients)
            with ExitStack() as ours:  # closed once the forwarder has them
                wires = zip(self._all, self.addresses, strict=True)
                devices = [self._wire(one, at, emulation, ours) for one, at in wires]
                self._drops = [self._open_counters(namespace) for namespace in self._all]
                self._process = self._stack.enter_context(_started(devices, self._said))
                self._stack.callback(self._process.kill)
            self._begin(settings)
        except BaseException as error:
            self.close()
            if isinstance(error, ChannelError):
                raise ConfigError(str(error)) from None
            raise

    def dead(self) -> str | None:
        """What became of the forwarder, in a sentence; None while it runs."""
        code = self._process.poll()
        return None if code is None else self._sentence(f"died with {how(code)}")

    def finish(self) -> dict[str, Any]:
        """Ends the forwarder and says what it measured. Raises PeerLost where it has died before."""
        unread = sum(_dropped(counters) for counters in self._drops)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(_ENOUGH)
        said = self._process.stdout.readline()
        if not said:
            raise PeerLost(self._sentence(f"died with {how(self._process.wait())}"))
        for line in self.said():
            log.warning("the live link's forwarder: %s", line)
        if unread:
            log.warning("the live link cannot keep up: %d packets came faster than they were read", unread)
        return {"congestion": self._congestion, "unread": unread, "said": self.said(), **json.loads(said)}

    def said(self) -> list[str]:
        """What the forwarder has said so far, warnings above all."""
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip().splitlines()

    def close(self) -> None:
        """Ends everything that runs inside and removes it."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _all(self) -> list[Namespace]:
        return [self.server, *self.clients]

    def _namespaces(self, clients: int) -> list[Namespace]:
        number = next(_number)
        tags = [f"live{number}-server", *(f"live{number}-client-{client}" for client in range(clients))]
        return [self._stack.enter_context(Namespace(tag, hosts=_HOSTS)) for tag in tags]

    def _wire(self, namespace: Namespace, address: str, emulation: Emulation, ours: ExitStack) -> int:
        """Gives a namespace its device, and TCP the control that was asked for."""
        with namespace.inside():
            _set_control(self._congestion)
            if _NO_IPV6.exists():
                _NO_IPV6.write_text("1")
            device = open_tun(DEVICE)
        ours.callback(os.close, device)
        size = emulation.network.partition("/")[2]
        ip("-n", namespace.name, "address", "add", f"{address}/{size}", "dev", DEVICE)
        ip(
            "-n",
            namespace.name,
            "link",
            "set",
            DEVICE,
            "mtu",
            str(emulation.mtu_bytes),
            "txqueuelen",
            str(_UNREAD),
            "up",
        )
        return device

    def _open_counters(self, namespace: Namespace) -> TextIOWrapper:
        with namespace.inside():
            return self._stack.enter_context(Path("/proc/thread-self/net/dev").open())

    def _begin(self, settings: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended at once, and what it said tells why
            self._process.stdin.write(settings.encode() + b"\n")
        if self._process.stdout.readline() != b"ready\n":
            raise PeerLost(self._sentence(f"ended at once with {how(self._process.wait())}"))

    def _sentence(self, what: str) -> str:
        last = self.said()[-1:]
        return f"the live link's forwarder {what}" + (f"; it said: {last[0]}" if last else "")


class LiveClients:
    """A process at each client's end of a live link; see LocalClients."""

    def __init__(
        self,
        live: LiveLink,
        command: Sequence[str],
        clients: int,
        threads: int,
        logs: Path,
    ) -> None:
        self._live = live

        def words(client: int, argv: list[str]) -> list[str]:
            return live.clients[client].words([*_OFFLINE, *argv])

        self._local = LocalClients(command, clients, threads, logs, words)

    def dead(self) -> dict[int, str]:
        """What became of each client that has ended badly; raises PeerLost where the link has."""
        if what := self._live.dead():
            raise PeerLost(what)
        return self._local.dead()

    def revive(self, client: int) -> None:
        """See LocalClients."""
        self._local.revive(client)

    def wait(self, timeout_s: float) -> None:
        """Gives the clients so long to end by themselves."""
        self._local.wait(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._local.end()


def _need_root() -> None:
    try:
        need_root("live links")
    except NotRoot as error:
        raise NotRoot(
            f"{error}. Without root, `splitfl channel proxy` gives rate and delay, and only those, to one "
            "TCP port"
        ) from None


def _set_control(congestion: str) -> None:
    """Sets this namespace's congestion control of TCP, and reads it back: not every kernel obeys."""
    try:
        _CONTROL.write_text(congestion)
    except OSError as error:
        reason = error.strerror
    else:
        reason = "the kernel took it and kept another"
    got = _CONTROL.read_text().strip()
    if got != congestion:
        allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
        raise ConfigError(
            f"TCP's congestion control could not be set to {congestion!r} in a namespace, where it is {got} "
            f"({reason}); have {', '.join(allowed)}"
        )


def _started(devices: list[int], said: IO[bytes]) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "testbed.forwarder", *map(str, devices)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        bufsize=0,
        pass_fds=devices,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # an interrupt from the keyboard must not end it before the others
    )


def _dropped(counters: TextIOWrapper) -> int:
    """Packets that the kernel threw away because nobody read them: column 12 of /proc/net/dev."""
    counters.seek(0)
    for line in counters:
        name, _, numbers = line.partition(":")
        if name.strip() == DEVICE:
            return int(numbers.split()[11])
    return 0
