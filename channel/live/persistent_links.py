"""Links whose state persists from packet to packet: loss bursts, and shared delivery opportunities.

In the simulation every transfer starts its loss model in the steady state. In live emulation a packet is a
transfer, so bursts would never span two packets: here the model continues from packet to packet instead,
drawn in blocks, each from its own stream. Axes: N packets.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.core.link import Link
from channel.core.rng import stream
from channel.links.fixed import FixedLink
from channel.links.loss import Bernoulli, LossModel
from channel.links.trace import OpportunityRecording, TraceLink

BLOCK = 4096
"""Packets whose losses are drawn together; a model restarts in its steady state with each block."""


def with_persistent_state(link: Link, client: int, direction: str) -> Link:
    """The link for consecutive packets of one client and direction; a memoryless link is returned as is."""
    remember = PERSISTENT.get(type(link))
    return remember(link, client, direction) if remember else link


class PersistentLoss:
    """A loss model continued over consecutive packets; the generator passed to `arrives` is not used."""

    def __init__(self, model: LossModel, seed: int, client: int, direction: str) -> None:
        self._model = model
        self._seed, self._client, self._direction = seed, client, direction
        self._block = 0
        self._arrived_N = np.zeros(0, dtype=np.bool_)

    @property
    def loss_rate(self) -> float:
        return self._model.loss_rate

    def arrives(self, rng: np.random.Generator, packets: int) -> NDArray[np.bool_]:
        while self._arrived_N.size < packets:
            rng_of_block = stream(self._seed, "live", self._direction, self._client, self._block)
            more_N = self._model.arrives(rng_of_block, BLOCK)
            self._arrived_N = np.concatenate([self._arrived_N, more_N])
            self._block += 1
        taken_N, self._arrived_N = self._arrived_N[:packets], self._arrived_N[packets:]
        return taken_N


class PersistentOpportunities:
    """Delivery opportunities shared by small packets, as in mahimahi: a remainder serves the next packet.

    Start times must not decrease.
    """

    def __init__(self, recording: OpportunityRecording, loss: LossModel | None) -> None:
        self._recording, self._loss = recording, loss
        self._at_s, self._left_bytes = -1.0, 0.0

    @property
    def can_deliver(self) -> bool:
        return self._recording.can_deliver

    def departure_s(self, start_s: float, bytes_N: Array) -> Array:
        """The departure times (N,), which use the remainder of the current opportunity first."""
        return np.asarray([self._departure_s(start_s, float(size)) for size in bytes_N])

    def delay_s(self, time_N: Array) -> Array:
        return self._recording.delay_s(time_N)

    def arrives(self, rng: np.random.Generator, time_N: Array) -> NDArray[np.bool_]:
        if self._loss is None:
            return np.ones(time_N.size, dtype=np.bool_)
        return self._loss.arrives(rng, time_N.size)

    def _departure_s(self, start_s: float, size: float) -> float:
        if start_s > self._at_s:
            self._left_bytes = 0.0  # the opportunity has passed
        need = size - self._left_bytes
        if need <= 0.0:
            self._left_bytes = -need
            return self._at_s
        # Not the exhausted opportunity, should the next packet start at exactly its time.
        begin_s = max(start_s, float(np.nextafter(self._at_s, np.inf))) if self._at_s >= 0.0 else start_s
        chance = self._recording.opportunity_bytes
        self._at_s = float(self._recording.departure_s(begin_s, np.asarray([need]))[0])
        self._left_bytes = -need % chance
        return self._at_s


def _fixed(link: FixedLink, client: int, direction: str) -> Link:
    one = link.up if direction == "up" else link.down
    if one.loss is None or isinstance(one.loss, Bernoulli):
        return link
    one = replace(one, loss=PersistentLoss(one.loss, link.seed, client, direction))
    return replace(link, up=one) if direction == "up" else replace(link, down=one)


def _trace(link: TraceLink, client: int, direction: str) -> Link:
    recording = link.up if direction == "up" else link.down
    if not isinstance(recording, OpportunityRecording):
        return link
    loss = recording.loss
    if loss is not None:
        loss = PersistentLoss(loss, link.seed, client, direction)
    chances = PersistentOpportunities(recording, loss)
    return replace(link, up=chances) if direction == "up" else replace(link, down=chances)


PERSISTENT: Final[Mapping[type, Callable[[Any, int, str], Link]]] = {FixedLink: _fixed, TraceLink: _trace}
"""Per link class with per-transfer state: the constructor of its version with persistent state."""
