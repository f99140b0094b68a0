"""No transport: server and clients in one process, which `splitfl.runtime.simulate` runs."""

from typing import Final, NoReturn

from splitfl.core.errors import ConfigError
from splitfl.transport.base.spec import TransportSpec


def _refuse(*_: object) -> NoReturn:
    raise ConfigError(
        "the transport inproc runs server and clients in one process: choose another to serve or join"
    )


SPEC: Final = TransportSpec(
    about="one process and one thread: no sockets, the simplest to debug",
    describe="in one process",
    serve=_refuse,
    join=_refuse,
    check_server=lambda config: None,
    check_join=_refuse,
    in_process=True,
)
