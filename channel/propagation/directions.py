"""SINR and transmit power of both directions of a cell, and the random draws that decide decoding.

Axes: S slots; D directions, in the order of DIRECTIONS; F resource-block groups; U users; T blocks; H groups
allocated to blocks; Q queues, direction x U + user.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.core.rng import stream
from channel.propagation.fading_grid import SLOTS
from channel.propagation.sinr import SinrModel

IntArray = NDArray[np.int64]

_NEWEST = 3
"""Slot blocks that are kept: a slot's report may lie in the one before it. Their memory is used again, since
the system zeroes new memory, which costs a large cell a quarter of its time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotBlock:
    """A block of `SLOTS` slots: SINRs, watts per group, and the total power as a multiple of that.

    The latter two have an extra last element for the queue that is always empty.
    """

    sinr_SDFU: Array
    group_w_Q: Array
    full_power_groups_Q: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class BothDirections:
    """The SINR models of "up" and "down"; `seed` is that of the decoding draws."""

    sinr_models: Mapping[str, SinrModel]
    seed: int

    @cached_property
    def users(self) -> int:
        """The number of users."""
        return int(self.sinr_models["up"].place_U2(0).shape[0])

    def slot_block(self, number: int) -> SlotBlock:
        """The block of slots of this index, valid until three others have been asked for since."""
        blocks = self._newest_slot_blocks
        if number in blocks:
            blocks[number] = blocks.pop(number)
            return blocks[number]
        is_full = len(blocks) == _NEWEST
        memory = blocks.pop(next(iter(blocks))).sinr_SDFU if is_full else self._memory()
        blocks[number] = self._slot_block(number, memory)
        return blocks[number]

    def reports(self, slots: list[int]) -> Array:
        """SINR (slots, D, F, U) in these slots, which must not decrease."""
        first, last = slots[0] // SLOTS, slots[-1] // SLOTS
        if first == last and slots[-1] - slots[0] == len(slots) - 1:
            start = slots[0] % SLOTS
            return self.slot_block(first).sinr_SDFU[start : start + len(slots)]
        reports = np.empty((len(slots), *self.slot_block(first).sinr_SDFU.shape[1:]))
        for report, slot in zip(reports, slots, strict=True):
            report[:] = self.slot_block(slot // SLOTS).sinr_SDFU[slot % SLOTS]
        return reports

    def sinr(self, slot_T: IntArray, queue_T: IntArray, group_H: IntArray, block_H: IntArray) -> Array:
        """SINR (H,) in each allocated group, for the slot and queue of its block."""
        groups, users = self.sinr_models["up"].groups, self.users
        row_T = slot_T % SLOTS * len(DIRECTIONS) + queue_T // users
        place_T = row_T * (groups * users) + queue_T % users
        place_H = place_T[block_H] + group_H * users
        found = np.empty(place_H.shape)
        for number, here in _by_slot_block(slot_T[block_H]):
            found[here] = self.slot_block(number).sinr_SDFU.reshape(-1)[place_H[here]]
        return found

    def powers(self, slot_T: IntArray, queue_T: IntArray) -> tuple[Array, Array]:
        """Watts per group (T,), and the total power over that (T,), of these queues in these slots."""
        found = np.empty((2, slot_T.size))
        for number, here in _by_slot_block(slot_T):
            slot_block = self.slot_block(number)
            found[0, here] = slot_block.group_w_Q.take(queue_T[here])
            found[1, here] = slot_block.full_power_groups_Q.take(queue_T[here])
        return found[0], found[1]

    def uniform(self, name: str, slot_T: IntArray, queue_T: IntArray) -> Array:
        """Uniform draws in [0, 1) (T,), determined by name, slot and queue."""
        found = np.empty(slot_T.size)
        for number, here in _by_slot_block(slot_T):
            found[here] = self._uniform(name, number)[slot_T[here] % SLOTS, queue_T[here]]
        return found

    @cached_property
    def _newest_slot_blocks(self) -> dict[int, SlotBlock]:
        """By index, the one that was asked for last at the end."""
        return {}

    @cached_property
    def _uniform(self) -> Callable[[str, int], Array]:
        return lru_cache(maxsize=4)(self._drawn)

    def _memory(self) -> Array:
        return np.empty((SLOTS, len(DIRECTIONS), self.sinr_models["up"].groups, self.users))

    def _slot_block(self, number: int, sinr_SDFU: Array) -> SlotBlock:
        sinr_models = [self.sinr_models[direction] for direction in DIRECTIONS]
        powers = [air.fill(number, sinr_SDFU[:, at]) for at, air in enumerate(sinr_models)]
        group_w_Q = np.concatenate([*powers, np.ones(1)])
        most_w_Q = np.append(np.repeat([air.max_w for air in sinr_models], self.users), 1.0)
        return SlotBlock(
            sinr_SDFU=sinr_SDFU,
            group_w_Q=group_w_Q,
            full_power_groups_Q=most_w_Q / group_w_Q,
        )

    def _drawn(self, name: str, number: int) -> Array:
        rngs = [stream(self.seed, name, direction, number) for direction in DIRECTIONS]
        return np.concatenate([rng.random((SLOTS, self.users)) for rng in rngs], axis=1)


def _by_slot_block(slot_T: IntArray) -> Iterator[tuple[int, slice | NDArray[np.bool_]]]:
    """The indices of the slot blocks that contain these slots, with the selection of each."""
    if not slot_T.size:
        return
    first, last = int(slot_T.min()) // SLOTS, int(slot_T.max()) // SLOTS
    if first == last:
        yield first, slice(None)
        return
    for number in range(first, last + 1):
        yield number, slot_T // SLOTS == number
