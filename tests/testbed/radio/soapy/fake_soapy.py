"""A SoapySDR module whose device does what a test wants, code by code."""

from collections import deque
from types import SimpleNamespace

import numpy as np

RATE_HZ = 1e6
ORIGIN_NS = 5_000_000_000


def fake(**changes):
    """The module; `module.device` is what `Device()` gives, once it was opened."""
    module = SimpleNamespace(
        SOAPY_SDR_TX=0,
        SOAPY_SDR_RX=1,
        SOAPY_SDR_END_BURST=2,
        SOAPY_SDR_HAS_TIME=4,
        SOAPY_SDR_TIMEOUT=-1,
        SOAPY_SDR_STREAM_ERROR=-2,
        SOAPY_SDR_CORRUPTION=-3,
        SOAPY_SDR_OVERFLOW=-4,
        SOAPY_SDR_NOT_SUPPORTED=-5,
        SOAPY_SDR_TIME_ERROR=-6,
        SOAPY_SDR_UNDERFLOW=-7,
        SOAPY_SDR_CF32="CF32",
    )
    module.device = FakeDevice(**changes)
    module.Device = module.device.opened
    return module


class FakeDevice:
    """Gives `received` in the pieces and with the codes of `reads`, then without end; takes `writes` so.

    A read or write is a number of samples or a code; ("skip", n) loses n samples at the next read. An idle
    device times out for ever.
    """

    def __init__(self, *, has_time=True, reads=(), writes=(), reports=(), **changes):
        self.has_time, self.now = has_time, 0
        self.reads, self.writes, self.reports = deque(reads), deque(writes), deque(reports)
        self.written, self.calls, self.open_streams = [], [], 0
        self.values = {"rate_hz": None, "offset_hz": 0.0, "formats": ("CS16", "CF32"), "ports": 1, **changes}
        self.frequency_hz, self.gain_db, self.antenna = {}, {}, {0: "TX", 1: "RX"}

    def opened(self, text):
        if self.values.get("error"):
            raise RuntimeError(self.values["error"])
        self.calls.append(text)
        return self

    def getNumChannels(self, side):
        return self.values["ports"]

    def setSampleRate(self, side, channel, rate_hz):
        self.asked_hz = rate_hz

    def getSampleRate(self, side, channel):
        return self.values["rate_hz"] or self.asked_hz

    def setFrequency(self, side, channel, frequency_hz):
        self.frequency_hz[side] = frequency_hz + self.values["offset_hz"]

    def getFrequency(self, side, channel):
        return self.frequency_hz.get(side, 0.0)

    def getGainRange(self, side, channel):
        return SimpleNamespace(minimum=lambda: 0.0, maximum=lambda: 76.0)

    def hasGainMode(self, side, channel):
        return True

    def setGainMode(self, side, channel, is_automatic):
        assert not is_automatic

    def setGain(self, side, channel, gain_db):
        self.gain_db[side] = gain_db

    def getGain(self, side, channel):
        return self.gain_db[side]

    def listAntennas(self, side, channel):
        return ("TX",) if side == 0 else ("RX", "RX2")

    def setAntenna(self, side, channel, name):
        self.antenna[side] = name

    def getAntenna(self, side, channel):
        return self.antenna[side]

    def getStreamFormats(self, side, channel):
        return self.values["formats"]

    def setupStream(self, side, form, channels, arguments):
        self.calls.append((side, form, channels, arguments))
        self.open_streams += 1
        return side

    def getStreamMTU(self, stream):
        return 1000

    def activateStream(self, stream):
        return self.values.get("activation", 0)

    def deactivateStream(self, stream):
        return 0

    def closeStream(self, stream):
        self.open_streams -= 1

    def hasHardwareTime(self):
        return self.has_time

    def readStream(self, stream, buffers, count, flags=0, timeoutUs=0):
        what = -1 if self.values.get("is_idle") else self.reads.popleft() if self.reads else count
        if isinstance(what, tuple):
            self.now += what[1]
            what = self.reads.popleft() if self.reads else count
        if what <= 0:
            return SimpleNamespace(ret=what, flags=0, timeNs=0)
        size = min(what, count)
        buffers[0][:size] = np.arange(self.now, self.now + size)
        time_ns = ORIGIN_NS + round(self.now * 1e9 / RATE_HZ)
        self.now += size
        return SimpleNamespace(ret=size, flags=4 if self.has_time else 0, timeNs=time_ns)

    def writeStream(self, stream, buffers, count, flags=0, timeNs=0, timeoutUs=0):
        what = -1 if self.values.get("is_idle") else self.writes.popleft() if self.writes else count
        if what > 0:
            what = min(what, count)
            self.written.append((buffers[0][:what].copy(), flags, timeNs))
        return SimpleNamespace(ret=what)

    def readStreamStatus(self, stream, timeoutUs=0):
        return SimpleNamespace(ret=self.reports.popleft() if self.reports else -1)
