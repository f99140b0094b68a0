"""What the registry says of a method, and which settings are only some methods' own."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from splitfl.config import MethodConfig, PartitionConfig, RunConfig
from splitfl.data.loader import Batches
from splitfl.methods.seam import ClientMethod, Pieces, ServerMethod

Client = Callable[[Pieces, Batches, int, RunConfig], ClientMethod]
"""From the pieces that there are, the client's batches, the steps of a round and the settings."""

Server = Callable[[Pieces, RunConfig], ServerMethod]
"""From the pieces that there are and the settings."""

Refuse = Callable[[RunConfig, str, int], None]
"""ConfigError where the settings, the kind of model or its number of blocks rule the method out."""


def _anything_goes(config: RunConfig, kind: str, num_blocks: int) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row: what it is, how its two sides are made, which optional settings they read, whom to cite.

    Whatever stands in `optional` and is not in `reads` must be left at its default.
    """

    about: str
    client: Client
    server: Server
    citations: tuple[str, ...]
    reads: frozenset[str] = frozenset()
    refuse: Refuse = _anything_goes


def optional(config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that only some methods read: their values and their defaults."""
    own = {
        f"method.{one.name}": (getattr(config.method, one.name), one.default)
        for one in dataclasses.fields(MethodConfig)
        if one.name not in ("name", "in_flight")  # the second is a bound, which every method keeps
    }
    return own | {"partition.tail_blocks": (config.partition.tail_blocks, PartitionConfig.tail_blocks)}
