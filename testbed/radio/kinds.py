"""The kinds of radios by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from testbed.radio.radio import Radio
from testbed.radio.zmq_radio import ZmqRadio, ZmqSettings


@dataclass(frozen=True, kw_only=True)
class RadioKind:
    """A kind of radio: its frozen settings, and what opens it with them."""

    about: str
    settings: type[Any]
    open: Callable[[Any], Radio]


RADIOS: Final = {
    "zmq": RadioKind(
        about="samples over ZMQ as in srsRAN: `splitfl channel air`, GNU Radio",
        settings=ZmqSettings,
        open=ZmqRadio,
    )
}
