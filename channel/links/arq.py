"""Selective-repeat ARQ in rounds: each round retransmits all missing packets back to back.

Axes: N packets, in payload order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.link import Attempt, Delivery, Packets, Transfer


@dataclass(frozen=True, kw_only=True, eq=False)
class ArqRound:
    """The outcome of one round: which packets arrived, and when its last bit left the sender.

    `arrival_s` is the arrival time of the latest packet, lost ones included.
    """

    arrived_N: NDArray[np.bool_]
    left_s: float
    arrival_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ArqResult:
    """All rounds of a transfer together; `tries` counts transmitted packets, retransmissions included."""

    arrived_N: NDArray[np.bool_]
    finish_s: float
    tries: int
    airtime_s: float
    trace: tuple[Attempt, ...]


Send = Callable[[NDArray[np.int64], float], ArqRound]
"""Sends packets of the given sizes (N,) in bytes back to back, starting at the given time in seconds."""


def run_rounds(
    send: Send, packets: Packets, start_s: float, *, max_tries: int, wait_s: float, is_traced: bool
) -> ArqResult:
    """Sends all packets, then the missing ones, each round `wait_s` after the last bit of the previous one.

    There are at most `max_tries` rounds; 0 means no limit, and every packet must then arrive eventually.
    Packets that are not reliable are sent in the first round only. The trace is empty unless `is_traced`.
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
        # With falling delays, a packet of an earlier round may arrive last.
        finish_s = max(finish_s, done.arrival_s)
        tries, rounds, airtime_s = tries + missing.size, rounds + 1, airtime_s + done.left_s - begin_s
        missing = missing[~done.arrived_N & is_reliable_N[missing]]
        if not missing.size or rounds == max_tries:
            return ArqResult(
                arrived_N=arrived_N,
                finish_s=finish_s,
                tries=tries,
                airtime_s=airtime_s,
                trace=tuple(trace),
            )
        begin_s = done.left_s + wait_s


def _attempt(sizes_N: NDArray[np.int64], done: ArqRound) -> Attempt:
    return Attempt(
        end_s=done.left_s,
        sent_bits=8.0 * float(sizes_N.sum()),
        received_bits=8.0 * float(sizes_N[done.arrived_N].sum()),
    )


def deliver_in_rounds(
    send: Send, transfer: Transfer, packets: Packets, *, max_tries: int, wait_s: float, power_w: float
) -> Delivery:
    """The delivery of a transfer sent in rounds with a radiated power of `power_w`; see `run_rounds`."""
    done = run_rounds(
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
