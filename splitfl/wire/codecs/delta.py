"""Differences from the last rows of the same sample (AQ-SGD: Wang et al., arXiv:2206.01299)."""

from typing import Final

from splitfl.core.errors import ConfigError
from splitfl.wire.codecs.codec import KeyedCodec


def delta(every: int = 0) -> KeyedCodec:
    """Sends a sample's rows whole every `every`-th time (0: only the first time).

    Raises ConfigError for a negative number, and for 1, which would leave no differences.
    """
    if type(every) is not int or every < 0 or every == 1:
        raise ConfigError(f"delta: every must be 0 or at least 2, got {every}")
    return KeyedCodec(
        about="differences from the last rows of the same sample", with_options=delta, every=every
    )


DELTA: Final = delta()
