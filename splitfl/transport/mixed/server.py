"""The server's end over several transports at once: each client belongs to one of them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from splitfl.transport.base.addresses import joined_by_name
from splitfl.transport.base.transport import Answer, Handler, PeerChange, ServerEnd
from splitfl.wire import Envelope, Refusal, encode

log = logging.getLogger(__name__)


class MixedServer:
    """A `ServerEnd` of one for each transport; `clients` names the transport of each client.

    A client is here if it is here over its own transport. Over another one its requests are refused.
    """

    def __init__(self, ends: Mapping[str, ServerEnd], clients: Sequence[str]) -> None:
        self._ends = ends
        self._transports = dict(enumerate(clients))

    @property
    def address(self) -> str:
        return joined_by_name({name: end.address for name, end in self._ends.items()})

    def offer(self, experiment: Mapping[str, Any]) -> None:
        for end in self._ends.values():
            end.offer(experiment)

    def missing(self) -> list[int]:
        return sorted(self._own({name: end.missing() for name, end in self._ends.items()}))

    def start(self, handler: Handler) -> None:
        for name, end in self._ends.items():
            end.start(partial(self._handle, name, handler))

    def silent(self) -> list[int]:
        return sorted(self._own({name: end.silent() for name, end in self._ends.items()}))

    def changes(self) -> list[PeerChange]:
        """Those of one client in order."""
        return [
            change
            for name, end in self._ends.items()
            for change in end.changes()
            if self._transports.get(change.client) == name
        ]

    def stop(self) -> None:
        with ExitStack() as stack:
            for end in self._ends.values():
                stack.callback(end.stop)

    def _own(self, clients: Mapping[str, Iterable[int]]) -> list[int]:
        """Of the clients by transport those that belong to it."""
        return [one for name, some in clients.items() for one in some if self._transports.get(one) == name]

    def _handle(self, name: str, handler: Handler, client: int, frame: bytes, answer: Answer) -> None:
        if self._transports.get(client) == name:
            handler(client, frame, answer)
            return
        own = self._transports.get(client, "none")
        reason = f"client {client} must join over {own} (transport.clients), not over {name}"
        log.warning("refused: %s", reason)
        answer(encode(Refusal(reason=reason), Envelope(client=-1, round=-1, lap=-1)))
