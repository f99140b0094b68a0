"""Messages in a cell, and their record in a checkpoint."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from channel.core.link import Delivery, Transfer
from splitfl.core.errors import ConfigError
from splitfl.core.state import State, raw, raw_in
from splitfl.server.server_loop import Answer
from splitfl.server.virtual_clock import Crossing, Load


@dataclass(kw_only=True, eq=False)
class CellMessage:
    """A client's message until its reply; `down` is the reply in flight."""

    up: Crossing
    answer: Answer
    down: Crossing | None = None

    @property
    def crossing(self) -> Crossing:
        """The crossing in flight, or the last one delivered."""
        return self.down or self.up


@dataclass(frozen=True, kw_only=True, eq=False)
class SentBefore:
    """A message in flight when the run was interrupted, which its client has not sent again yet."""

    start_s: float
    load: Load
    transfer: Transfer
    delivery: Delivery | None = None


def departure(crossing: Crossing) -> Tensor:
    table = {
        "start_s": crossing.start_s,
        "load": asdict(crossing.load),
        "transfer": asdict(crossing.transfer),
    }
    return raw(json.dumps(table).encode())


def sent_before(state: State) -> SentBefore:
    try:
        table: dict[str, Any] = json.loads(raw_in(state, "departure"))
        load, transfer = Load(**table["load"]), Transfer(**table["transfer"])
        return SentBefore(start_s=table["start_s"], load=load, transfer=transfer)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"a checkpoint has no valid record of a transmission in flight: {error!r}"
        ) from None
