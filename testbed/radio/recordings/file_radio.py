"""A radio that hears a recording, and whose bursts are written to one.

Axes: B samples.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from channel.core.arrays import at_least
from channel.iq.delay_filters import Samples
from channel.iq.sample_format import format_of
from splitfl.core.errors import ConfigError
from testbed.errors import RecordingEnded
from testbed.radio.backoff import scaled
from testbed.radio.burst_queue import BurstQueue
from testbed.radio.radio import RadioCounters, Tuning, require_kept
from testbed.radio.recordings.recording import IqRecording, Recorder


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """`reads` is the SigMF recording that is heard (silence without one), `writes` the one of what is sent.

    At least one is given. `rate_hz` is needed without a recording to read, and must be that of it otherwise.
    What is sent is `backoff_db` lower and written as `sample_format` (fc32 or sc16), with `frequency_hz` in
    its metadata unless 0. Raises ConfigError or BadParameter for values out of range.
    """

    reads: str = ""
    writes: str = ""
    rate_hz: float = 0.0
    frequency_hz: float = 0.0
    sample_format: str = "fc32"
    backoff_db: float = 0.0

    def __post_init__(self) -> None:
        if not self.reads and not self.writes:
            raise ConfigError("a radio of files needs a recording that it reads or writes")
        at_least("rate_hz", self.rate_hz, 0.0)
        at_least("backoff_db", self.backoff_db, 0.0)
        format_of(self.sample_format)
        if not self.reads and not self.rate_hz:
            raise ConfigError("rate_hz is missing: there is no recording to take it from")


class FileRadio:
    """Implements Radio. Time passes when it receives. Raises ConfigError for an unusable recording."""

    def __init__(self, settings: FileSettings) -> None:
        self.counters, self._settings = RadioCounters(), settings
        self._recording = IqRecording(Path(settings.reads)) if settings.reads else None
        own = Tuning(rate_hz=settings.rate_hz, frequency_hz=settings.frequency_hz or None)
        self._tuning = own if self._recording is None else self._recording.tuning
        if self._recording is not None and settings.rate_hz:
            require_kept(Tuning(rate_hz=settings.rate_hz), self._tuning)
        self._form, self._bursts = format_of(settings.sample_format), BurstQueue()
        self._read = self._now = 0
        self._recorder = None
        if settings.writes:
            sent = Tuning(rate_hz=self._tuning.rate_hz, frequency_hz=own.frequency_hz)
            self._recorder = Recorder(Path(settings.writes), sent, self._form)

    @property
    def tuning(self) -> Tuning:
        """See Radio: those in the metadata."""
        return self._tuning

    def send(self, burst_B: Samples, at: int | None = None) -> int:
        """See Radio. Raises ConfigError without `writes`, and for a burst beyond the format's full scale."""
        if self._recorder is None:
            raise ConfigError("a burst cannot be sent: the settings have no recording that is written")
        begin = self._bursts.put(scaled(burst_B, self._settings.backoff_db, self._form), at)
        self._recorder.annotate(begin, burst_B.size, {"core:label": "sent"})
        return begin

    def receive(self, count: int) -> tuple[Samples, int]:
        """See Radio."""
        samples_B, at = self._heard(count)
        if at > self._now:
            self.counters.overflows += 1
            self.counters.lost_samples += at - self._now
        self._now = at + samples_B.size
        self._write(self._now)
        return samples_B, at

    def close(self) -> None:
        """See Radio: completes the recording with the bursts that are queued."""
        if self._recorder is not None:
            self._write(self._bursts.end)
            self._recorder.close()

    def _heard(self, count: int) -> tuple[Samples, int]:
        if self._recording is None:
            return np.zeros(count, dtype=np.complex64), self._now
        samples_B, at = self._recording.read(self._read, count)
        if count and not samples_B.size:
            raise RecordingEnded(f"{self._settings.reads} ends after {self._recording.count:,} samples")
        self._read += samples_B.size
        return samples_B, at

    def _write(self, until: int) -> None:
        now = self._bursts.now
        if self._recorder is not None and until > now:
            self._recorder.append(self._bursts.take(until - now), now)
