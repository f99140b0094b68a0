"""Trace-driven links: a table of rate, delay and loss, or mahimahi's delivery opportunities.

Axes: N packets of one round, in order; K rows of a trace.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, above, at_least, whole
from channel.core.errors import BadParameter
from channel.core.link import Delivery, Transfer, packets_of
from channel.core.rng import stream
from channel.links.arq import ArqRound, deliver_in_rounds
from channel.links.loss import LossModel
from channel.links.recordings import (
    MAHIMAHI_BYTES,
    LinkTrace,
    read_csv,
    read_mahimahi,
    read_npz,
    require_nondecreasing,
)

_ROUNDING_S = 1e-9


class Recording(Protocol):
    """One direction of a recorded link, for packets sent back to back."""

    @property
    def can_deliver(self) -> bool:
        """Whether a packet that is retransmitted without limit arrives eventually."""
        ...

    def departure_s(self, start_s: float, bytes_N: Array) -> Array:
        """The departure time of the last bit of each packet (N,), if sending starts at `start_s`."""
        ...

    def delay_s(self, time_N: Array) -> Array:
        """The one-way delay of packets that left at these times (N,)."""
        ...

    def arrives(self, rng: np.random.Generator, time_N: Array) -> NDArray[np.bool_]:
        """For each packet, by its departure time (N,), whether it arrives."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class RateRecording:
    """A table of rate, delay and loss, replayed from its first row; the last row holds for ever.

    Raises BadParameter if the last rate is 0: later packets would never leave.
    """

    trace: LinkTrace

    def __post_init__(self) -> None:
        above("the last rate_bps of a trace to replay (it stays)", float(self.trace.rate_bps[-1]), 0.0)

    @property
    def can_deliver(self) -> bool:
        """Whether the loss rate of the last row is below 1."""
        return bool(self.trace.loss_rate[-1] < 1.0)

    @property
    def summary(self) -> str:
        """One line for the user: length, rate, delay and loss."""
        trace = self.trace
        length_s = float(trace.time_s[-1] - trace.time_s[0])
        return (
            f"{_counted(trace.time_s.size, 'row', 'rows')} over {length_s:.4g} s, "
            f"median rate {np.median(trace.rate_bps) / 1e6:.4g} Mbit/s, "
            f"median delay {np.median(trace.delay_s) * 1e3:.4g} ms, mean loss {trace.loss_rate.mean():.2%}; "
            f"the last row, {trace.rate_bps[-1] / 1e6:.4g} Mbit/s, holds"
            + (f"; columns not read: {', '.join(trace.ignored)}" if trace.ignored else "")
        )

    def departure_s(self, start_s: float, bytes_N: Array) -> Array:
        """The time at which the integral of the rate from `start_s` reaches the bits up to each packet."""
        time_K, rate_K = self.trace.time_s - self.trace.time_s[0], self.trace.rate_bps
        bits_K = np.concatenate([[0.0], np.cumsum(rate_K[:-1] * np.diff(time_K))])
        row = int(np.searchsorted(time_K, start_s, side="right")) - 1
        before = bits_K[row] + rate_K[row] * (start_s - time_K[row])
        wanted_N = before + 8.0 * np.cumsum(bytes_N)
        # The first row by whose end enough bits have left; the last row for times beyond the table.
        row_N = np.searchsorted(bits_K[1:], wanted_N, side="left")
        left_N: Array = time_K[row_N] + (wanted_N - bits_K[row_N]) / rate_K[row_N]
        return np.maximum(left_N, start_s)

    def delay_s(self, time_N: Array) -> Array:
        """The delay of the row in which each packet left."""
        return self.trace.at(time_N + self.trace.time_s[0])["delay_s"]

    def arrives(self, rng: np.random.Generator, time_N: Array) -> NDArray[np.bool_]:
        """Independent losses at the rate of the row in which each packet left."""
        opportunity_N = self.trace.at(time_N + self.trace.time_s[0])["loss_rate"]
        return np.asarray(rng.random(time_N.size) >= opportunity_N)


@dataclass(frozen=True, kw_only=True, eq=False)
class OpportunityRecording:
    """Delivery opportunities of `opportunity_bytes` at `time_K` in seconds, with the period time_K[-1].

    This is the model of mahimahi's mm-link (man page, version 0.98): bytes are counted, so that several
    small packets share an opportunity and a packet larger than its remainder continues in the next one; an
    opportunity is wasted if no packet is queued. The delay is constant; `loss` of None is a lossless link.
    Raises BadParameter for an empty trace, decreasing times, and a last time of 0.
    """

    time_K: Array
    constant_delay_s: float = 0.0
    loss: LossModel | None = None
    opportunity_bytes: int = MAHIMAHI_BYTES

    def __post_init__(self) -> None:
        if np.ndim(self.time_K) != 1 or not np.size(self.time_K):
            raise BadParameter(
                f"time_K must be a vector of at least 1 time, got shape {np.shape(self.time_K)}"
            )
        require_nondecreasing("time_K", self.time_K)
        above("the last of time_K", float(self.time_K[-1]), 0.0)
        at_least("constant_delay_s", self.constant_delay_s, 0.0)
        whole("opportunity_bytes", self.opportunity_bytes, 1)

    @property
    def can_deliver(self) -> bool:
        """Whether the loss rate is below 1."""
        return self.loss is None or self.loss.loss_rate < 1.0

    @property
    def summary(self) -> str:
        """One line for the user: length, rate, delay and loss."""
        length_s = float(self.time_K[-1])
        rate_bps = 8.0 * self.opportunity_bytes * self.time_K.size / length_s
        return (
            f"{_counted(self.time_K.size, 'opportunity', 'opportunities')} of {self.opportunity_bytes} bytes "
            f"over {length_s:.4g} s, "
            f"mean rate {rate_bps / 1e6:.4g} Mbit/s, delay {self.constant_delay_s * 1e3:.4g} ms, "
            f"loss {self.loss.loss_rate if self.loss else 0.0:.2%}; repeats"
        )

    def departure_s(self, start_s: float, bytes_N: Array) -> Array:
        """The opportunity that carries the last byte of each packet, from the first one after `start_s`."""
        period_s = float(self.time_K[-1])
        cycle = int(start_s // period_s)
        # Later by more than rounding, or the next message would use the same opportunity again.
        passed = np.searchsorted(self.time_K, start_s - cycle * period_s + _ROUNDING_S, side="right")
        first = cycle * self.time_K.size + int(passed)
        opportunity_N = first + np.ceil(np.cumsum(bytes_N) / self.opportunity_bytes).astype(np.int64) - 1
        left_N: Array = (opportunity_N // self.time_K.size) * period_s + self.time_K[
            opportunity_N % self.time_K.size
        ]
        return left_N

    def delay_s(self, time_N: Array) -> Array:
        """The constant delay, for each packet."""
        return np.full(time_N.shape, self.constant_delay_s)

    def arrives(self, rng: np.random.Generator, time_N: Array) -> NDArray[np.bool_]:
        """Draws from the loss model, which does not depend on time."""
        return (
            np.ones(time_N.size, dtype=np.bool_) if self.loss is None else self.loss.arrives(rng, time_N.size)
        )


def read_recording(path: Path) -> RateRecording | OpportunityRecording:
    """A recording from a file: a table for .csv, .tsv and .npz, a mahimahi trace for any other suffix.

    Raises BadParameter for invalid contents, OSError if the file cannot be read.
    """
    readers = {".csv": read_csv, ".tsv": read_csv, ".npz": read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is not None:
        trace = reader(path)
        above(f"the last rate_bps of {path.name} (it stays)", float(trace.rate_bps[-1]), 0.0)
        return RateRecording(trace=trace)
    return OpportunityRecording(time_K=read_mahimahi(path))


def _counted(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceLink:
    """A dedicated replay of a recording in each direction for every client, with ARQ as in `FixedLink`.

    The recordings start at time 0 of the run. `airtime_s` of a round lasts from its first bit to its last,
    pauses of the recording included; `power_w` is radiated for as long. Clients do not interfere, and
    the sender starts a transfer when the previous one has finished. Raises BadParameter for settings
    out of range, and if unlimited retransmission would never end.
    """

    seed: int
    up: Recording
    down: Recording
    mtu_bytes: int = 1500
    max_tries: int = 0
    retry_s: float = 0.008
    power_w: float = 0.2

    def __post_init__(self) -> None:
        whole("mtu_bytes", self.mtu_bytes, 1)
        whole("max_tries", self.max_tries, 0)
        at_least("retry_s", self.retry_s, 0.0)
        at_least("power_w", self.power_w, 0.0)
        if not self.max_tries and not (self.up.can_deliver and self.down.can_deliver):
            raise BadParameter("max_tries must be above 0 if a recording ends with a loss rate of 1, got 0")

    def transfer(self, transfer: Transfer) -> Delivery:
        """The delivery of this transfer, independent of earlier calls."""
        recording = self.up if transfer.direction == "up" else self.down
        rng = stream(self.seed, "trace", transfer.direction, transfer.client, transfer.sequence)

        def send(sizes_N: NDArray[np.int64], begin_s: float) -> ArqRound:
            if not sizes_N.size:
                lone = recording.delay_s(np.asarray([begin_s]))
                return ArqRound(
                    arrived_N=np.ones(0, dtype=np.bool_), left_s=begin_s, arrival_s=begin_s + float(lone[0])
                )
            left_N = recording.departure_s(begin_s, sizes_N.astype(np.float64))
            arrival_s = float((left_N + recording.delay_s(left_N)).max())
            arrived = recording.arrives(rng, left_N)
            return ArqRound(arrived_N=arrived, left_s=float(left_N[-1]), arrival_s=arrival_s)

        packets = packets_of(transfer, self.mtu_bytes)
        return deliver_in_rounds(
            send,
            transfer,
            packets,
            max_tries=self.max_tries,
            wait_s=self.retry_s,
            power_w=self.power_w,
        )
