"""Rows 9, 12, 17, 18, 22 and 23: bursty loss, schedulers, retransmission, transfer times and queueing."""

from functools import lru_cache, partial

import numpy as np

from channel.cell.link_adaptation import OuterLoop
from channel.cell.scheduler import ProportionalFair, averaged
from channel.cell.traffic import mean_wait_fixed_service, waits_s
from channel.core.link import Delivery, Transfer
from channel.links.fixed import Direction, FixedLink
from channel.links.loss import GilbertElliott
from channel.links.recordings import LinkTrace
from channel.links.trace import OpportunityRecording, RateRecording, TraceLink
from channel.phy.harq import arq_mean_tries, arq_residual
from channel.validation.check import Check, rng_of, within_percent

_BURSTS = GilbertElliott(leave_good=0.01, leave_bad=0.2)


def _bursts() -> tuple[float, float]:
    """The share of lost packets, and the mean burst length in packets."""
    lost = ~_BURSTS.arrives(rng_of("bursts"), 2_000_000)
    begins = int(lost[0]) + int((lost[1:] & ~lost[:-1]).sum())
    return float(lost.mean()), float(lost.sum()) / begins


@lru_cache
def fair_gain(users: int, *, slots: int = 3000, repeats: int = 200) -> tuple[float, float]:
    """The multi-user diversity gain of proportional fair, and the first user's share of slots.

    The gain is the mean SNR of the scheduled user over the mean SNR, with independent Rayleigh fading and
    rates proportional to the SNR; averaged over `repeats` parallel runs.
    """
    rng = rng_of("fair", users)
    mean = np.full((repeats, users), _harmonic(users) / users)
    gained, first = 0.0, 0
    for _ in range(slots):
        snr = rng.exponential(size=(repeats, users))
        winner = ProportionalFair().choose(snr[..., None, :], mean, 0)
        had = np.where(np.arange(users) == winner, snr, 0.0)
        gained += float(had.sum())
        first += int((winner == 0).sum())
        mean = averaged(mean, had, step_s=1.0, window_s=1000.0)
    return gained / (slots * repeats), first / (slots * repeats)


def _fair(users: int, which: int) -> float:
    return fair_gain(users)[which]


def _harmonic(count: int) -> float:
    return sum(1.0 / number for number in range(1, count + 1))


def _outer_loop() -> float:
    rng, loop = rng_of("outer"), OuterLoop()
    margin, failures, blocks = np.zeros(200), 0, 0
    for step in range(2000):
        # A hard threshold of 0 dB (long code); reports are biased by 2 dB with an error of 1 dB rms.
        is_good = margin - 2.0 + rng.standard_normal(200) > 0.0
        margin = loop.updated_db(margin, is_good)
        if step >= 500:
            failures, blocks = failures + int((~is_good).sum()), blocks + 200
    return failures / blocks


def _repeated() -> Delivery:
    """A million packets of 100 bytes, at most four transmissions each, 30 % of them lost."""
    link = FixedLink(seed=0, up=Direction(loss_rate=0.3), mtu_bytes=100, max_tries=4)
    return link.transfer(_transfer(100_000_000))


def _transfer(payload_bytes: int) -> Transfer:
    return Transfer(client=0, direction="up", sequence=0, payload_bytes=payload_bytes, start_s=0.0)


def _mean_tries() -> float:
    done = _repeated()
    return 1.0 + done.retransmissions / done.packets


def _fixed_s() -> float:
    return FixedLink(seed=0, up=Direction(rate_bps=1e6, delay_s=0.01)).transfer(_transfer(100_000)).finish_s


def _table_s() -> float:
    """Half of the bits at 2 Mbit/s, the rest at 1 Mbit/s."""
    trace = LinkTrace(
        time_s=np.asarray([0.0, 0.2]),
        rate_bps=np.asarray([2e6, 1e6]),
        delay_s=np.asarray([0.0, 0.01]),
        loss_rate=np.zeros(2),
    )
    return _replayed_s(RateRecording(trace=trace))


def _chances_s() -> float:
    """An opportunity of 1,500 bytes every 12 ms is 1 Mbit/s."""
    return _replayed_s(OpportunityRecording(time_K=np.asarray([0.012]), constant_delay_s=0.01))


def _replayed_s(recording: OpportunityRecording | RateRecording) -> float:
    return TraceLink(seed=0, up=recording, down=recording).transfer(_transfer(100_000)).finish_s


def _queue_wait() -> float:
    arrivals = np.cumsum(rng_of("queue").exponential(1.0 / 0.8, size=1_000_000))
    return float(waits_s(arrivals, np.ones(arrivals.size)).mean())


CHECKS: tuple[Check, ...] = (
    within_percent(
        "9", "loss in Gilbert's bursts, p .01, r .2", _BURSTS.loss_rate, 5.0, lambda: _bursts()[0]
    ),
    within_percent("9", "packets lost in a row", _BURSTS.mean_burst, 5.0, lambda: _bursts()[1]),
    *(
        within_percent(
            "12", f"gain of proportional fair, {users} users", _harmonic(users), 1.0, partial(_fair, users, 0)
        )
        for users in (2, 4, 8)
    ),
    *(
        within_percent("12", f"share of one of {users} users", 1.0 / users, 2.0, partial(_fair, users, 1))
        for users in (2, 4, 8)
    ),
    Check(row="17", what="outer loop's error rate", expected=0.1, tolerance=0.005, measure=_outer_loop),
    within_percent(
        "18", "ARQ residual, p .3, 4 tries", float(arq_residual(0.3, 4)), 5.0, lambda: _repeated().loss_rate
    ),
    within_percent("18", "ARQ mean tries", float(arq_mean_tries(0.3, 4)), 0.5, _mean_tries),
    *(
        Check(row="22", what=f"100 kB {what}, in s", expected=expected_s, tolerance=1e-9, measure=measure)
        for what, expected_s, measure in (
            ("at 1 Mbit/s and 10 ms", 0.81, _fixed_s),
            ("at 2, later 1 Mbit/s, from a table", 0.61, _table_s),
            ("at a mahimahi line each 12 ms", 0.814, _chances_s),
        )
    ),
    within_percent("23", "M/D/1 wait, load 0.8", mean_wait_fixed_service(0.8, 1.0), 3.0, _queue_wait),
)
