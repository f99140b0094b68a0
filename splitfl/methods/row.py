"""What the registry says of a method, and which settings are only some methods' own."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from splitfl.config import MethodConfig, RunConfig
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import AGGREGATORS
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod

Client = Callable[[Pieces, Batches, int, RunConfig], ClientMethod]
"""From the pieces that there are, the client's batches, the steps of a round and the settings."""

Server = Callable[[Pieces, RunConfig], ServerMethod]
"""From the pieces that there are and the settings."""

Refuse = Callable[[RunConfig, str, int], None]
"""ConfigError where the settings, the kind of model or its number of blocks rule the method out."""


def _anything_goes(config: RunConfig, kind: str, num_blocks: int) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A row: what it is, how its two sides are made, which optional settings they read, whom to cite.

    Whatever stands in `optional` and is not in `reads` must be left at its default.
    `aggregators` are the ways of aggregation that it can work with, and `holds` says whose
    adapters its client has: of the head, or of the whole model.
    `why_not` says of settings that it must not read what it does that forbids them.
    `needs` are settings, as `table.key=value`, for whoever lays methods side by side: without such
    a one it cannot run.
    """

    about: str
    client: Client
    server: Server
    citations: tuple[str, ...]
    reads: frozenset[str] = frozenset()
    why_not: Mapping[str, str] = field(default_factory=dict)
    refuse: Refuse = _anything_goes
    needs: tuple[str, ...] = ()
    aggregators: frozenset[str] = frozenset(AGGREGATORS)
    holds: tuple[str, ...] = ("head",)


_ELSEWHERE: Final = (
    "adapter.head",
    "train.head_lr",
    "train.head_schedule",
    "train.body_lr",
    "federation.aggregator",
    "federation.client_ranks",
    "federation.client_cuts",
    "federation.robust",
    "federation.trim",
    "federation.clip_norm",
    "federation.server_optimiser",
    "federation.server_lr",
    "partition.tail_blocks",
    "codec.activation",
    "codec.output",
    "codec.gradient",
)
"""What is said of the clients' learning and of what crosses the cut, outside the method's own table."""


def optional(config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that only some methods read: their values and their defaults."""
    own = [
        f"method.{one.name}"
        for one in dataclasses.fields(MethodConfig)
        if one.name not in ("name", "in_flight")  # the second is a bound, which every method keeps
    ]
    plain = RunConfig()
    return {name: (_at(config, name), _at(plain, name)) for name in (*own, *_ELSEWHERE)}


def fitted(config: RunConfig, reads: frozenset[str]) -> RunConfig:
    """The same settings for a method that reads these: what it does not read stands at its default."""
    for name, (got, default) in optional(config).items():
        if got != default and name not in reads:
            table, _, key = name.partition(".")
            changed = dataclasses.replace(getattr(config, table), **{key: default})
            config = dataclasses.replace(config, **{table: changed})
    return config


def _at(config: RunConfig, name: str) -> Any:
    table, _, key = name.partition(".")
    return getattr(getattr(config, table), key)
