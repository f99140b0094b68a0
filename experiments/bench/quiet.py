"""A client's part of a run for a benchmark, which says nothing."""

from splitfl.runtime.join import join
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import transport

PATIENCE_S = 120.0


def take_part(name: str, address: str, client: int) -> None:
    """This client's part in the run there, to its end."""
    join(transport(name), Joining(address=address, client=client, timeout_s=PATIENCE_S))
