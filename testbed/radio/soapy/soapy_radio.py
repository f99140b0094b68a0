"""Radio hardware behind SoapySDR: X310, B210, Lime, HackRF, Pluto and others whose driver is installed.

Bursts are written to the driver at once, which blocks while its buffer is full.

Axes: B samples of a burst.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from channel.core.clock import Clock, WallClock
from channel.iq.delay_filters import Samples
from channel.iq.sample_format import format_of
from splitfl.core.errors import ConfigError
from testbed.errors import LateBurst, RadioFailed, RadioTimeout
from testbed.radio.backoff import scaled
from testbed.radio.radio import RadioCounters, Tuning
from testbed.radio.sample_loss import LossLimit, SampleNumbers
from testbed.radio.soapy.device import SoapyDirection, named, opened
from testbed.radio.soapy.module import import_soapy
from testbed.radio.soapy.settings import SoapySettings, arguments

_POLL_US = 100_000
_MOST_REPORTS = 64


class SoapyRadio:
    """Implements Radio. It may send only if `announce` is given, which gets a sentence about that first.

    `soapy` is the module SoapySDR, by default the installed one. Raises ConfigError without it, for a device
    that cannot be opened, and for settings that it does not have or keep; SamplesLost from `receive` once
    more than 1 % of the last 10 s are lost.
    """

    def __init__(
        self,
        settings: SoapySettings,
        announce: Callable[[str], None] | None = None,
        *,
        soapy: Any = None,
        clock: Clock | None = None,
    ) -> None:
        if announce is not None:
            settings.require_transmission()
        self._settings, self._clock = settings, clock or WallClock()
        self._soapy = import_soapy(settings.soapy_path) if soapy is None else soapy
        self.counters = RadioCounters()
        self._device = opened(self._soapy, settings.device)
        self._sender: SoapyDirection | None = None
        with named(settings.device):
            self._receiver = self._direction(is_sender=False)
            if announce is not None:
                self._sender = self._direction(is_sender=True)
                announce(notice(self._sender.tuning))
            self._receiver.activate()
        self._numbers = SampleNumbers(self.tuning.rate_hz, self._clock)
        self._limit = LossLimit(settings.device, self.tuning.rate_hz)
        self._held: tuple[Samples, int] | None = None
        self._read = self._now = self._sent_until = 0

    @property
    def tuning(self) -> Tuning:
        """See Radio: of the receiver."""
        return self._receiver.tuning

    def receive(self, count: int) -> tuple[Samples, int]:
        """See Radio."""
        until_s = self._clock.now_s() + self._settings.timeout_s
        pieces: list[Samples] = []
        first = filled = 0
        while filled < count:
            samples_B, at = self._next(count - filled, until_s)
            if pieces and at != self._now:
                self._held = (samples_B, at)
                break
            first = first if pieces else at
            if at > self._now:
                self._lose(at)
            pieces.append(samples_B)
            filled += samples_B.size
            self._now = at + samples_B.size
        return np.concatenate([np.empty(0, dtype=np.complex64), *pieces]), first

    def send(self, burst_B: Samples, at: int | None = None) -> int:
        """See Radio. Bursts at a time need a device with a clock; raises ConfigError without one."""
        if self._sender is None:
            raise ConfigError("this radio may only receive: --transmit lets it send")
        if at is not None and at < max(self._now, self._sent_until):
            self.counters.late_bursts += 1
            raise LateBurst(f"a burst for sample {at} came at sample {max(self._now, self._sent_until)}")
        begin = max(self._now, self._sent_until) if at is None else at
        time_ns = None if at is None else self._time_ns(at)
        samples_B = scaled(burst_B, self._settings.backoff_db, format_of("sc16"))
        with named(self._settings.device):
            self._sender.activate()
            self._write(self._sender, np.ascontiguousarray(samples_B, dtype=np.complex64), time_ns)
            self._take_reports(self._sender)
        self._sent_until = begin + burst_B.size
        return begin

    def close(self) -> None:
        """See Radio."""
        with suppress(RuntimeError):
            for direction in filter(None, (self._sender, self._receiver)):
                direction.close()

    def _direction(self, *, is_sender: bool) -> SoapyDirection:
        own = self._settings
        asked = Tuning(
            rate_hz=own.rate_hz,
            frequency_hz=own.transmit_frequency_hz if is_sender else own.frequency_hz,
            gain_db=own.transmit_gain_db if is_sender else own.gain_db,
            antenna=own.transmit_antenna if is_sender else own.antenna,
        )
        stream = arguments(own.stream_arguments)
        return SoapyDirection(
            self._soapy, self._device, is_sender=is_sender, channel=own.channel, asked=asked, stream=stream
        )

    def _next(self, most: int, until_s: float) -> tuple[Samples, int]:
        """At most `most` samples from the device, and the number of the first."""
        if self._held is not None:
            samples_B, at = self._held
            self._held = (samples_B[most:], at + most) if samples_B.size > most else None
            return samples_B[:most], at
        samples_B, soapy = np.empty(most, dtype=np.complex64), self._soapy
        is_after_loss = False
        while self._clock.now_s() <= until_s:
            with named(self._settings.device):
                read = self._device.readStream(self._receiver.stream, [samples_B], most, timeoutUs=_POLL_US)
            if read.ret == soapy.SOAPY_SDR_OVERFLOW:
                self.counters.overflows += 1
                is_after_loss = True
            elif read.ret > 0:
                time_ns = read.timeNs if read.flags & soapy.SOAPY_SDR_HAS_TIME else None
                at = self._numbers.first(self._read, read.ret, time_ns, is_after_loss=is_after_loss)
                self._read = at + read.ret
                return samples_B[: read.ret], at
            elif read.ret not in (0, soapy.SOAPY_SDR_TIMEOUT):
                self._fail(self._receiver, read.ret)
        raise RadioTimeout(f"{self._settings.device} gave no samples for {self._settings.timeout_s:g} s")

    def _lose(self, at: int) -> None:
        lost = at - self._now
        self.counters.lost_samples += lost
        self._now = at
        self._limit.lost(lost, at)

    def _time_ns(self, at: int) -> int:
        if not self._device.hasHardwareTime():
            raise ConfigError(f"{self._settings.device} has no clock: bursts at a time (slots) need one")
        if self._numbers.time_ns(0) is None:
            self._held = self._next(self._receiver.most, self._clock.now_s() + self._settings.timeout_s)
        time_ns = self._numbers.time_ns(at)
        if time_ns is None:
            raise ConfigError(f"{self._settings.device} gives no times with its samples")
        return time_ns

    def _write(self, sender: SoapyDirection, samples_B: Samples, time_ns: int | None) -> None:
        soapy, done = self._soapy, 0
        until_s = self._clock.now_s() + self._settings.timeout_s + samples_B.size / sender.tuning.rate_hz
        while done < samples_B.size:
            piece_B = samples_B[done : done + sender.most]
            flags = soapy.SOAPY_SDR_END_BURST if done + piece_B.size == samples_B.size else 0
            if time_ns is not None and not done:
                flags |= soapy.SOAPY_SDR_HAS_TIME
            code = self._device.writeStream(
                sender.stream, [piece_B], piece_B.size, flags, time_ns or 0, timeoutUs=_POLL_US
            ).ret
            if code > 0:
                done += code
            elif code == soapy.SOAPY_SDR_TIME_ERROR:
                self.counters.late_bursts += 1
                raise LateBurst(f"{self._settings.device} got a burst after its time")
            elif code == soapy.SOAPY_SDR_UNDERFLOW:
                self.counters.underflows += 1
            elif code not in (0, soapy.SOAPY_SDR_TIMEOUT):
                self._fail(sender, code)
            if self._clock.now_s() > until_s:
                raise RadioTimeout(f"{self._settings.device} took {done} of {samples_B.size} samples in time")

    def _take_reports(self, sender: SoapyDirection) -> None:
        """Counts what the driver has to say about bursts before."""
        soapy = self._soapy
        for _ in range(_MOST_REPORTS):
            code = self._device.readStreamStatus(sender.stream, timeoutUs=0).ret
            self.counters.underflows += code == soapy.SOAPY_SDR_UNDERFLOW
            self.counters.late_bursts += code == soapy.SOAPY_SDR_TIME_ERROR
            if code in (soapy.SOAPY_SDR_TIMEOUT, soapy.SOAPY_SDR_NOT_SUPPORTED):
                return

    def _fail(self, direction: SoapyDirection, code: int) -> None:
        what = f"{self._settings.device}: {direction.reason(code)}"
        if code == self._soapy.SOAPY_SDR_NOT_SUPPORTED:
            raise ConfigError(what)
        raise RadioFailed(what)


def notice(sent: Tuning) -> str:
    """What is about to go on the air."""
    frequency_mhz, rate_mhz = (sent.frequency_hz or 0.0) / 1e6, sent.rate_hz / 1e6
    return (
        f"sends at {frequency_mhz:.6g} MHz, {rate_mhz:.4g} MHz wide, with a gain of {sent.gain_db:g} dB "
        f"at antenna {sent.antenna}: whether you have a licence for that is your affair"
    )
