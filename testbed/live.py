"""A live link on this machine: network namespaces for server and clients, and a forwarder between them."""

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
from typing import IO, Any, Final, Protocol, Self

from channel.core.closing import Closing
from channel.core.errors import ChannelError
from channel.live.emulation import Emulation
from channel.live.json_codec import written
from channel.live.switch import addresses
from channel.live.tun import open_tun
from splitfl.core.errors import ConfigError, PeerLost
from testbed.errors import NotRoot
from testbed.local import LocalClients, exit_reason
from testbed.namespaces import Namespace, ip, need_root

log = logging.getLogger(__name__)

DEVICE: Final = "air0"
_ROOT: Final = str(Path(__file__).parent.parent)
_CONTROL: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_NO_IPV6: Final = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
# A namespace reaches the server only; the files that a client needs are in this machine's cache.
_OFFLINE: Final = ("env", "HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1")
_HOSTS: Final = "127.0.0.1 localhost\n"
# The kernel's queue in packets before the forwarder: a whole TCP window must fit, since only the emulated
# queue may drop packets.
_UNREAD: Final = 20_000
_FINISH: Final = b"."  # a pipe that closes without it means that this process has died
_number: Final = itertools.count()


class LiveLink(Closing):
    """Network namespaces connected only by an emulated link; removed when the context exits.

    `server` and `clients` are the namespaces, `addresses` those of the server and each client. If this
    process dies, the forwarder removes the namespaces; if both die, the next run does.
    """

    def __init__(self, emulation: Emulation, congestion: str) -> None:
        """Starts the link; `congestion` is the TCP congestion control of all namespaces.

        Raises NotRoot without root, ConfigError for invalid settings and missing support of the machine.
        """
        _need_root()
        self._congestion = congestion
        self._stack = ExitStack()
        self._output = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack is one)
        try:
            emulation.switch()
            settings = written(emulation)
            self.addresses = addresses(emulation.network, emulation.clients)
            self.server, *self.clients = self._namespaces(emulation.clients)
            with ExitStack() as ours:  # descriptors, closed once the forwarder has inherited them
                wires = zip(self._all, self.addresses, strict=True)
                devices = [self._wire(one, at, emulation, ours) for one, at in wires]
                self._drops = [self._open_counters(namespace) for namespace in self._all]
                self._process = self._stack.enter_context(_started(devices, self._output))
                self._stack.callback(self._process.kill)
            self._begin(settings)
        except BaseException as error:
            self.close()
            if isinstance(error, ChannelError):
                raise ConfigError(str(error)) from None
            raise

    def dead(self) -> str | None:
        """A message about the forwarder's exit; None while it runs."""
        code = self._process.poll()
        return None if code is None else self._sentence(f"died with {exit_reason(code)}")

    def finish(self) -> dict[str, Any]:
        """Stops the forwarder and returns its measurements. Raises PeerLost if it has died."""
        unread = sum(_dropped(counters) for counters in self._drops)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(_FINISH)
        output = self._process.stdout.readline()
        if not output:
            raise PeerLost(self._sentence(f"died with {exit_reason(self._process.wait())}"))
        for line in self.output():
            log.warning("the live link's forwarder: %s", line)
        if unread:
            log.warning(
                "the live link cannot keep up: the kernel dropped %d packets before they were read", unread
            )
        return {"congestion": self._congestion, "unread": unread, "said": self.output(), **json.loads(output)}

    def output(self) -> list[str]:
        """The lines of the forwarder's standard error so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace").strip().splitlines()

    def close(self) -> None:
        """Ends all processes in the namespaces and removes them."""
        self._stack.close()

    @property
    def _all(self) -> list[Namespace]:
        return [self.server, *self.clients]

    def _namespaces(self, clients: int) -> list[Namespace]:
        number = next(_number)
        tags = [f"live{number}-server", *(f"live{number}-client-{client}" for client in range(clients))]
        return [self._stack.enter_context(Namespace(tag, hosts=_HOSTS)) for tag in tags]

    def _wire(self, namespace: Namespace, address: str, emulation: Emulation, ours: ExitStack) -> int:
        """Creates the TUN device of a namespace and sets its congestion control; returns the descriptor."""
        with namespace.inside():
            set_congestion_control(self._congestion)
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
        with suppress(BrokenPipeError):  # it has exited already; its standard error has the reason
            self._process.stdin.write(settings.encode() + b"\n")
        if self._process.stdout.readline() != b"ready\n":
            raise PeerLost(self._sentence(f"ended at once with {exit_reason(self._process.wait())}"))

    def _sentence(self, what: str) -> str:
        last = self.output()[-1:]
        return f"the live link's forwarder {what}" + (f"; last output: {last[0]}" if last else "")


class Network(Protocol):
    """A link between namespaces: a `LiveLink`, or a `RadioLink`."""

    @property
    def clients(self) -> Sequence[Namespace]:
        """The namespaces of the clients."""
        ...

    def dead(self) -> str | None:
        """A message if the link has failed."""
        ...


class LiveClients:
    """A client process in each client's namespace of a live link; see `LocalClients`."""

    def __init__(
        self,
        live: Network,
        commands: Sequence[Sequence[str]],
        threads: int,
        logs: Path,
    ) -> None:
        self._live = live

        def in_namespace(client: int, argv: list[str]) -> list[str]:
            return live.clients[client].command([*_OFFLINE, *argv])

        self._local = LocalClients(commands, threads, logs, in_namespace)

    def dead(self) -> dict[int, str]:
        """Messages by failed client; raises PeerLost if the link itself has failed."""
        if what := self._live.dead():
            raise PeerLost(what)
        return self._local.dead()

    def restart(self, client: int) -> None:
        """Restarts a failed client; see `LocalClients.revive`."""
        self._local.restart(client)

    def wait(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for the clients to exit."""
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


def set_congestion_control(congestion: str) -> None:
    """Sets the TCP congestion control of this namespace, and verifies it: some kernels ignore the setting."""
    try:
        _CONTROL.write_text(congestion)
    except OSError as error:
        reason = error.strerror
    else:
        reason = "the kernel accepted it without effect"
    got = _CONTROL.read_text().strip()
    if got != congestion:
        allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
        raise ConfigError(
            f"TCP's congestion control could not be set to {congestion!r} in a namespace, where it is {got} "
            f"({reason}); have {', '.join(allowed)}"
        )


def _started(devices: list[int], output: IO[bytes]) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "testbed.forwarder", *map(str, devices)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        bufsize=0,
        pass_fds=devices,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # a keyboard interrupt must not end it before the others
    )


def _dropped(counters: TextIOWrapper) -> int:
    """Packets that the kernel dropped from the device's queue: column 12 of /proc/net/dev."""
    counters.seek(0)
    for line in counters:
        name, _, numbers = line.partition(":")
        if name.strip() == DEVICE:
            return int(numbers.split()[11])
    return 0
