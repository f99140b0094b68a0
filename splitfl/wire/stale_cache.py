"""What the rows of a sample were the last time they came, for where they are lost."""

# D hidden, n rows of one sample

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from splitfl.core.state import State, numbered, under

_NEVER: Final = -(1 << 60)


@dataclass(eq=False)
class _Rows:
    rows_nD: Tensor
    round_n: Tensor


class Memory:
    """Rows by whose they are and which sample's; one of round r may stand in until round r + `rounds`.

    It holds as much as every sample's rows take once.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._held: dict[tuple[int, int], _Rows] = {}

    def state(self) -> State:
        """Every row that is held; see Stateful."""
        held: dict[str, Tensor] = {}
        for (client, sample), its in self._held.items():
            held |= under(f"{client}.{sample}", {"rows": its.rows_nD.clone(), "round": its.round_n.clone()})
        return held

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._held = {
            (client, sample): _Rows(rows_nD=its["rows"], round_n=its["round"])
            for client, samples in numbered(state).items()
            for sample, its in numbered(samples).items()
        }

    def recall(self, client: int, sample: int, round_index: int, rows_nD: Tensor, arrived_n: Tensor) -> bool:
        """Keeps the rows that came and writes older ones over those that did not.

        False where one is missing for which there is none, or none that is young enough.
        """
        held = self._held.get((client, sample))
        if held is None or held.rows_nD.shape != rows_nD.shape:
            held = _Rows(rows_nD=torch.zeros_like(rows_nD), round_n=torch.full((len(rows_nD),), _NEVER))
            self._held[client, sample] = held
        held.rows_nD[arrived_n] = rows_nD[arrived_n]
        held.round_n[arrived_n] = round_index
        rows_nD.copy_(held.rows_nD)
        return bool((held.round_n >= round_index - self._rounds).all())
