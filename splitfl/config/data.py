"""Which data, who holds which of them, and how the clients' work is put together."""

from dataclasses import dataclass

from splitfl.config.checks import above, at_least, one_of
from splitfl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Which data: a name of `splitfl list tasks`, or a local file or folder in `data`.

    `bad_rows` says what a malformed row does: `refuse` the file, or `skip` and count.
    `max_length` is in tokens. `limit` keeps that many training samples (0: all of them).
    """

    name: str = "stdlib-topics"
    data: str = ""
    max_length: int = 64
    bad_rows: str = "refuse"
    limit: int = 0
    eval_limit: int = 0

    def __post_init__(self) -> None:
        at_least("task.max_length", self.max_length, 2)
        one_of("task.bad_rows", self.bad_rows, ("refuse", "skip"))
        at_least("task.limit", self.limit, 0)
        at_least("task.eval_limit", self.eval_limit, 0)


@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """Who holds which data, how long a round is, how the clients' work is put together.

    `local_steps` of 0 means one pass over the client's own data each round.
    `partition`: `natural` (by group: package, or whatever the task groups by), `iid`,
    or `dirichlet` with `dirichlet_alpha` (Hsu et al., 2019: smaller is more uneven).

    `client_ranks` names the largest LoRA rank of each client's own adapters; none means that all
    have the same. Tensors are averaged, unless `robust` says `median`, `trimmed-mean` (without
    the `trim` largest and as many smallest, a share of the clients) or `clip` (no client moves
    them farther than `clip_norm`). The average is taken over as it is, or as a gradient by a
    `server_optimiser` at `server_lr`.
    """

    clients: int = 3
    rounds: int = 6
    local_steps: int = 10
    partition: str = "natural"
    dirichlet_alpha: float = 0.5
    aggregator: str = "rolora"
    client_ranks: tuple[int, ...] = ()
    robust: str = "none"
    trim: float = 0.2
    clip_norm: float = 1.0
    server_optimiser: str = "none"
    server_lr: float = 0.1

    def __post_init__(self) -> None:
        at_least("federation.clients", self.clients, 1)
        at_least("federation.rounds", self.rounds, 1)
        at_least("federation.local_steps", self.local_steps, 0)
        one_of("federation.partition", self.partition, ("natural", "iid", "dirichlet"))
        above("federation.dirichlet_alpha", self.dirichlet_alpha, 0.0)
        for rank in self.client_ranks:
            at_least("federation.client_ranks", rank, 1)
        one_of("federation.robust", self.robust, ("none", "median", "trimmed-mean", "clip"))
        at_least("federation.trim", self.trim, 0.0)
        if not self.trim < 0.5:
            raise ConfigError(f"federation.trim must be below 0.5, got {self.trim}")
        above("federation.clip_norm", self.clip_norm, 0.0)
        known = ("none", "momentum", "adagrad", "adam", "yogi")
        one_of("federation.server_optimiser", self.server_optimiser, known)
        above("federation.server_lr", self.server_lr, 0.0)
