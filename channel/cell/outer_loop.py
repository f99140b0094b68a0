"""Outer-loop margins of all queues as power ratios, updated by delayed acknowledgements.

Axes: Q queues, direction x users + user, and a last one that stays empty; C columns; T blocks.
"""

from collections import deque
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from channel.cell.blocks import Blocks, IntArray
from channel.cell.parameters import CellParameters
from channel.core.arrays import Array
from channel.core.units import db_to_ratio


class OuterLoopMargins:
    """The margin of every queue by which reported SINRs are reduced; see `OuterLoop`."""

    def __init__(self, parameters: CellParameters, queues: int) -> None:
        self._parameters = parameters
        self._margin_Q = np.ones(queues)
        self._most = float(db_to_ratio(parameters.outer.max_db))
        # The factors for a NACK and an ACK of a first transmission.
        self._factor_2 = db_to_ratio(parameters.outer.updated_db(np.zeros(2), np.asarray([False, True])))
        self._feedback: deque[tuple[int, IntArray, Array]] = deque()

    def of(self, queue_C: IntArray) -> Array:
        """The margins of these queues as power ratios."""
        return self._margin_Q[queue_C]

    def apply_feedback(self, grant: int) -> None:
        """Applies the acknowledgements received before this grant."""
        margin_Q = self._margin_Q
        while self._feedback and self._feedback[0][0] <= grant:
            _, queue, factor = self._feedback.popleft()
            if self._parameters.grant_slots == 1:
                moved = margin_Q[queue] * factor
            else:  # a queue may have had a block in every slot
                np.multiply.at(margin_Q, queue, factor)
                moved = margin_Q[queue]
            margin_Q[queue] = np.minimum(np.maximum(moved, 1.0 / self._most), self._most)

    def queue_feedback(self, sent: Blocks, decoded_T: NDArray[np.bool_]) -> None:
        """Queues the feedback of first transmissions, which is received one round trip later."""
        new = np.flatnonzero(sent.tries_T == 0)
        if not new.size:
            return
        factor_T = self._factor_2[decoded_T[new].view(np.int8)]
        grant_T, queue_T = sent.slot_T[new] // self._parameters.grant_slots, sent.queue_T[new]
        edges = [0, *(np.flatnonzero(np.diff(grant_T)) + 1).tolist(), new.size]
        for begin, end in pairwise(edges):
            due = int(grant_T[begin]) + self._parameters.round_trip_grants
            self._feedback.append((due, queue_T[begin:end], factor_T[begin:end]))
