"""Settings of devices, transport and fault tolerance."""

import re
from dataclasses import dataclass
from typing import Final

from splitfl.config.checks import above, at_least, one_of
from splitfl.config.plugin import PluginTable
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """One side's torch `device`; `auto` is CUDA if available. Torch uses `threads` threads. `flops` is the
    declared speed in FLOP/s, from which the virtual clock computes times."""

    device: str = "auto"
    threads: int = 1
    flops: float = 5e10

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device must be auto, cpu or cuda[:N], got {self.device!r}")
        at_least("threads", self.threads, 1)
        above("flops", self.flops, 0.0)


TENSOR: Final = "tensor"
"""The value of `server.shard` whose results have other bits than those of one device."""
SHARDS: Final = ("none", "fsdp", "stages", TENSOR)
"""The ways to divide the server's body among the ranks of torchrun."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig(DeviceConfig):
    """The server's torch `device`, `threads` and declared `flops`, and how several ranks divide its body.

    `shard` divides the frozen weights of a body that is larger than one device among the `ranks` that
    torchrun starts: `fsdp` divides the weights of each block, which are gathered when it is computed; with
    `stages` each rank has consecutive blocks, with `tensor` a share of each linear module. A rank that does
    not take part in a collective operation for `collective_timeout_s` is lost.
    """

    flops: float = 5e11
    shard: str = SHARDS[0]
    ranks: int = 1
    collective_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("server.shard", self.shard, SHARDS)
        at_least("server.ranks", self.ranks, 1)
        above("server.collective_timeout_s", self.collective_timeout_s, 0.0)
        if self.is_sharded and self.ranks == 1:
            raise ConfigError(f"server.ranks must be at least 2 with server.shard {self.shard!r}, got 1")

    @property
    def is_sharded(self) -> bool:
        """Whether several ranks compute the body."""
        return self.shard != "none"


@dataclass(frozen=True, kw_only=True)
class TransportConfig(PluginTable):
    """The transport of messages: `splitfl list transports` names the transports; each has its own settings.

    The server listens on `host`:`port` (0: any free port); with a broker these are the broker's. It waits
    `join_timeout_s` for its clients to join; later, a client without a sign of life for `timeout_s` is lost.
    """

    name: str = "rpc"
    host: str = "127.0.0.1"
    port: int = 0
    timeout_s: float = 30.0
    join_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        at_least("transport.port", self.port, 0)
        if self.port > 65535:
            raise ConfigError(f"transport.port must be at most 65535, got {self.port}")
        above("transport.timeout_s", self.timeout_s, 0.0)
        above("transport.join_timeout_s", self.join_timeout_s, 0.0)


@dataclass(frozen=True, kw_only=True)
class FaultToleranceConfig:
    """The treatment of lost clients and interrupted runs.

    `on_loss` of a client: `abort` the run; `continue` without it, until it rejoins; or `rollback` all
    clients to the last checkpoint, and wait `reconnect_timeout_s` for the lost one there. A run continues
    with at least `min_clients`; with fewer it waits for more, at most as long. Every `checkpoint_every`
    rounds (0: never) server and clients write checkpoints, from which a run continues bit for bit.

    Limits on the wall clock, each 0 for none: a client that delays others for longer than `step_s` is
    lost; a client that has not finished a round after `round_s` is skipped for the rest of it; a run over
    `run_s` ends, and can be resumed. In each round `clients_per_round` clients take part (0: all). Once
    `quorum` of these (0: all) have sent their message, a straggler is skipped for the rest of the round.

    Simulated churn: at the start of each round but the first a present client leaves with probability
    `leave_rate`, and one that is away returns with probability `return_rate`. Only present clients are
    selected; if fewer than `clients_per_round` are present, all of them are.
    """

    on_loss: str = "abort"
    min_clients: int = 1
    reconnect_timeout_s: float = 60.0
    checkpoint_every: int = 1
    step_s: float = 0.0
    round_s: float = 0.0
    run_s: float = 0.0
    clients_per_round: int = 0
    quorum: int = 0
    leave_rate: float = 0.0
    return_rate: float = 1.0

    def __post_init__(self) -> None:
        one_of("fault_tolerance.on_loss", self.on_loss, ("abort", "continue", "rollback"))
        at_least("fault_tolerance.min_clients", self.min_clients, 1)
        above("fault_tolerance.reconnect_timeout_s", self.reconnect_timeout_s, 0.0)
        at_least("fault_tolerance.checkpoint_every", self.checkpoint_every, 0)
        at_least("fault_tolerance.step_s", self.step_s, 0.0)
        at_least("fault_tolerance.round_s", self.round_s, 0.0)
        at_least("fault_tolerance.run_s", self.run_s, 0.0)
        at_least("fault_tolerance.clients_per_round", self.clients_per_round, 0)
        at_least("fault_tolerance.quorum", self.quorum, 0)
        for name, rate in (("leave_rate", self.leave_rate), ("return_rate", self.return_rate)):
            if not 0.0 <= rate <= 1.0:
                raise ConfigError(f"fault_tolerance.{name} must lie in [0, 1], got {rate}")
        if not self.leave_rate and self.return_rate != 1.0:
            raise ConfigError(
                "fault_tolerance.return_rate is read with fault_tolerance.leave_rate above 0 only, got "
                f"{self.return_rate}"
            )
        if self.clients_per_round and self.quorum > self.clients_per_round:
            raise ConfigError(
                "fault_tolerance.quorum must be at most fault_tolerance.clients_per_round, "
                f"{self.clients_per_round}, got {self.quorum}"
            )
        if self.on_loss == "rollback" and not self.checkpoint_every:
            raise ConfigError(
                "fault_tolerance.on_loss 'rollback' needs fault_tolerance.checkpoint_every above 0"
            )
