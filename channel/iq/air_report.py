"""What went through an air: per node, and against the wall clock."""

from dataclasses import dataclass, field

from channel.iq.pace import REAL_TIME_SHARE, Slips


@dataclass(kw_only=True)
class PortCounts:
    """Samples of a node: sent, zeros in place of missing ones, received, dropped since it did not listen.

    `losses` is the number of times that it stopped sending.
    """

    sent: int = 0
    zeros: int = 0
    received: int = 0
    dropped: int = 0
    losses: int = 0


@dataclass(frozen=True, kw_only=True)
class AirReport:
    """The stream so far: its length in samples, the wall seconds that it took, slips and counts by node."""

    rate_hz: float
    samples: int
    wall_s: float
    slips: Slips
    ports: list[PortCounts] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds of samples."""
        return self.samples / self.rate_hz

    @property
    def is_in_real_time(self) -> bool:
        """Whether the slips are at most 5 % of the time."""
        return self.slips.slipped_s <= REAL_TIME_SHARE * (self.seconds + self.slips.slipped_s)
