"""A cell that can be stopped and gone on with: it remembers what it was told, and is told all of it again.

What is queued, in the air and faded in a cell is more than could be kept, and follows from the messages
submitted and the times let pass, to the last bit. Numbers alone are kept, so a cell's past takes 72 bytes a
message, and to play it again the time that the radio took, but none of the learning.
"""

from array import array
from typing import Final, Protocol

import numpy as np
import torch

from channel.core.link import DIRECTIONS, RECOVERIES, Delivery, Transfer
from splitfl.core.errors import ConfigError
from splitfl.core.state import State, tensor_in

_PAST: Final = "past"
_COLUMNS: Final = 9  # is it a time to let pass, and the numbers of a transfer, or of that


class Cell(Protocol):
    """A cell in virtual time; see `channel.cell.engine.Engine`."""

    @property
    def now_s(self) -> float: ...

    def submit(self, transfer: Transfer) -> None: ...

    def advance(self, until_s: float, *, to_first: bool = False) -> list[tuple[Transfer, Delivery]]: ...


class ReplayableCell:
    """See above; `cell` is at time 0 and nobody else's."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._past = array("d")

    @property
    def now_s(self) -> float:
        """See Engine."""
        return self._cell.now_s

    def submit(self, transfer: Transfer) -> None:
        """See Engine."""
        self._cell.submit(transfer)
        self._past.extend(
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
        """See Engine; to the first that completes."""
        self._past.extend((1.0, until_s, *[0.0] * (_COLUMNS - 2)))
        return self._cell.advance(until_s, to_first=True)

    def state(self) -> State:
        """See Stateful."""
        return {_PAST: torch.from_numpy(np.array(self._past)).reshape(-1, _COLUMNS)}

    def restore(self, state: State) -> dict[tuple[int, str, int], Delivery]:
        """See Stateful; what was delivered last to and from each client, by client, direction and sequence.

        Raises ConfigError for a past that is none.
        """
        past = tensor_in(state, _PAST)
        if past.ndim != 2 or past.shape[1] != _COLUMNS or past.dtype != torch.float64:
            raise ConfigError("a checkpoint does not say what was sent in the cell: it is of another version")
        newest: dict[tuple[int, str], tuple[int, Delivery]] = {}
        for row in past.tolist():
            if row[0]:
                for transfer, delivery in self.advance(row[1]):
                    newest[transfer.client, transfer.direction] = transfer.sequence, delivery
            else:
                self.submit(_transfer(row))
        return {(*of, sequence): delivery for of, (sequence, delivery) in newest.items()}


def _transfer(row: list[float]) -> Transfer:
    _, client, way, sequence, payload_bytes, start_s, recovery, reliable_bytes, unit_bytes = row
    return Transfer(
        client=int(client),
        direction=DIRECTIONS[int(way)],
        sequence=int(sequence),
        payload_bytes=int(payload_bytes),
        start_s=start_s,
        recovery=RECOVERIES[int(recovery)],
        reliable_bytes=int(reliable_bytes),
        unit_bytes=int(unit_bytes),
    )
