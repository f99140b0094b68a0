"""Packet loss models without a radio: independent, bursty, or recorded.

A model draws the losses of a transfer from that transfer's own random stream, so the order of evaluation
does not matter. Each transfer starts in the steady state of its model.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, whole, within
from channel.core.errors import BadParameter
from channel.core.markov import TwoState


class LossModel(Protocol):
    """Draws which packets of a sequence arrive."""

    @property
    def loss_rate(self) -> float:
        """The long-run share of lost packets."""
        ...

    def arrives(self, rng: np.random.Generator, packets: int) -> NDArray[np.bool_]:
        """For each of `packets` consecutive packets, whether it arrives: (packets,)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Bernoulli:
    """Independent losses: each packet is lost with probability `loss_rate`."""

    loss_rate: float

    def __post_init__(self) -> None:
        within("loss_rate", self.loss_rate, 0.0, 1.0)

    def arrives(self, rng: np.random.Generator, packets: int) -> NDArray[np.bool_]:
        """For each packet, whether it arrives."""
        return rng.random(whole("packets", packets, 0)) >= self.loss_rate


@dataclass(frozen=True, kw_only=True)
class GilbertElliott:
    """Bursty losses: a Markov chain of a good and a bad state, with one step per packet.

    P(good -> bad) = `leave_good` and P(bad -> good) = `leave_bad` before each packet but the first; a packet
    arrives with probability `arrive_good` or `arrive_bad`. Gilbert, Bell Syst. Tech. J. 39(5), 1960 (with
    arrive_good 1) and Elliott, 42(5), 1963, whose symbols are p, r, k and h. Raises BadParameter for a
    probability outside [0, 1] and if both transition probabilities are 0.
    """

    leave_good: float
    leave_bad: float
    arrive_good: float = 1.0
    arrive_bad: float = 0.0

    def __post_init__(self) -> None:
        for name in ("leave_good", "leave_bad", "arrive_good", "arrive_bad"):
            within(name, getattr(self, name), 0.0, 1.0)
        if self.leave_good + self.leave_bad == 0.0:
            raise BadParameter("leave_good + leave_bad must be above 0, got 0: the state would never change")

    @property
    def bad_share(self) -> float:
        """The steady-state probability of the bad state: p / (p + r)."""
        return self.leave_good / (self.leave_good + self.leave_bad)

    @property
    def loss_rate(self) -> float:
        """(1 - k) P(good) + (1 - h) P(bad)."""
        bad = self.bad_share
        return (1.0 - self.arrive_good) * (1.0 - bad) + (1.0 - self.arrive_bad) * bad

    @property
    def mean_burst(self) -> float:
        """The mean length in packets of a stay in the bad state: 1 / r (infinite for r = 0)."""
        return 1.0 / self.leave_bad if self.leave_bad else float("inf")

    def arrives(self, rng: np.random.Generator, packets: int) -> NDArray[np.bool_]:
        """For each packet, whether it arrives."""
        turn, uniform = rng.random((2, whole("packets", packets, 0)))
        arrived: NDArray[np.bool_] = uniform < np.where(self._is_bad(turn), self.arrive_bad, self.arrive_good)
        return arrived

    def _is_bad(self, turn: Array) -> NDArray[np.bool_]:
        """The states (packets,) from one uniform draw per packet, vectorised.

        The next state is bad if the draw is below p (from good) or 1 - r (from bad). A draw below both or
        above both determines the state alone; in between it keeps the state if p + r <= 1 and flips it
        otherwise. So each state is that of the last determining draw, flipped once per flip since.
        """
        if not turn.size:
            return np.zeros(0, dtype=np.bool_)
        low, high = sorted((self.leave_good, 1.0 - self.leave_bad))
        to_bad = turn < low
        decides = to_bad | (turn >= high)
        flips = ~decides & (self.leave_good + self.leave_bad > 1.0)
        to_bad[0], decides[0], flips[0] = turn[0] < self.bad_share, True, False
        last = np.maximum.accumulate(np.where(decides, np.arange(turn.size), 0))
        flipped = np.cumsum(flips)
        is_odd = (flipped - flipped[last]) % 2 == 1
        return np.asarray(to_bad[last] ^ is_odd, dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedLoss:
    """A recorded loss trace, `arrived` (packets,); each transfer starts at a random offset and wraps around.

    Raises BadParameter for an empty trace.
    """

    arrived: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not np.size(self.arrived) or np.ndim(self.arrived) != 1:
            raise BadParameter(
                f"arrived must be a vector of at least one packet, got shape {np.shape(self.arrived)}"
            )

    @property
    def loss_rate(self) -> float:
        """The share of the trace's packets that were lost."""
        return 1.0 - float(np.mean(self.arrived))

    def arrives(self, rng: np.random.Generator, packets: int) -> NDArray[np.bool_]:
        """For each packet, whether it arrives."""
        start = int(rng.integers(self.arrived.size))
        place = (start + np.arange(whole("packets", packets, 0))) % self.arrived.size
        return np.asarray(self.arrived[place], dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class TimedGilbertElliott:
    """The Gilbert-Elliott model in continuous time, so that a burst may span several transfers.

    The bad state is the on state of `bad`. States far apart in time are independent; transfers within the
    same burst are both affected. Raises BadParameter for a probability outside [0, 1].
    """

    bad: TwoState
    arrive_good: float = 1.0
    arrive_bad: float = 0.0

    def __post_init__(self) -> None:
        within("arrive_good", self.arrive_good, 0.0, 1.0)
        within("arrive_bad", self.arrive_bad, 0.0, 1.0)

    @property
    def loss_rate(self) -> float:
        """The long-run share of lost packets."""
        return (1.0 - self.arrive_good) * (1.0 - self.bad.duty) + (1.0 - self.arrive_bad) * self.bad.duty

    def arrives_at(self, rng: np.random.Generator, time_s: Array) -> NDArray[np.bool_]:
        """For packets sent at the times `time_s` (packets,) in seconds, whether each arrives."""
        uniform = rng.random(np.shape(time_s))
        return uniform < np.where(self.bad.is_on(time_s), self.arrive_bad, self.arrive_good)
