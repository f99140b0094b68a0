"""Selective repeat in rounds: what is missing is sent again, all of it back to back, until it has arrived.

Axes: N packets, in the order of the payload.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.link import Attempt, Delivery, Transfer
from channel.core.packets import Packets


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """What became of the packets of one round: `arrived_N`, and when the last bit of each had left.

    `come_s` is when the last of them would be there.
    """

    arrived_N: NDArray[np.bool_]
    left_s: float
    come_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounds:
    """All rounds of a transfer together; `tries` counts packets sent, the first time and again."""

    arrived_N: NDArray[np.bool_]
    finish_s: float
    tries: int
    airtime_s: float
    trace: tuple[Attempt, ...]


Send = Callable[[NDArray[np.int64], float], Round]
"""Sends packets of these sizes (N,) in bytes back to back, from this time in seconds on."""


def in_rounds(
    send: Send, packets: Packets, start_s: float, *, max_tries: int, wait_s: float, is_traced: bool
) -> Rounds:
    """Sends everything, then what is missing, each round `wait_s` after the last bit of the one before.

    At most `max_tries` rounds, or as many as it takes for 0: then a packet must have a chance in the end.
    What need not arrive is sent in the first round only. The trace is left empty unless `is_traced`.
    """
    sizes_N, is_reliable_N = packets.sizes_bytes, packets.is_reliable
    arrived_N = np.zeros(sizes_N.size, dtype=np.bool_)
    trace: list[Attempt] = []
    missing, tries, rounds, airtime_s, begin_s, finish_s = (
        np.arange(sizes_N.size),
        0,
        0,
        0.0,
        start_s,
        start_s,
    )
    while True:
        done = send(sizes_N[missing], begin_s)
        arrived_N[missing] = done.arrived_N
        if is_traced:
            trace.append(_attempt(sizes_N[missing], done))
        # Where delays fall, what was sent first may be the last to come.
        finish_s = max(finish_s, done.come_s)
        tries, rounds, airtime_s = tries + missing.size, rounds + 1, airtime_s + done.left_s - begin_s
        missing = missing[~done.arrived_N & is_reliable_N[missing]]
        if not missing.size or rounds == max_tries:
            return Rounds(
                arrived_N=arrived_N,
                finish_s=finish_s,
                tries=tries,
                airtime_s=airtime_s,
                trace=tuple(trace),
            )
        begin_s = done.left_s + wait_s


def _attempt(sizes_N: NDArray[np.int64], done: Round) -> Attempt:
    return Attempt(
        end_s=done.left_s,
        sent_bits=8.0 * float(sizes_N.sum()),
        came_bits=8.0 * float(sizes_N[done.arrived_N].sum()),
    )


def delivered(
    send: Send, transfer: Transfer, packets: Packets, *, max_tries: int, wait_s: float, power_w: float
) -> Delivery:
    """What becomes of a transfer whose packets go in rounds, sent with `power_w`; see `in_rounds`."""
    done = in_rounds(
        send, packets, transfer.start_s, max_tries=max_tries, wait_s=wait_s, is_traced=transfer.is_traced
    )
    return Delivery(
        arrived=done.arrived_N,
        finish_s=done.finish_s,
        retransmissions=done.tries - packets.sizes_bytes.size,
        airtime_s=done.airtime_s,
        energy_j=power_w * done.airtime_s,
        trace=done.trace,
    )
