"""A recorded link replayed: rates, delays and losses of a table, or mahimahi's chances to deliver.

Axes: N packets of one round, in order; K rows of a trace.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, above, at_least, whole
from channel.core.errors import BadParameter
from channel.core.link import Delivery, Transfer
from channel.core.packets import packets_of
from channel.core.rng import stream
from channel.links.arq import Round, delivered
from channel.links.loss import LossModel
from channel.links.recordings import MAHIMAHI_BYTES, LinkTrace, forward, read_csv, read_mahimahi, read_npz

_ROUNDING_S = 1e-9


class Recording(Protocol):
    """What a recorded link does with packets that are sent back to back."""

    @property
    def lets_through(self) -> bool:
        """Whether a packet that is sent again and again arrives at some time."""
        ...

    def leaves_s(self, start_s: float, bytes_N: Array) -> Array:
        """When the last bit of each packet (N,) has left, if sending begins at `start_s`."""
        ...

    def delay_s(self, time_N: Array) -> Array:
        """How long each packet that left at these times is on its way."""
        ...

    def arrives(self, rng: np.random.Generator, time_N: Array) -> NDArray[np.bool_]:
        """Whether each packet that left at these times arrives."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class RateRecording:
    """A table of rate, delay and loss, replayed from its first row on; its last row stays for ever.

    Raises BadParameter where the last rate is 0, for then what is sent late would never leave.
    """

    trace: LinkTrace

    def __post_init__(self) -> None:
        above("the last rate_bps of a trace to replay (it stays)", float(self.trace.rate_bps[-1]), 0.0)

    @property
    def lets_through(self) -> bool:
        """Whether its last row loses less than everything."""
        return bool(self.trace.loss_rate[-1] < 1.0)

    @property
    def summary(self) -> str:
        """What it holds, in a line."""
        trace = self.trace
        length_s = float(trace.time_s[-1] - trace.time_s[0])
        return (
            f"{_counted(trace.time_s.size, 'row')} over {length_s:.4g} s, "
            f"median rate {np.median(trace.rate_bps) / 1e6:.4g} Mbit/s, "
            f"median delay {np.median(trace.delay_s) * 1e3:.4g} ms, mean loss {trace.loss_rate.mean():.2%}; "
            f"the last row's {trace.rate_bps[-1] / 1e6:.4g} Mbit/s stay"
            + (f"; columns not read: {', '.join(trace.ignored)}" if trace.ignored else "")
        )

    def leaves_s(self, start_s: float, bytes_N: Array) -> Array:
        """Where the integral of the rate since `start_s` has reached the bits up to each packet."""
        time_K, rate_K = self.trace.time_s - self.trace.time_s[0], self.trace.rate_bps
        bits_K = np.concatenate([[0.0], np.cumsum(rate_K[:-1] * np.diff(time_K))])
        row = int(np.searchsorted(time_K, start_s, side="right")) - 1
        before = bits_K[row] + rate_K[row] * (start_s - time_K[row])
        wanted_N = before + 8.0 * np.cumsum(bytes_N)
        # The first row whose end has seen enough bits: the last one for all that comes after the table.
        row_N = np.searchsorted(bits_K[1:], wanted_N, side="left")
        left_N: Array = time_K[row_N] + (wanted_N - bits_K[row_N]) / rate_K[row_N]
        return np.maximum(left_N, start_s)

    def delay_s(self, time_N: Array) -> Array:
        """That of the row in which each packet left."""
        return self.trace.at(time_N + self.trace.time_s[0])["delay_s"]

    def arrives(self, rng: np.random.Generator, time_N: Array) -> NDArray[np.bool_]:
        """Independent losses at the rate of that row."""
        chance_N = self.trace.at(time_N + self.trace.time_s[0])["loss_rate"]
        return np.asarray(rng.random(time_N.size) >= chance_N)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChanceRecording:
    """Moments `time_K` in seconds, each of which delivers `chance_bytes`; after the last they begin again.

    That is mahimahi's mm-link (its manual page, version 0.98): bytes are counted, so that several small
    packets share a chance and a packet longer than what is left of it goes on in the next one; a chance is
    lost on what was not there before it. Delay is constant, and `loss` is None where nothing is lost. Raises
    BadParameter for no moments, moments that go back, and a last one at 0, for it is also the length of the
    whole.
    """

    time_K: Array
    constant_delay_s: float = 0.0
    loss: LossModel | None = None
    chance_bytes: int = MAHIMAHI_BYTES

    def __post_init__(self) -> None:
        if np.ndim(self.time_K) != 1 or not np.size(self.time_K):
            raise BadParameter(f"time_K must be a row of at least 1 time, got shape {np.shape(self.time_K)}")
        forward("time_K", self.time_K)
        above("the last of time_K", float(self.time_K[-1]), 0.0)
        at_least("constant_delay_s", self.constant_delay_s, 0.0)
        whole("chance_bytes", self.chance_bytes, 1)

    @property
    def lets_through(self) -> bool:
        """Whether its model of losses loses less than everything."""
        return self.loss is None or self.loss.loss_rate < 1.0

    @property
    def summary(self) -> str:
        """What it holds, in a line."""
        length_s = float(self.time_K[-1])
        rate_bps = 8.0 * self.chance_bytes * self.time_K.size / length_s
        return (
            f"{_counted(self.time_K.size, 'chance')} of {self.chance_bytes} bytes over {length_s:.4g} s, "
            f"mean rate {rate_bps / 1e6:.4g} Mbit/s, delay {self.constant_delay_s * 1e3:.4g} ms, "
            f"loss {self.loss.loss_rate if self.loss else 0.0:.2%}; then all over again"
        )

    def leaves_s(self, start_s: float, bytes_N: Array) -> Array:
        """At the chance in which the last byte of each packet fits, from the first one after `start_s` on."""
        period_s = float(self.time_K[-1])
        cycle = int(start_s // period_s)
        # After it by more than rounding, or the message that follows would get the same chance again.
        passed = np.searchsorted(self.time_K, start_s - cycle * period_s + _ROUNDING_S, side="right")
        first = cycle * self.time_K.size + int(passed)
        chance_N = first + np.ceil(np.cumsum(bytes_N) / self.chance_bytes).astype(np.int64) - 1
        left_N: Array = (chance_N // self.time_K.size) * period_s + self.time_K[chance_N % self.time_K.size]
        return left_N

    def delay_s(self, time_N: Array) -> Array:
        """The same for all."""
        return np.full(time_N.shape, self.constant_delay_s)

    def arrives(self, rng: np.random.Generator, time_N: Array) -> NDArray[np.bool_]:
        """What the model of losses says, whatever the time."""
        return (
            np.ones(time_N.size, dtype=np.bool_) if self.loss is None else self.loss.arrives(rng, time_N.size)
        )


def read_recording(path: Path) -> RateRecording | ChanceRecording:
    """What a file holds: a table for .csv, .tsv and .npz, lines of mahimahi's for any other suffix.

    Raises BadParameter for what is neither, and OSError where there is nothing to read.
    """
    readers = {".csv": read_csv, ".tsv": read_csv, ".npz": read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is not None:
        return RateRecording(trace=reader(path))
    return ChanceRecording(time_K=read_mahimahi(path))


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceLink:
    """Every client's own replay of a recording in each direction, with selective repeat as in `FixedLink`.

    Time 0 of the run is where the recordings begin. `airtime_s` is from a round's first bit to its last,
    with the recording's pauses; `power_w` is radiated for as long. Clients do not disturb each other, and
    whoever sends starts a transfer when the one before it has finished. Raises BadParameter for settings
    out of range, and where packets would have to be sent again for ever.
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
        if not self.max_tries and not (self.up.lets_through and self.down.lets_through):
            raise BadParameter("max_tries must be above 0 where a recording ends with everything lost, got 0")

    def transfer(self, transfer: Transfer) -> Delivery:
        """What becomes of this transfer, whatever else was asked before it."""
        recording = self.up if transfer.direction == "up" else self.down
        rng = stream(self.seed, "trace", transfer.direction, transfer.client, transfer.sequence)

        def send(sizes_N: NDArray[np.int64], begin_s: float) -> Round:
            if not sizes_N.size:
                lone = recording.delay_s(np.asarray([begin_s]))
                return Round(
                    arrived_N=np.ones(0, dtype=np.bool_), left_s=begin_s, come_s=begin_s + float(lone[0])
                )
            left_N = recording.leaves_s(begin_s, sizes_N.astype(np.float64))
            come_s = float((left_N + recording.delay_s(left_N)).max())
            arrived = recording.arrives(rng, left_N)
            return Round(arrived_N=arrived, left_s=float(left_N[-1]), come_s=come_s)

        packets = packets_of(transfer, self.mtu_bytes)
        return delivered(
            send,
            transfer,
            packets,
            max_tries=self.max_tries,
            wait_s=self.retry_s,
            power_w=self.power_w,
        )
