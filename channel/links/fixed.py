"""A link with constant rate, delay and packet loss in each direction."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter
from channel.core.link import Attempt, Delivery, Packets, Transfer, packets_of
from channel.core.rng import stream
from channel.links.arq import ArqRound, deliver_in_rounds
from channel.links.loss import LossModel


@dataclass(frozen=True, kw_only=True)
class Direction:
    """The uplink or the downlink. A `rate_bps` of 0 means no serialisation time; delay and loss still apply.

    `loss_rate` is the probability that one transmission of one packet fails, independently of others.
    `loss` is a loss model instead, such as bursts, which starts every ARQ round in its steady state.
    `power_w` is radiated while sending; the default is the 23 dBm of a power class 3
    handset (3GPP TS 38.101-1, table 6.2.1-1). Raises BadParameter for values out of range.
    """

    rate_bps: float = 0.0
    delay_s: float = 0.0
    loss_rate: float = 0.0
    loss: LossModel | None = None
    power_w: float = 0.2

    def __post_init__(self) -> None:
        _at_least("rate_bps", self.rate_bps, 0)
        _at_least("delay_s", self.delay_s, 0)
        _at_least("power_w", self.power_w, 0)
        if not 0.0 <= self.loss_rate < 1.0:
            raise BadParameter(f"loss_rate must lie in [0, 1), got {self.loss_rate}")
        if self.loss is not None and self.loss_rate:
            raise BadParameter(f"loss_rate must be 0 where loss is a model, got {self.loss_rate}")
        if self.loss is not None and not self.loss.loss_rate < 1.0:
            raise BadParameter(f"loss must let packets through, got a loss rate of {self.loss.loss_rate}")


@dataclass(frozen=True, kw_only=True)
class FixedLink:
    """A dedicated uplink and downlink for every client, with selective-repeat ARQ in rounds.

    A payload of B bytes is cut into n = ceil(B / mtu_bytes) packets, the last one shorter;
    data sent without recovery is cut at row boundaries and transmitted once.
    Each round sends all missing packets back to back, then waits `retry_s` for the
    acknowledgement. A packet is transmitted at most `max_tries` times (0: until it
    arrives); with k_i transmissions of packet i, of b_i bytes,

        airtime_s = 8 sum_i(k_i b_i) / rate_bps
        finish_s  = start_s + airtime_s + (max_i k_i - 1) retry_s + delay_s

    hence start_s + 8 B / rate_bps + delay_s without losses. k_i is geometric: with
    loss rate p and at most M transmissions a packet stays lost with probability p^M and is sent
    (1 - p^M) / (1 - p) times on average (Lin & Costello, Error Control Coding, 2nd ed.,
    chapter 22, where M is unbounded).

    Clients do not interfere, and the link has no queue: the sender starts a transfer when the
    previous one has finished. `energy_j` of a delivery is the sender's radiated energy.
    Raises BadParameter for values out of range.
    """

    seed: int
    up: Direction = field(default_factory=Direction)
    down: Direction = field(default_factory=Direction)
    mtu_bytes: int = 1500
    max_tries: int = 0
    retry_s: float = 0.008

    def __post_init__(self) -> None:
        _at_least("mtu_bytes", self.mtu_bytes, 1)
        _at_least("max_tries", self.max_tries, 0)
        _at_least("retry_s", self.retry_s, 0)

    def transfer(self, transfer: Transfer) -> Delivery:
        """The delivery of this transfer, independent of earlier calls."""
        parameters = self.up if transfer.direction == "up" else self.down
        packets = packets_of(transfer, self.mtu_bytes)
        sizes = packets.sizes_bytes
        rng = stream(self.seed, "link", transfer.direction, transfer.client, transfer.sequence)
        if parameters.loss is not None:
            return self._modelled(transfer, parameters, parameters.loss, packets, rng)
        needed = _tries_until_success(rng, sizes.size, parameters.loss_rate)
        most = np.where(packets.is_reliable, self.max_tries or np.inf, 1.0)
        tries = np.minimum(needed, most)
        # Sums of whole numbers in float64: exact below 2^53, where int64 would wrap around silently.
        sent_bytes = float((tries * sizes).sum())
        airtime_s = 8.0 * sent_bytes / parameters.rate_bps if parameters.rate_bps else 0.0
        waits = max(float(tries.max(initial=1.0)) - 1.0, 0.0)
        return Delivery(
            arrived=needed <= tries,
            finish_s=transfer.start_s + airtime_s + waits * self.retry_s + parameters.delay_s,
            retransmissions=int(tries.sum()) - sizes.size,
            airtime_s=airtime_s,
            energy_j=parameters.power_w * airtime_s,
            trace=tuple(self._attempts(transfer, parameters, sizes, tries, needed))
            if transfer.is_traced
            else (),
        )

    def _attempts(
        self,
        transfer: Transfer,
        parameters: Direction,
        sizes_N: NDArray[np.int64],
        tries_N: NDArray[np.float64],
        needed_N: NDArray[np.float64],
    ) -> Iterator[Attempt]:
        """The bits sent and received in each round."""
        end_s = transfer.start_s
        for number in range(1, int(tries_N.max(initial=1.0)) + 1):
            sent_bits = 8.0 * float(sizes_N[tries_N >= number].sum())
            end_s += sent_bits / parameters.rate_bps if parameters.rate_bps else 0.0
            received_bits = 8.0 * float(sizes_N[(tries_N >= number) & (needed_N == number)].sum())
            yield Attempt(end_s=end_s, sent_bits=sent_bits, received_bits=received_bits)
            end_s += self.retry_s

    def _modelled(
        self,
        transfer: Transfer,
        parameters: Direction,
        loss: LossModel,
        packets: Packets,
        rng: np.random.Generator,
    ) -> Delivery:
        """The delivery with a loss model, which is evaluated once per round."""

        def send(sizes_N: NDArray[np.int64], begin_s: float) -> ArqRound:
            left_s = begin_s + (
                8.0 * float(sizes_N.sum()) / parameters.rate_bps if parameters.rate_bps else 0.0
            )
            arrived = loss.arrives(rng, sizes_N.size)
            return ArqRound(arrived_N=arrived, left_s=left_s, arrival_s=left_s + parameters.delay_s)

        return deliver_in_rounds(
            send,
            transfer,
            packets,
            max_tries=self.max_tries,
            wait_s=self.retry_s,
            power_w=parameters.power_w,
        )


def _tries_until_success(rng: np.random.Generator, packets: int, loss_rate: float) -> NDArray[np.float64]:
    """Geometric draws, at least 1, by inversion of P(k > j) = loss_rate^j.

    It takes exactly one uniform draw per packet: numpy's geometric sampler takes a
    number of draws that depends on the rate and may change between versions.
    """
    if loss_rate == 0.0:
        return np.ones(packets)
    uniform = 1.0 - rng.random(packets)  # in (0, 1], where the logarithm is finite
    tries: NDArray[np.float64] = 1.0 + np.floor(np.log(uniform) / math.log(loss_rate))
    return tries


def _at_least(name: str, got: float, least: int) -> None:
    if not (got >= least and math.isfinite(got)):
        rule = "a finite number" if got == math.inf else f"at least {least}"
        raise BadParameter(f"{name} must be {rule}, got {got}")
