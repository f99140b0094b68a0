"""What carries frames between server and clients that run in one process.

Axes: N rows of a message.
"""

from collections.abc import Callable
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.link import Delivery, Transfer
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.transport.base.transport import ClientEnd, Handler


class Carrier(Protocol):
    """Carries one frame at a time."""

    def carry(
        self, transfer: Transfer, frame: bytes, sent_N: NDArray[np.bool_] | None = None
    ) -> tuple[Delivery, bytes]:
        """The delivery, and the frame as its receiver has it: zeros in lost rows, empty if it was lost.

        Of its rows only those of `sent_N` are sent; the others are zeros on both sides.
        """

    def close(self) -> None: ...


class ServerRadio(Carrier, Protocol):
    """The server's carrier where clients have processes of their own.

    A transport controls the exchange, and the frames themselves cross the radio.
    """

    def handler(self, handle: Handler) -> Handler:
        """A handler of the transport's requests that hands to `handle` the frames that the radio received."""
        ...


class ClientRadio(Protocol):
    """A client's end of a `ServerRadio`."""

    def over(self, connection: ClientEnd) -> ClientEnd:
        """The connection, with its frames sent by radio."""
        ...

    def close(self) -> None: ...


OpenCarrier = Callable[[RunConfig], Carrier]
"""Opens the carrier of a run's settings; raises ConfigError for settings that it does not support."""

OpenServerRadio = Callable[[RunConfig], ServerRadio]
OpenClientRadio = Callable[[RunConfig, int], ClientRadio]
"""Opens the radio of a client, as `OpenCarrier`."""


def no_radio(config: RunConfig, *_: int) -> NoReturn:
    """Opens nothing, where no radios are at hand."""
    raise ConfigError(f"transport.name {config.transport.name!r} needs radios: use the command `splitfl`")
