"""A cell that can be checkpointed: it logs its inputs, and a restored cell replays them.

The state of queues, transmissions and fading in a cell is too large to save, and follows bit for bit from
the submitted messages and the times of advance. The log takes 72 bytes per message; a replay takes the time
of the radio simulation, without training.
"""

from array import array
from typing import Final, Protocol

import numpy as np
import torch

from channel.core.link import DIRECTIONS, RECOVERIES, Delivery, Transfer
from splitfl.core.errors import ConfigError
from splitfl.core.state import State, tensor_in

_PAST: Final = "past"
_COLUMNS: Final = 9  # 1 for an advance, 0 for a transfer; then its numbers


class CellEngine(Protocol):
    """A cell in virtual time; see `channel.cell.engine.Engine`."""

    @property
    def now_s(self) -> float: ...

    def submit(self, transfer: Transfer) -> None: ...

    def advance(self, until_s: float, *, to_first: bool = False) -> list[tuple[Transfer, Delivery]]: ...


class ReplayableCell:
    """A logging wrapper of `cell`, which must be at time 0 and not used elsewhere."""

    def __init__(self, cell: CellEngine) -> None:
        self._cell = cell
        self._log = array("d")

    @property
    def now_s(self) -> float:
        """See Engine."""
        return self._cell.now_s

    def submit(self, transfer: Transfer) -> None:
        """See Engine."""
        self._cell.submit(transfer)
        self._log.extend(
            (
                0.0,
                transfer.client,
                DIRECTIONS.index(transfer.direction),
                transfer.sequence,
                transfer.payload_bytes,
                transfer.start_s,
                RECOVERIES.index(transfer.recovery),
                transfer.reliable_bytes,
                transfer.unit_bytes,
            )
        )

    def advance(self, until_s: float) -> list[tuple[Transfer, Delivery]]:
        """See Engine; advances to the first delivery."""
        self._log.extend((1.0, until_s, *[0.0] * (_COLUMNS - 2)))
        return self._cell.advance(until_s, to_first=True)

    def state(self) -> State:
        """See Stateful."""
        return {_PAST: torch.from_numpy(np.array(self._log)).reshape(-1, _COLUMNS)}

    def restore(self, state: State) -> dict[tuple[int, str, int], Delivery]:
        """See Stateful; returns the last delivery to and from each client, by client, direction and sequence.

        Raises ConfigError for an invalid log.
        """
        log = tensor_in(state, _PAST)
        if log.ndim != 2 or log.shape[1] != _COLUMNS or log.dtype != torch.float64:
            raise ConfigError("a checkpoint has no valid log of the cell: it is of another version")
        newest: dict[tuple[int, str], tuple[int, Delivery]] = {}
        for row in log.tolist():
            if row[0]:
                for transfer, delivery in self.advance(row[1]):
                    newest[transfer.client, transfer.direction] = transfer.sequence, delivery
            else:
                self.submit(_transfer(row))
        return {(*of, sequence): delivery for of, (sequence, delivery) in newest.items()}


def _transfer(row: list[float]) -> Transfer:
    _, client, direction, sequence, payload_bytes, start_s, recovery, reliable_bytes, unit_bytes = row
    return Transfer(
        client=int(client),
        direction=DIRECTIONS[int(direction)],
        sequence=int(sequence),
        payload_bytes=int(payload_bytes),
        start_s=start_s,
        recovery=RECOVERIES[int(recovery)],
        reliable_bytes=int(reliable_bytes),
        unit_bytes=int(unit_bytes),
    )
