"""What every radio can do, whatever is behind it.

Axes: B samples of a burst.
"""

from dataclasses import dataclass
from typing import Protocol

from channel.iq.delay_filters import Samples
from splitfl.core.errors import ConfigError

_RATE_SHARE = 0.01
_FREQUENCY_HZ = 1e3


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Sample rate, carrier, gain and antenna; None where the radio has no such setting."""

    rate_hz: float
    frequency_hz: float | None = None
    gain_db: float | None = None
    antenna: str | None = None


@dataclass(kw_only=True)
class RadioCounters:
    """What went wrong: samples lost in `overflows`, bursts with gaps (`underflows`), and late bursts."""

    overflows: int = 0
    lost_samples: int = 0
    underflows: int = 0
    late_bursts: int = 0


class Radio(Protocol):
    """Samples out and in; times are sample numbers of the radio's own clock, which starts at 0.

    A magnitude of 1 is full scale. Closing ends a radio; no method may be called afterwards. `counters` are
    0 where samples cannot be lost.
    """

    counters: RadioCounters

    @property
    def tuning(self) -> Tuning:
        """The settings as the radio has them, read back from it."""
        ...

    def send(self, burst_B: Samples, at: int | None = None) -> int:
        """Queues a burst that begins at sample `at`, by default as soon as possible; returns its begin.

        Between bursts the radio is silent. Raises LateBurst if that time has passed; nothing is sent then.
        """
        ...

    def receive(self, count: int) -> tuple[Samples, int]:
        """The next `count` samples, and the sample number of the first.

        Numbers jump where samples were lost; the samples before a loss come alone, so they may be fewer.
        Raises RadioTimeout if they do not come in time, and RecordingEnded behind the last one of a file.
        """
        ...

    def close(self) -> None: ...


def require_kept(asked: Tuning, kept: Tuning) -> None:
    """Raises ConfigError if a rate differs by more than 1 %, or a frequency by more than 1 kHz."""
    if abs(kept.rate_hz - asked.rate_hz) > _RATE_SHARE * asked.rate_hz:
        raise ConfigError(f"rate_hz {asked.rate_hz:g} is none that this radio has: it took {kept.rate_hz:g}")
    wanted_hz, kept_hz = asked.frequency_hz, kept.frequency_hz
    if wanted_hz is not None and (kept_hz is None or abs(kept_hz - wanted_hz) > _FREQUENCY_HZ):
        raise ConfigError(f"frequency_hz {wanted_hz:g} is none that this radio has: it took {kept_hz}")
