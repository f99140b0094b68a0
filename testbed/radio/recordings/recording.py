"""Recordings of samples in SigMF, with packets and bursts as annotations.

A recording has the files NAME.sigmf-data and NAME.sigmf-meta (https://sigmf.org). Annotations have keys of
the namespace `splitfl`, which the metadata declare as an optional extension.

Axes: B samples.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from channel.iq.delay_filters import Samples
from channel.iq.sample_format import FORMATS, SampleFormat
from channel.waveform.received import Received
from splitfl.core.errors import ConfigError
from testbed.radio.radio import Tuning

META, DATA = ".sigmf-meta", ".sigmf-data"
_NAMESPACE: Final = {"name": "splitfl", "version": "1.0.0", "optional": True}
_GAP = "core:global_index"


class Recorder:
    """Writes a recording: samples as they come, metadata when it is closed.

    Raises ConfigError without the library sigmf, and for a file that cannot be written.
    """

    def __init__(self, path: Path, tuning: Tuning, form: SampleFormat) -> None:
        self._sigmf, self._name, self._form = import_sigmf(), _name(path), form
        self._about = {
            "core:datatype": form.datatype,
            "core:sample_rate": tuning.rate_hz,
            "core:recorder": "splitfl",
            "core:extensions": [_NAMESPACE],
        }
        self._frequency_hz = tuning.frequency_hz
        self._captures: list[tuple[int, int]] = []
        self._annotations: list[tuple[int, int, Mapping[str, Any]]] = []
        self._count = self._next = 0
        try:
            self._file = self._path(DATA).open("wb")
        except OSError as error:
            raise ConfigError(f"cannot write the recording {self._path(DATA)}: {error.strerror}") from None

    def append(self, samples_B: Samples, at: int) -> None:
        """Appends samples, the first of which has the radio's number `at`."""
        if not samples_B.size:
            return
        if not self._captures or at != self._next:
            self._captures.append((self._count, at))
        self._file.write(self._form.encode(samples_B))
        self._count, self._next = self._count + samples_B.size, at + samples_B.size

    def annotate(self, at: int, count: int, fields: Mapping[str, Any]) -> None:
        """Notes what the samples [at, at + count) are; parts that were not recorded are left out."""
        self._annotations.append((at, count, fields))

    def close(self) -> None:
        """Writes the metadata, once the library has validated them."""
        self._file.close()
        if not self._count:
            self._path(DATA).unlink()
            return
        made = self._sigmf.SigMFFile(data_file=self._path(DATA), global_info=self._about)
        for start, at in self._captures:
            carrier = {} if self._frequency_hz is None else {"core:frequency": self._frequency_hz}
            made.add_capture(start, metadata={**carrier, _GAP: at})
        for at, count, fields in sorted(self._annotations, key=lambda one: one[0]):
            begin, end = self._place(at), self._place(at + count)
            if end > begin:
                made.add_annotation(begin, end - begin, metadata=dict(fields))
        made.validate()
        made.tofile(self._path(META), overwrite=True)

    def _place(self, at: int) -> int:
        """The place in the file of the radio's sample `at`, or of the next one that was recorded."""
        place = 0
        for start, begin in self._captures:
            if at >= begin:
                place = start + at - begin
            stop = next((later for later, _ in self._captures if later > start), self._count)
            place = min(place, stop)
        return place

    def _path(self, suffix: str) -> Path:
        return self._name.with_name(self._name.name + suffix)


class IqRecording:
    """Reads a recording. Raises ConfigError for one that is damaged, or that has another kind of samples."""

    def __init__(self, path: Path) -> None:
        sigmf, name = import_sigmf(), _name(path)
        meta = name.with_name(name.name + META)
        try:
            meta.read_bytes()
            found = sigmf.fromfile(meta, autoscale=False)
            found.validate()
        except OSError as error:
            raise ConfigError(f"cannot read the recording {path}: {error.strerror or error}") from None
        except Exception as error:  # the library's and jsonschema's errors have no common base
            what = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(f"{path} is no recording in SigMF: {what}") from None
        about = found.get_global_info()
        self._form = _form(str(about["core:datatype"]), path)
        if found.num_channels != 1:
            raise ConfigError(f"{path} has {found.num_channels} channels; only one can be played")
        if "core:sample_rate" not in about:
            raise ConfigError(f"{path} has no core:sample_rate")
        captures = found.get_captures() or [{"core:sample_start": 0}]
        carrier = captures[0].get("core:frequency")
        self.tuning = Tuning(rate_hz=float(about["core:sample_rate"]), frequency_hz=carrier)
        self.count = int(found.sample_count)
        self._bytes = np.memmap(found.data_file, dtype=np.uint8, mode="r", offset=found.data_offset)
        self._runs = _runs(captures, self.count)
        self.annotations: list[dict[str, Any]] = [dict(one) for one in found.get_annotations()]

    def read(self, start: int, count: int) -> tuple[Samples, int]:
        """At most `count` samples from place `start` on, up to a gap, and the radio's number of the first."""
        for begin, end, at in self._runs:
            if begin <= start < end:
                end = min(end, start + count)
                part = self._bytes[start * self._form.sample_bytes : end * self._form.sample_bytes]
                return self._form.decode(part.tobytes()), at + start - begin
        return np.empty(0, dtype=np.complex64), start


def import_sigmf() -> Any:
    """The module sigmf. Raises ConfigError where it is not installed."""
    try:
        import sigmf
    except ImportError:
        raise ConfigError("recordings need the library sigmf: pip install 'splitfl[radio]'") from None
    return sigmf


def is_recording(path: Path) -> bool:
    """Whether this is the name of a recording's file."""
    return path.suffix in (META, DATA)


def packet_fields(packet: Received, rate_hz: float) -> dict[str, Any]:
    """The annotation of a packet: header, format, whether it is whole, and how it was received."""
    header = packet.header
    fields = {
        "core:label": f"node {header.source} to {header.target}",
        "splitfl:kind": header.kind,
        "splitfl:source": header.source,
        "splitfl:target": header.target,
        "splitfl:sequence": header.sequence,
        "splitfl:mcs": packet.mcs,
        "splitfl:snr_db": round(packet.snr_db, 2),
        "splitfl:offset_hz": round(packet.offset * rate_hz, 2),
    }
    if packet.is_whole_U is not None:
        return {
            **fields,
            "splitfl:units": int(packet.is_whole_U.size),
            "splitfl:whole_units": int(packet.is_whole_U.sum()),
        }
    whole = packet.payload is not None
    checksum = {"splitfl:crc32": f"{zlib.crc32(packet.payload):08x}"} if packet.payload is not None else {}
    return {**fields, "splitfl:is_whole": whole, **checksum}


def _name(path: Path) -> Path:
    return path.with_suffix("") if is_recording(path) else path


def _form(datatype: str, path: Path) -> SampleFormat:
    for form in FORMATS.values():
        if form.datatype == datatype:
            return form
    known = ", ".join(form.datatype for form in FORMATS.values())
    raise ConfigError(f"{path} has samples of core:datatype {datatype}; have {known}")


def _runs(captures: list[dict[str, Any]], count: int) -> list[tuple[int, int, int]]:
    """Begin, end and the radio's number of the first sample of each capture."""
    starts = [int(one["core:sample_start"]) for one in captures]
    ends = [*starts[1:], count]
    numbers = [int(one.get(_GAP, start)) for one, start in zip(captures, starts, strict=True)]
    first = numbers[0] if numbers else 0
    return [(start, end, at - first) for start, end, at in zip(starts, ends, numbers, strict=True)]
