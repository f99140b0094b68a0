"""Cache of each sample's last received rows, for the erasure policy `stale`."""

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


class StaleCache:
    """Rows by client and sample; a row of round r is valid until round r + `rounds`.

    Its size is that of every sample's rows.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._cached: dict[tuple[int, int], _Rows] = {}

    def state(self) -> State:
        """All cached rows; see Stateful."""
        cached: dict[str, Tensor] = {}
        for (client, sample), entry in self._cached.items():
            cached |= under(
                f"{client}.{sample}", {"rows": entry.rows_nD.clone(), "round": entry.round_n.clone()}
            )
        return cached

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._cached = {
            (client, sample): _Rows(rows_nD=entry["rows"], round_n=entry["round"])
            for client, samples in numbered(state).items()
            for sample, entry in numbered(samples).items()
        }

    def recall(self, client: int, sample: int, round_index: int, rows_nD: Tensor, arrived_n: Tensor) -> bool:
        """Caches the arrived rows, and overwrites the lost rows of `rows_nD` in place with cached ones.

        Returns False if a lost row has no cached one, or only one that is too old.
        """
        cached = self._cached.get((client, sample))
        if cached is None or cached.rows_nD.shape != rows_nD.shape:
            cached = _Rows(rows_nD=torch.zeros_like(rows_nD), round_n=torch.full((len(rows_nD),), _NEVER))
            self._cached[client, sample] = cached
        cached.rows_nD[arrived_n] = rows_nD[arrived_n]
        cached.round_n[arrived_n] = round_index
        rows_nD.copy_(cached.rows_nD)
        return bool((cached.round_n >= round_index - self._rounds).all())
