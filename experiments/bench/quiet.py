"""A benchmark's client, without output."""

from splitfl.runtime.join import join
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import transport

PATIENCE_S = 120.0


def take_part(name: str, address: str, client: int) -> None:
    """Joins the run at this address as this client; returns when the run ends."""
    join(transport(name), Joining(address=address, client=client, timeout_s=PATIENCE_S))
