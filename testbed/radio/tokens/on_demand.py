"""Opens the radios of a run; the modem, and with it numba, is imported only by transports that need it."""

from typing import TYPE_CHECKING

from channel.coding.extra import MissingNumba, require_numba
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.transport.base.carrier import ClientRadio

if TYPE_CHECKING:
    from testbed.radio.tokens.carrier import TokenCarrier
    from testbed.radio.tokens.server import TokenServer


def open_carrier(config: RunConfig) -> "TokenCarrier":
    """See OpenCarrier; raises ConfigError without numba, too."""
    _require_numba(config)
    from testbed.radio.tokens import carrier

    return carrier.open_carrier(config)


def open_server_radio(config: RunConfig) -> "TokenServer":
    """See OpenServerRadio; raises ConfigError without numba, too."""
    _require_numba(config)
    from testbed.radio.tokens import server

    return server.open_server_radio(config)


def open_client_radio(config: RunConfig, client: int) -> ClientRadio:
    """See OpenClientRadio; raises ConfigError without numba, too."""
    _require_numba(config)
    from testbed.radio.tokens import client as client_radio

    return client_radio.open_client_radio(config, client)


def _require_numba(config: RunConfig) -> None:
    try:
        require_numba(f"transport.name {config.transport.name!r}")
    except MissingNumba as error:
        raise ConfigError(f"[transport] {config.transport.name}: {error}") from None
