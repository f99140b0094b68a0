"""What a receiver hands out: packets, and counts of what it did not understand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.waveform.header import Header


@dataclass(frozen=True, kw_only=True, eq=False)
class Received:
    """A packet whose header arrived.

    `payload` is None if it has errors, and if the packet is made of units. `units_UN` are its units, of which
    `is_whole_U` names those without errors; the others are zeros. Both are None in a packet without units.

    `position` is that of its first sample in the stream, `samples` its length. `snr_db` is E_s/N0, the mean
    over the used subcarriers. `offset` is the carrier offset in cycles per sample, `clock_difference` that of
    the sample clocks as a ratio (0 without a payload), `response_K` the channel at the used subcarriers, and
    `points` the first points of the payload (of the header, if there is none) after the equaliser, for plots.
    """

    header: Header
    mcs: int
    payload: bytes | None
    units_UN: NDArray[np.uint8] | None
    is_whole_U: NDArray[np.bool_] | None
    position: int
    samples: int
    snr_db: float
    offset: float
    clock_difference: float
    response_K: NDArray[np.complex64]
    points: NDArray[np.complex64]


@dataclass(kw_only=True)
class Counters:
    """What a receiver has met: `detections` of a preamble, and of those

    `false_alarms` without long symbols, `bad_headers` whose checksum does not hold, `unsupported` headers of
    another version or with a format that is not offered, and `packets`, of which `bad_payloads` had errors;
    `lost_units` counts over all packets.
    """

    detections: int = 0
    false_alarms: int = 0
    bad_headers: int = 0
    unsupported: int = 0
    packets: int = 0
    bad_payloads: int = 0
    lost_units: int = 0
