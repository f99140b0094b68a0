"""The machines, how messages travel between them, and what becomes of a run that loses one."""

import re
from dataclasses import dataclass

from splitfl.config.checks import above, at_least, one_of
from splitfl.core.errors import ConfigError

_READ_BY: dict[str, tuple[str, ...]] = {
    "rpc": (),
    "grpc": ("secrets", "tls_cert", "tls_key", "tls_ca", "token_file"),
    "mqtt": ("tls_cert", "tls_key", "tls_ca", "topic", "user", "password_file"),
}
"""Which of its settings each transport reads, beside the address and the waits."""


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """One side's processor: `auto` is CUDA where there is one. `flops` is the rate, in
    floating-point operations a second, by which the virtual clock turns work into time."""

    device: str = "auto"
    threads: int = 1
    flops: float = 5e10

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device must be auto, cpu or cuda[:N], got {self.device!r}")
        at_least("threads", self.threads, 1)
        above("flops", self.flops, 0.0)


@dataclass(frozen=True, kw_only=True)
class TransportConfig:
    """How messages travel: `inproc` (one process), `rpc` (PyTorch RPC, closed networks only), `grpc`
    (one port, outbound from the clients) or `mqtt` (through a broker).

    The server listens on `host`:`port` (0: any free one); for mqtt that is the broker, and `topic` the
    run's name there (empty: a new one). It waits `join_timeout_s` for its clients to come; after
    that, whoever is silent for `timeout_s` is lost.

    Secrets are named by their files. `secrets` is a folder from `splitfl certs` and stands for all of
    the server's; or `tls_cert` with `tls_key`, `tls_ca` (clients show certificates that it signed; for
    mqtt: who signed the broker's), and `token_file`. A broker may want `user` and `password_file`.
    """

    name: str = "rpc"
    host: str = "127.0.0.1"
    port: int = 0
    timeout_s: float = 30.0
    join_timeout_s: float = 300.0
    secrets: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    token_file: str = ""
    topic: str = ""
    user: str = ""
    password_file: str = ""

    def __post_init__(self) -> None:
        one_of("transport.name", self.name, ("inproc", *_READ_BY))
        at_least("transport.port", self.port, 0)
        if self.port > 65535:
            raise ConfigError(f"transport.port must be at most 65535, got {self.port}")
        above("transport.timeout_s", self.timeout_s, 0.0)
        above("transport.join_timeout_s", self.join_timeout_s, 0.0)
        for name in sorted({name for read in _READ_BY.values() for name in read}):
            if getattr(self, name) and name not in _READ_BY.get(self.name, ()):
                readers = ", ".join(other for other, read in _READ_BY.items() if name in read)
                raise ConfigError(f"transport.{name} is read by {readers}, not by {self.name}")
        if self.secrets and (self.tls_cert or self.tls_key or self.tls_ca or self.token_file):
            raise ConfigError(
                "transport.secrets stands for all of the server's files: name no others beside it"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("transport.tls_cert and transport.tls_key are given together or not at all")


@dataclass(frozen=True, kw_only=True)
class FaultToleranceConfig:
    """What becomes of a run that loses a client or is stopped.

    `on_loss` of a client: `end` the run; `go-on` without it, until it comes back; or `go-back`, all
    together, to where the last checkpoint was made, and wait for it there `patience_s`. A run goes on
    with at least `min_clients`; with fewer it waits for more, so long. Every `checkpoint_every` rounds
    (0: never) server and clients keep what they need to go on from there, to the last bit.

    Limits on the wall clock, each 0 for none: a client that holds others up for longer than `step_s` is
    lost; whoever has not finished a round after `round_s` is passed over for the rest of it; a run over
    `run_s` ends, and can be gone on with. In each round `select` of the clients take part (0: all). Once
    `enough` of these (0: all) have said what is due, whoever still holds them up is passed over for the
    rest of the round.
    """

    on_loss: str = "end"
    min_clients: int = 1
    patience_s: float = 60.0
    checkpoint_every: int = 1
    step_s: float = 0.0
    round_s: float = 0.0
    run_s: float = 0.0
    select: int = 0
    enough: int = 0

    def __post_init__(self) -> None:
        one_of("survival.on_loss", self.on_loss, ("end", "go-on", "go-back"))
        at_least("survival.min_clients", self.min_clients, 1)
        above("survival.patience_s", self.patience_s, 0.0)
        at_least("survival.checkpoint_every", self.checkpoint_every, 0)
        at_least("survival.step_s", self.step_s, 0.0)
        at_least("survival.round_s", self.round_s, 0.0)
        at_least("survival.run_s", self.run_s, 0.0)
        at_least("survival.select", self.select, 0)
        at_least("survival.enough", self.enough, 0)
        if self.select and self.enough > self.select:
            raise ConfigError(
                f"survival.enough must be at most survival.select, {self.select}, got {self.enough}"
            )
        if self.on_loss == "go-back" and not self.checkpoint_every:
            raise ConfigError("survival.on_loss 'go-back' needs survival.checkpoint_every above 0")
