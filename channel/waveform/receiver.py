"""Packets from a stream of samples that comes in any pieces."""

from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter
from channel.waveform.detection import Detector, Peak
from channel.waveform.header import Header, PayloadFormat, unpack
from channel.waveform.layout import Layout, header_symbols, layout_of
from channel.waveform.numerology import SMALLEST, Numerology, Samples
from channel.waveform.preamble import Preamble
from channel.waveform.received import Counters, Received
from channel.waveform.reception import OpenPacket, Reception, checked
from channel.waveform.sample_buffer import SampleBuffer
from channel.waveform.synchronisation import Synchroniser, Timing

_SHOWN = 512
"""Points of a packet that are kept for plots."""


class Receiver:
    """Detects, synchronises to and decodes the packets of `Modulator`.

    The same samples give the same packets, however they are cut into pieces.
    """

    def __init__(self, numerology: Numerology = SMALLEST) -> None:
        self.numerology = numerology
        self.counters = Counters()
        self._preamble = preamble = Preamble(numerology)
        self._detector = Detector(preamble)
        self._synchroniser = Synchroniser(preamble)
        self._reception = Reception(self._synchroniser)
        self._buffer = SampleBuffer()
        self._header_symbols = header_symbols(numerology)
        self._packets = self._forever()
        next(self._packets)

    def push(self, samples: NDArray[np.complex64]) -> list[Received]:
        """The packets that are complete with these samples (any number, (n,)), in order.

        Raises BadParameter for samples that are not complex, not a vector, or not finite.
        """
        if samples.ndim != 1 or not np.iscomplexobj(samples):
            raise BadParameter(f"samples must be complex (n,), got {samples.dtype} {samples.shape}")
        samples = np.ascontiguousarray(samples, dtype=np.complex64)
        if not np.isfinite(samples.view(np.float32)).all():
            raise BadParameter("samples must be finite, got nan or infinity")
        self._buffer.append(samples)
        found = []
        while (packet := next(self._packets)) is not None:
            found.append(packet)
        return found

    def _forever(self) -> Iterator[Received | None]:
        """Yields packets, and None where the next step needs more samples than there are."""
        while True:
            peak = yield from self._until_peak()
            self.counters.detections += 1
            begin, end = self._synchroniser.span(peak)
            yield from self._until(end)
            timing = self._synchroniser.timing(self._buffer.between(begin, end), peak)
            if timing is None:
                self.counters.false_alarms += 1
                self._detector.restart(peak.position + 1)
                continue
            packet = yield from self._packet(timing)
            if packet is not None:
                yield packet

    def _until_peak(self) -> Generator[None, None, Peak]:
        while (peak := self._detector.search(self._buffer.samples, self._buffer.first)) is None:
            # A peak may lie two short symbols back, and what is cut for it a little before that.
            self._buffer.discard(self._detector.oldest - 3 * self.numerology.fft_size)
            yield None
        return peak

    def _until(self, end: int) -> Generator[None, None, None]:
        while self._buffer.end < end:
            yield None

    def _packet(self, timing: Timing) -> Generator[None, None, Received | None]:
        """Decodes a packet and restarts the detector behind it; None if its header is bad."""
        begin, end = self._place(timing, 0, self._header_symbols)
        yield from self._until(end)
        opened = self._reception.header(self._buffer.between(begin, end), timing)
        self._detector.restart(begin)
        if opened is None:
            self.counters.bad_headers += 1
            return None
        understood = self._understood(opened.block)
        if understood is None:
            self.counters.unsupported += 1
            return None
        form, header, layout = understood
        begin, end = self._place(timing, self._header_symbols, layout.symbols)
        self._detector.restart(end)
        self._buffer.discard(begin)
        yield from self._until(end)
        self.counters.packets += 1
        return self._received(opened, form, header, layout, self._buffer.between(begin, end))

    def _place(self, timing: Timing, symbol: int, count: int) -> tuple[int, int]:
        """The positions where `count` symbols begin and end, the first being `symbol`."""
        begin = self._reception.symbol_position(timing, symbol)
        return begin, begin + count * self.numerology.symbol

    def _understood(self, block: bytes) -> tuple[PayloadFormat, Header, Layout] | None:
        """The contents of a header block, and the layout of its payload; None if they are not supported."""
        contents = unpack(block)
        if contents is None:
            return None
        try:
            return *contents, layout_of(contents[0], self.numerology)
        except BadParameter:
            return None

    def _received(
        self, opened: OpenPacket, form: PayloadFormat, header: Header, layout: Layout, samples: Samples
    ) -> Received:
        units_UN, is_whole_U, points, clock_difference = self._reception.payload(samples, opened, layout)
        payload = None if form.units else checked(units_UN.tobytes())
        self.counters.bad_payloads += not form.units and payload is None
        self.counters.lost_units += int(np.sum(~is_whole_U)) if form.units else 0
        timing, symbols = opened.timing, self._header_symbols + layout.symbols
        return Received(
            header=header,
            mcs=form.mcs,
            payload=payload,
            units_UN=units_UN if form.units else None,
            is_whole_U=is_whole_U if form.units else None,
            position=timing.first,
            samples=self._preamble.length + symbols * self.numerology.symbol,
            snr_db=opened.estimate.snr_db,
            offset=(timing.offset + opened.slope / self.numerology.symbol) / (2.0 * np.pi),
            clock_difference=clock_difference,
            response_K=opened.estimate.response_K,
            points=points[:_SHOWN].copy(),
        )
