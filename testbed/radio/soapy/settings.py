"""The settings of a radio behind SoapySDR."""

import math
from dataclasses import dataclass

from channel.core.arrays import above, at_least
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SoapySettings:
    """`device` are the arguments of its driver, such as "driver=uhd,type=b200".

    It receives with `rate_hz`, `frequency_hz` (0 for a device without a tuner) and `gain_db`, at `antenna`
    unless empty. To send it also needs `transmit_frequency_hz` and `transmit_gain_db`, and sends at
    `transmit_antenna`, `backoff_db` below a mean power of full scale. `channel` numbers the ports of a device
    with several, `stream_arguments` are the driver's, and `soapy_path` is the folder of SoapySDR.py if Python
    does not find it. Every wait ends after `timeout_s`. Raises ConfigError or BadParameter for values out of
    range.
    """

    device: str
    rate_hz: float
    frequency_hz: float
    gain_db: float
    antenna: str = ""
    transmit_frequency_hz: float = 0.0
    transmit_gain_db: float = math.nan
    transmit_antenna: str = ""
    backoff_db: float = 12.0
    channel: int = 0
    stream_arguments: str = ""
    soapy_path: str = ""
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        above("rate_hz", self.rate_hz, 0.0)
        at_least("frequency_hz", self.frequency_hz, 0.0)
        at_least("transmit_frequency_hz", self.transmit_frequency_hz, 0.0)
        at_least("backoff_db", self.backoff_db, 0.0)
        at_least("channel", self.channel, 0)
        above("timeout_s", self.timeout_s, 0.0)
        if "driver=" not in self.device:
            raise ConfigError(f'device must name a driver, as in "driver=uhd", got {self.device!r}')
        arguments(self.stream_arguments)

    def require_transmission(self) -> None:
        """Raises ConfigError unless frequency and gain of the transmitter are given."""
        if not self.transmit_frequency_hz:
            raise ConfigError("transmit_frequency_hz is missing: it has no default")
        if math.isnan(self.transmit_gain_db):
            raise ConfigError("transmit_gain_db is missing: it has no default")


def arguments(text: str) -> dict[str, str]:
    """The arguments in "key=value,key=value". Raises ConfigError for other text."""
    found = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not (key and equals):
            raise ConfigError(f"stream_arguments must be like chan=stereo_iq, got {text!r}")
        found[key] = value
    return found
