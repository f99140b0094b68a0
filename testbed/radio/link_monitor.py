"""What a node has heard and sent, by far node and interval of time."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from channel.core.clock import Clock
from channel.waveform.arq import ArqCounters
from channel.waveform.received import Received
from channel.waveform.tokens import TokenLink, TokenMessage
from splitfl.core.quantities import percent_text, rate_text
from testbed.radio.modem import Modem
from testbed.radio.waterfall import Waterfall

_SHOWN = 256
"""Points of the last constellation that are kept."""


@dataclass(kw_only=True)
class Interval:
    """Packets from one node in an interval: all with a header, those with errors, and bytes handed on.

    A packet of units has errors if one of them has.
    """

    packets: int = 0
    bad: int = 0
    delivered_bytes: int = 0
    snr_db: list[float] = field(default_factory=list)

    @property
    def mean_snr_db(self) -> float | None:
        """None without a packet."""
        return float(np.mean(self.snr_db)) if self.snr_db else None


@dataclass(kw_only=True)
class FarNode:
    """One node as it is heard: of the interval, of all time, and its last packet with a payload.

    `channel` has the power gain of the used subcarriers over time.
    """

    channel: Waterfall
    now: Interval = field(default_factory=Interval)
    packets: int = 0
    bad: int = 0
    delivered_bytes: int = 0
    snr_db_sum: float = 0.0
    last: Received | None = None

    def heard(self, packet: Received, time_s: float) -> None:
        """Counts a packet that has been received at this time."""
        self.channel.add(time_s, np.abs(packet.response_K) ** 2)
        is_bad = packet.payload is None and (packet.is_whole_U is None or not packet.is_whole_U.all())
        self.now.packets, self.now.bad = self.now.packets + 1, self.now.bad + is_bad
        self.packets, self.bad = self.packets + 1, self.bad + is_bad
        self.now.snr_db.append(packet.snr_db)
        self.snr_db_sum += packet.snr_db
        if packet.payload or packet.units_UN is not None:
            self.last = packet

    def take(self, packet: Received, link: TokenLink, time_s: float) -> list[TokenMessage]:
        """The messages that a packet completes on this link; counts both."""
        self.heard(packet, time_s)
        messages = link.receive(packet)
        self.delivered(sum(len(message.reliable) + message.row_UN.size for message in messages))
        return messages

    def delivered(self, count: int) -> None:
        """Counts the bytes of IP packets or of messages that were handed on."""
        self.now.delivered_bytes += count
        self.delivered_bytes += count


class LinkMonitor:
    """Counts per far node; makes a row per interval of `every_s` of samples, and a final one.

    Without a `clock`, as where samples pass at times only, rows have no time of a clock.
    """

    def __init__(
        self, modem: Modem, counters: Mapping[int, ArqCounters], every_s: float, clock: Clock | None
    ) -> None:
        subcarriers = modem.settings.numerology.carrier_K.size
        self.nodes = {node: FarNode(channel=Waterfall(subcarriers)) for node in counters}
        self._modem, self._counters, self._every_s, self._clock = modem, counters, every_s, clock
        self._begin_s, self._began_s = 0.0, clock.now_s() if clock else 0.0

    @property
    def is_due(self) -> bool:
        """Whether the interval is over."""
        return self._modem.now_s >= self._begin_s + self._every_s

    def interval(self) -> list[dict[str, Any]]:
        """A row for each node that was heard in the interval, which ends here."""
        now_s, rows = self._modem.now_s, []
        on_clock = {"wall_s": self._clock.now_s() - self._began_s} if self._clock else {}
        for node, far in self.nodes.items():
            if far.now.packets:
                rows.append(
                    {
                        "time_s": now_s,
                        **on_clock,
                        "node": node,
                        "snr_db": far.now.mean_snr_db,
                        "packets": far.now.packets,
                        "bad": far.now.bad,
                        "goodput_bps": 8.0 * far.now.delivered_bytes / (now_s - self._begin_s),
                        "retransmissions": self._counters[node].retransmissions,
                    }
                )
            far.now = Interval()
        self._begin_s = now_s
        return rows

    def final(self) -> dict[str, Any]:
        """Everything since the start: per node, of the receiver, and of the last packet with a payload."""
        return {
            "seconds": self._modem.now_s,
            "sent_s": self._modem.sent / self._modem.rate_hz,
            "late_bursts": self._modem.late_bursts,
            "radio": asdict(self._modem.radio_counters),
            "receiver": asdict(self._modem.counters),
            "spectrum": self._modem.heard.plain(),
            "nodes": {str(node): self._of(node, far) for node, far in self.nodes.items()},
        }

    def _of(self, node: int, far: FarNode) -> dict[str, Any]:
        return {
            "packets": far.packets,
            "bad": far.bad,
            "snr_db": far.snr_db_sum / far.packets if far.packets else None,
            "delivered_bytes": far.delivered_bytes,
            "arq": asdict(self._counters[node]),
            "channel": far.channel.plain(),
            "last": None if far.last is None else _pictures(far.last),
        }


def sentence(row: Mapping[str, Any]) -> str:
    """A row of an interval in words."""
    bad = f"{row['bad']} of {row['packets']} packets bad ({percent_text(row['bad'] / row['packets'])})"
    return (
        f"{row['time_s']:.1f} s, from node {row['node']}: SNR {row['snr_db']:.1f} dB, "
        f"{rate_text(row['goodput_bps'])}, {bad}; {row['retransmissions']:,} retransmissions to it so far"
    )


def trouble(final: Mapping[str, Any]) -> str:
    """What went wrong with the radio in words; empty if nothing did."""
    counted = final["radio"]
    if not any(counted.values()):
        return ""
    return (
        f"the radio lost {counted['lost_samples']:,} samples in {counted['overflows']:,} overflows; "
        f"{counted['underflows']:,} underflows, {counted['late_bursts']:,} late bursts"
    )


def _pictures(packet: Received) -> dict[str, Any]:
    """The constellation after the equaliser, the estimated channel in dB, and the offset of the carrier."""
    points = packet.points[:_SHOWN]
    response_db = 20.0 * np.log10(np.maximum(np.abs(packet.response_K), 1e-6))
    return {
        "mcs": packet.mcs,
        "snr_db": packet.snr_db,
        "offset": packet.offset,
        "points": [[round(float(one.real), 3), round(float(one.imag), 3)] for one in points],
        "response_db": [round(float(one), 2) for one in response_db],
    }
