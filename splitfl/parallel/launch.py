"""The ranks that torchrun started, checked against the settings."""

import os
from dataclasses import dataclass
from typing import Final

from splitfl.config import SHARDS, ServerConfig
from splitfl.core.errors import ConfigError

_NEEDED: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_RESTARTS: Final = "TORCHELASTIC_RESTART_COUNT"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """This process among those that torchrun started on all machines, and on this one; `restarts` so far."""

    rank: int
    world_size: int
    local_rank: int
    restarts: int = 0


def launch() -> Launch | None:
    """This process among the ranks; None if torchrun did not start it."""
    if any(name not in os.environ for name in _NEEDED):
        return None
    rank, world_size, local_rank = (int(os.environ[name]) for name in _NEEDED[:3])
    restarts = int(os.environ.get(_RESTARTS, "0"))
    return Launch(rank=rank, world_size=world_size, local_rank=local_rank, restarts=restarts)


def checked_launch(server: ServerConfig) -> Launch | None:
    """The launch that these settings need, None on one device; ConfigError for another one."""
    found = launch()
    command = f"torchrun --nproc-per-node {max(2, server.ranks)} -m experiments serve FILE"
    if not server.is_sharded:
        if found is not None and found.world_size > 1:
            ways = " or ".join(map(repr, SHARDS[1:]))
            raise ConfigError(
                f"server.shard must be {ways} where torchrun starts several processes (WORLD_SIZE is "
                f"{found.world_size}), got 'none'"
            )
        return None
    if found is None:
        raise ConfigError(
            f"server.shard {server.shard!r} needs {server.ranks} processes started by torchrun, and this one "
            f"was started without it: {command}"
        )
    if found.world_size != server.ranks:
        raise ConfigError(
            "server.ranks must be the number of processes that torchrun started, WORLD_SIZE "
            f"{found.world_size}, got {server.ranks}"
        )
    return found


def refuse_restart() -> None:
    """ConfigError where torchrun restarted a command that begins a new run."""
    found = launch()
    if found is not None and found.restarts:
        raise ConfigError(
            "torchrun restarted this command, which would begin a new run: continue the interrupted one by "
            "torchrun ... -m experiments resume RUN, which may be restarted"
        )
