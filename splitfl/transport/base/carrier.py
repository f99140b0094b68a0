"""What carries frames between server and clients that run in one process.

Axes: N rows of a message.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.link import Delivery, Transfer
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError


class Carrier(Protocol):
    """Carries one frame at a time."""

    def carry(
        self, transfer: Transfer, frame: bytes, sent_N: NDArray[np.bool_] | None = None
    ) -> tuple[Delivery, bytes]:
        """The delivery, and the frame as its receiver has it: zeros in lost rows, empty if it was lost.

        Of its rows only those of `sent_N` are sent; the others are zeros on both sides.
        """

    def close(self) -> None: ...


OpenCarrier = Callable[[RunConfig], Carrier]
"""Opens the carrier of a run's settings; raises ConfigError for settings that it does not support."""


def no_carrier(config: RunConfig) -> Carrier:
    """An `OpenCarrier` where no radios are at hand."""
    raise ConfigError(
        f"transport.name {config.transport.name!r} needs radios: start the run by `splitfl run`"
    )
