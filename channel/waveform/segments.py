"""The reliable part of a message in segments that fit a packet, and back."""

import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Protocol

from channel.core.errors import BadParameter

VERSION = 1
"""Of the segments' header, in their first byte."""

_HEADER = struct.Struct(">BBHIHII")
"""Version, the fields of a `Place`, position of the segment and length of the whole part in bytes."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The message of a segment: its number in its sender's session, and its rows."""

    session: int
    message: int
    units: int
    unit_bytes: int


class SegmentCounters(Protocol):
    """What is counted of segments that do not fit."""

    messages_lost: int
    other_version: int
    malformed: int


def pack_segments(place: Place, reliable: bytes, segment_bytes: int) -> Iterator[bytes]:
    """Segments of at most `segment_bytes` with these bytes; one at least.

    Raises BadParameter if a segment has no room for bytes beside its header.
    """
    room = segment_bytes - _HEADER.size
    if room < 1:
        raise BadParameter(f"segment_bytes must be more than {_HEADER.size}, got {segment_bytes}")
    for begin in range(0, max(len(reliable), 1), room):
        header = _HEADER.pack(VERSION, *astuple(place), begin, len(reliable))
        yield header + reliable[begin : begin + room]


class Segments:
    """Joins segments, which arrive in order and of which some may be missing.

    A message with a missing segment is lost. Segments of another version, or with lengths that do not fit,
    are dropped and counted.
    """

    def __init__(self, counters: SegmentCounters, most_bytes: int) -> None:
        """Messages of more than `most_bytes`, rows included, are dropped as malformed."""
        self._counters, self._most_bytes = counters, most_bytes
        self._length = 0
        self.clear()

    def clear(self) -> None:
        """Drops what has arrived of a message."""
        self._place: Place | None = None
        self._parts = bytearray()

    def put(self, segment: bytes) -> tuple[Place, bytes] | None:
        """Takes in a segment; returns the message whose last one it is, and its reliable part."""
        if not segment or segment[0] != VERSION:
            self._counters.other_version += 1
            return None
        if len(segment) < _HEADER.size:
            self._counters.malformed += 1
            return None
        _, session, message, units, unit_bytes, begin, length = _HEADER.unpack_from(segment)
        place = Place(session=session, message=message, units=units, unit_bytes=unit_bytes)
        part = segment[_HEADER.size :]
        if begin + len(part) > length or length + units * unit_bytes > self._most_bytes:
            self._counters.malformed += 1
            return None
        return self._joined(place, begin, length, part)

    def _joined(self, place: Place, begin: int, length: int, part: bytes) -> tuple[Place, bytes] | None:
        is_next = (place, begin, length) == (self._place, len(self._parts), self._length)
        if not is_next:
            self._counters.messages_lost += self._place is not None
            self._place, self._parts = None, bytearray()
            if begin:
                return None  # the rest of a message whose first segment is missing
            self._place, self._length = place, length
        self._parts += part
        if len(self._parts) < length:
            return None
        whole, self._place, self._parts = bytes(self._parts), None, bytearray()
        return place, whole
