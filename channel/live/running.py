"""Links that are asked packet by packet and yet remember: bursts go on, chances to deliver are shared.

A transfer of the virtual clock begins every model of losses in its steady state. Live, a packet is a
transfer, so the model would never see two packets in a row: here it runs on from packet to packet instead,
drawn in blocks, each from a stream of its own. Axes: N packets.
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
from channel.links.trace import ChanceRecording, TraceLink

BLOCK = 4096
"""Packets whose losses are drawn together; a model begins anew with each block."""


def running(link: Link, client: int, direction: str) -> Link:
    """This link for the packets of one client in one direction; one that needs no memory stays as it is."""
    remember = REMEMBERING.get(type(link))
    return remember(link, client, direction) if remember else link


class RunningLoss:
    """A model of losses for one long row of packets; the generator that it is asked with is not used."""

    def __init__(self, model: LossModel, seed: int, client: int, direction: str) -> None:
        self._model = model
        self._seed, self._client, self._direction = seed, client, direction
        self._block = 0
        self._arrived_N = np.zeros(0, dtype=np.bool_)

    @property
    def loss_rate(self) -> float:
        """The model's own."""
        return self._model.loss_rate

    def arrives(self, rng: np.random.Generator, packets: int) -> NDArray[np.bool_]:
        """For each of the next packets of the row, whether it arrives."""
        while self._arrived_N.size < packets:
            rng_of_block = stream(self._seed, "live", self._direction, self._client, self._block)
            more_N = self._model.arrives(rng_of_block, BLOCK)
            self._arrived_N = np.concatenate([self._arrived_N, more_N])
            self._block += 1
        taken_N, self._arrived_N = self._arrived_N[:packets], self._arrived_N[packets:]
        return taken_N


class RunningChances:
    """Chances to deliver that small packets share, as in mahimahi: the rest of one serves the next packet.

    Times must not go back.
    """

    def __init__(self, recording: ChanceRecording, loss: LossModel | None) -> None:
        self._recording, self._loss = recording, loss
        self._at_s, self._left_bytes = -1.0, 0.0

    @property
    def lets_through(self) -> bool:
        """The recording's own."""
        return self._recording.lets_through

    def leaves_s(self, start_s: float, bytes_N: Array) -> Array:
        """When the last byte of each packet fits into what is left, or into the chances that follow."""
        return np.asarray([self._leave_s(start_s, float(size)) for size in bytes_N])

    def delay_s(self, time_N: Array) -> Array:
        """The recording's own."""
        return self._recording.delay_s(time_N)

    def arrives(self, rng: np.random.Generator, time_N: Array) -> NDArray[np.bool_]:
        """What the model of losses says of the next packets."""
        if self._loss is None:
            return np.ones(time_N.size, dtype=np.bool_)
        return self._loss.arrives(rng, time_N.size)

    def _leave_s(self, start_s: float, size: float) -> float:
        if start_s > self._at_s:
            self._left_bytes = 0.0  # the chance has passed
        need = size - self._left_bytes
        if need <= 0.0:
            self._left_bytes = -need
            return self._at_s
        # Not the chance that is used up, should the next packet begin in that very moment.
        begin_s = max(start_s, float(np.nextafter(self._at_s, np.inf))) if self._at_s >= 0.0 else start_s
        chance = self._recording.chance_bytes
        self._at_s = float(self._recording.leaves_s(begin_s, np.asarray([need]))[0])
        self._left_bytes = -need % chance
        return self._at_s


def _fixed(link: FixedLink, client: int, direction: str) -> Link:
    one = link.up if direction == "up" else link.down
    if one.loss is None or isinstance(one.loss, Bernoulli):
        return link
    one = replace(one, loss=RunningLoss(one.loss, link.seed, client, direction))
    return replace(link, up=one) if direction == "up" else replace(link, down=one)


def _trace(link: TraceLink, client: int, direction: str) -> Link:
    recording = link.up if direction == "up" else link.down
    if not isinstance(recording, ChanceRecording):
        return link
    loss = recording.loss
    if loss is not None:
        loss = RunningLoss(loss, link.seed, client, direction)
    chances = RunningChances(recording, loss)
    return replace(link, up=chances) if direction == "up" else replace(link, down=chances)


REMEMBERING: Final[Mapping[type, Callable[[Any, int, str], Link]]] = {FixedLink: _fixed, TraceLink: _trace}
"""How each class of link that begins anew with every transfer goes on from packet to packet."""
