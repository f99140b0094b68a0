"""Complex samples as bytes: 32-bit floats, or 16-bit integers of which 32767 is the magnitude 1.

Axes: B samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter
from channel.iq.delay_filters import Samples

FULL_SCALE: Final = 32767
LOUD: Final = 1000.0
"""Magnitudes beyond it are no samples in units of full scale."""


@dataclass(frozen=True, kw_only=True)
class SampleFormat:
    """A little-endian format by the names of srsRAN (`name`) and SigMF (`datatype`).

    `limit` is the largest real or imaginary part that it can hold.
    """

    name: str
    datatype: str
    about: str
    sample_bytes: int
    limit: float
    encode: Callable[[Samples], bytes]
    decode: Callable[[bytes], Samples]

    def clipped_share(self, samples_B: Samples) -> float:
        """The share of the samples that do not fit; `encode` limits their parts."""
        if not samples_B.size or np.isinf(self.limit):
            return 0.0
        parts_B = np.maximum(np.abs(samples_B.real), np.abs(samples_B.imag))
        return float(np.mean(parts_B > self.limit))


def _floats(samples_B: Samples) -> bytes:
    return samples_B.astype(np.dtype("<c8"), copy=False).tobytes()


def _from_floats(payload: bytes) -> Samples:
    return np.frombuffer(payload, dtype="<c8").astype(np.complex64, copy=False)


def _integers(samples_B: Samples) -> bytes:
    parts = np.ascontiguousarray(samples_B, dtype=np.complex64).view(np.float32) * np.float32(FULL_SCALE)
    clipped: NDArray[np.int16] = np.clip(np.rint(parts), -FULL_SCALE, FULL_SCALE).astype("<i2")
    return clipped.tobytes()


def _from_integers(payload: bytes) -> Samples:
    parts = np.frombuffer(payload, dtype="<i2").astype(np.float32)
    parts /= np.float32(FULL_SCALE)
    return parts.view(np.complex64)


FORMATS: Final = {
    one.name: one
    for one in (
        SampleFormat(
            name="fc32",
            datatype="cf32_le",
            about="complex64 samples",
            sample_bytes=8,
            limit=float("inf"),
            encode=_floats,
            decode=_from_floats,
        ),
        SampleFormat(
            name="sc16",
            datatype="ci16_le",
            about="pairs of 16-bit integers",
            sample_bytes=4,
            limit=1.0,
            encode=_integers,
            decode=_from_integers,
        ),
    )
}


def format_of(name: str, key: str = "sample_format") -> SampleFormat:
    """The format of this name. Raises BadParameter for another one, naming the setting `key`."""
    if name not in FORMATS:
        raise BadParameter(f"{key} must be one of {', '.join(FORMATS)}, got {name!r}")
    return FORMATS[name]


def samples_of(payload: bytes, form: SampleFormat) -> tuple[Samples, str]:
    """The samples of a message, and what is wrong with them, if anything.

    Values that are not finite are replaced by 0; a message that is no whole number of samples is empty.
    """
    if len(payload) % form.sample_bytes:
        what = f"a message of {len(payload)} bytes, not of {form.about}"
        return np.empty(0, dtype=np.complex64), what
    samples_B = form.decode(payload)
    parts = samples_B.view(np.float32)
    peak = float(np.abs(parts).max(initial=0.0))
    if np.isfinite(peak):
        return samples_B, (f"samples of magnitude {peak:.3g}: is this sc16? have fc32" if peak > LOUD else "")
    clean = np.where(np.isfinite(parts), parts, np.float32(0.0)).astype(np.float32)
    return clean.view(np.complex64), "samples that are not finite: zeros in their place"
