"""The kinds of radios by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from testbed.radio.radio import Radio
from testbed.radio.recordings.file_radio import FileRadio, FileSettings
from testbed.radio.soapy.settings import SoapySettings
from testbed.radio.soapy.soapy_radio import SoapyRadio
from testbed.radio.zmq_radio import ZmqRadio, ZmqSettings

Announce = Callable[[str], None]
"""Takes the sentence that comes before a transmission over the air."""


@dataclass(frozen=True, kw_only=True)
class RadioKind:
    """A kind of radio: its frozen settings, and what opens it with them.

    One that `is_on_air` may send only if it is opened with a function that announces that.
    """

    about: str
    settings: type[Any]
    open: Callable[[Any, Announce | None], Radio]
    is_on_air: bool = False


RADIOS: Final = {
    "zmq": RadioKind(
        about="samples over ZMQ as in srsRAN: `splitfl channel air`, GNU Radio",
        settings=ZmqSettings,
        open=lambda settings, _: ZmqRadio(settings),
    ),
    "soapy": RadioKind(
        about="radio hardware with a driver of SoapySDR",
        settings=SoapySettings,
        open=SoapyRadio,
        is_on_air=True,
    ),
    "file": RadioKind(
        about="recordings in SigMF: one that is heard, one of what is sent",
        settings=FileSettings,
        open=lambda settings, _: FileRadio(settings),
    ),
}
