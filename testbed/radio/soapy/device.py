"""One direction of a SoapySDR device: tuned, read back, with its stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from splitfl.config.checks import one_of
from splitfl.core.errors import ConfigError
from testbed.radio.radio import Tuning, require_kept


@contextmanager
def named(device: str) -> Iterator[None]:
    """Turns a driver's exception into a ConfigError that names the device."""
    try:
        yield
    except RuntimeError as error:
        raise ConfigError(f"device {device!r}: {next(iter(str(error).splitlines()), 'failed')}") from None


def opened(soapy: Any, device: str) -> Any:
    """The device with these arguments. Raises ConfigError if there is none."""
    with named(device):
        return soapy.Device(device)


class SoapyDirection:
    """The receiver or transmitter of a port, whose settings are `tuning`, as read back.

    Raises ConfigError for a setting that the device does not have or does not keep.
    """

    def __init__(
        self, soapy: Any, device: Any, *, is_sender: bool, channel: int, asked: Tuning, stream: dict[str, str]
    ) -> None:
        self.soapy, self._device, self._channel = soapy, device, channel
        self.side = soapy.SOAPY_SDR_TX if is_sender else soapy.SOAPY_SDR_RX
        self._verb, self._is_active = ("send" if is_sender else "receive"), False
        ports = device.getNumChannels(self.side)
        if channel >= ports:
            raise ConfigError(f"channel {channel}: the device has {ports} to {self._verb} with")
        self.tuning = self._tuned(asked)
        formats = device.getStreamFormats(self.side, channel)
        if soapy.SOAPY_SDR_CF32 not in formats:
            raise ConfigError(f"the device has no samples of format CF32, only {', '.join(formats)}")
        self.stream = device.setupStream(self.side, soapy.SOAPY_SDR_CF32, [channel], stream)
        self.most = max(int(device.getStreamMTU(self.stream)), 1)

    def activate(self) -> None:
        """Starts the stream, unless it runs."""
        if self._is_active:
            return
        code = self._device.activateStream(self.stream)
        if code:
            raise ConfigError(f"the device cannot {self._verb} samples: {self.reason(code)}")
        self._is_active = True

    def close(self) -> None:
        """Ends the stream."""
        if self._is_active:
            self._device.deactivateStream(self.stream)
        self._device.closeStream(self.stream)

    def reason(self, code: int) -> str:
        """A return code in words."""
        words = {
            self.soapy.SOAPY_SDR_TIMEOUT: "it waited too long",
            self.soapy.SOAPY_SDR_STREAM_ERROR: "its stream failed",
            self.soapy.SOAPY_SDR_CORRUPTION: "data were corrupted on their way",
            self.soapy.SOAPY_SDR_NOT_SUPPORTED: "its driver does not support that",
        }
        return f"{words.get(code, 'its driver reports an error')} (code {code})"

    def _tuned(self, asked: Tuning) -> Tuning:
        device, side, channel = self._device, self.side, self._channel
        device.setSampleRate(side, channel, asked.rate_hz)
        if asked.antenna:
            one_of("antenna", asked.antenna, device.listAntennas(side, channel))
            device.setAntenna(side, channel, asked.antenna)
        if asked.frequency_hz:
            device.setFrequency(side, channel, asked.frequency_hz)
        self._set_gain(asked)
        kept = Tuning(
            rate_hz=float(device.getSampleRate(side, channel)),
            frequency_hz=float(device.getFrequency(side, channel)),
            gain_db=float(device.getGain(side, channel)),
            antenna=str(device.getAntenna(side, channel)),
        )
        require_kept(asked, kept)
        return kept

    def _set_gain(self, asked: Tuning) -> None:
        device, side, channel = self._device, self.side, self._channel
        bounds, gain_db = device.getGainRange(side, channel), asked.gain_db
        low_db, high_db = bounds.minimum(), bounds.maximum()
        if gain_db is None or not low_db <= gain_db <= high_db:
            allowed = f"[{low_db:g}, {high_db:g}] dB"
            raise ConfigError(f"the gain to {self._verb} with must lie in {allowed}, got {gain_db}")
        if device.hasGainMode(side, channel):
            device.setGainMode(side, channel, False)
        device.setGain(side, channel, gain_db)
