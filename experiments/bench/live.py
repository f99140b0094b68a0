"""Unmodified PyTorch RPC over a live link: goodput, added delay, and the effect of loss."""

import logging
import statistics
from collections.abc import Callable

from experiments.bench.ratio import Figure, at_least, at_most, pair_ratios
from experiments.bench.setting import Setting
from experiments.rpc_probe import DELAY_S, Probe, probe
from testbed.errors import NotRoot

log = logging.getLogger(__name__)

_SENDS = 3
_LATE_S = 0.005


def live(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """20 and 100 Mbit/s with 5 ms in each direction, and 20 Mbit/s with 5 % loss; empty without root."""

    def measured(rate_bps: float, loss_rate: float = 0.0, congestion: str = "reno") -> Probe:
        progress(f"{rate_bps / 1e6:g} Mbit/s, {100 * loss_rate:g} % loss, {congestion}")
        return probe(
            rate_bps=rate_bps, loss_rate=loss_rate, congestion=congestion, sends=_SENDS * setting.sweeps
        )

    try:
        slow = measured(20e6)
    except NotRoot as error:
        log.warning("benchmark live skipped: %s", error)
        return []
    fast, reno, bbr = measured(100e6), measured(20e6, 0.05), measured(20e6, 0.05, "bbr")
    share = tuple(rate_bps / 20e6 for rate_bps in slow.goodput_bps)
    extra = (statistics.median(slow.echo_s) - 2 * DELAY_S) / DELAY_S
    return [
        Figure(what="goodput of RPC / 20 Mbit/s, live", ratios=share, target=at_least(0.88)),
        Figure(what="the same, at most the link's capacity", ratios=share, target=at_most(0.99)),
        Figure(what="RPC's round trip beyond 10 ms / 5 ms, live", ratios=(extra,), target=at_most(1.0)),
        Figure(
            what="goodput of RPC / 100 Mbit/s, live",
            ratios=tuple(rate_bps / 100e6 for rate_bps in fast.goodput_bps),
            target=at_least(0.88),
        ),
        Figure(
            what="99th percentile of packet release lateness / 5 ms",
            ratios=(fast.late_s / _LATE_S,),
            target=at_most(1.0),
        ),
        Figure(
            what="goodput at 5 % loss and 20 Mbit/s, bbr / reno",
            ratios=pair_ratios(bbr.goodput_bps, reno.goodput_bps),
            target=at_least(3.0),
        ),
    ]
