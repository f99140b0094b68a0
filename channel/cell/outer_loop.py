"""The outer loop of many queues: margins as power ratios, moved by acknowledgements once these are in.

Axes: Q queues, direction x users + user, and one behind them that stays empty; C columns; T blocks.
"""

from collections import deque
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from channel.cell.blocks import Blocks, Whole
from channel.cell.parameters import Rules
from channel.core.arrays import Array
from channel.core.units import db_to_ratio


class Margins:
    """What is taken off a reported SINR, for every queue; see `OuterLoop`."""

    def __init__(self, rules: Rules, queues: int) -> None:
        self._rules = rules
        self._margin_Q = np.ones(queues)
        self._most = float(db_to_ratio(rules.outer.most_db))
        # What a lost first try, and one that came, do to a margin.
        self._factor_2 = db_to_ratio(rules.outer.updated_db(np.zeros(2), np.asarray([False, True])))
        self._heard: deque[tuple[int, Whole, Array]] = deque()

    def of(self, queue_C: Whole) -> Array:
        """The margins of these queues, power ratios."""
        return self._margin_Q[queue_C]

    def hear(self, grant: int) -> None:
        """Moves the margins by the acknowledgements that have come in before this grant."""
        margin_Q = self._margin_Q
        while self._heard and self._heard[0][0] <= grant:
            _, queue, factor = self._heard.popleft()
            if self._rules.grant_slots == 1:
                moved = margin_Q[queue] * factor
            else:  # a queue may have had a block in every slot
                np.multiply.at(margin_Q, queue, factor)
                moved = margin_Q[queue]
            margin_Q[queue] = np.minimum(np.maximum(moved, 1.0 / self._most), self._most)

    def note(self, sent: Blocks, came_T: NDArray[np.bool_]) -> None:
        """What became of first tries, to be heard of a round trip later, grant by grant."""
        new = np.flatnonzero(sent.tries_T == 0)
        if not new.size:
            return
        factor_T = self._factor_2[came_T[new].view(np.int8)]
        grant_T, queue_T = sent.slot_T[new] // self._rules.grant_slots, sent.queue_T[new]
        edges = [0, *(np.flatnonzero(np.diff(grant_T)) + 1).tolist(), new.size]
        for begin, end in pairwise(edges):
            due = int(grant_T[begin]) + self._rules.round_trip_grants
            self._heard.append((due, queue_T[begin:end], factor_T[begin:end]))
