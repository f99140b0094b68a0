"""A transport of another package: gRPC with every frame's bits flipped, so that both ends must be its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from splitfl.config import TransportConfig
from splitfl.transport.base.spec import Joining
from splitfl.transport.base.transport import Answer, ClientEnd, Handler, PeerChange, ServerEnd
from splitfl.transport.registry import transport

_FLIPPED = bytes(range(255, -1, -1))
_GRPC = transport("grpc")


class MaskedServer:
    """See ServerEnd."""

    def __init__(self, config: TransportConfig, clients: int) -> None:
        self._end: ServerEnd = _GRPC.serve(config, clients)

    @property
    def address(self) -> str:
        return self._end.address

    def offer(self, experiment: Mapping[str, Any]) -> None:
        self._end.offer(experiment)

    def missing(self) -> list[int]:
        return self._end.missing()

    def start(self, handler: Handler) -> None:
        def unmasked(client: int, frame: bytes, answer: Answer) -> None:
            handler(client, frame.translate(_FLIPPED), lambda reply: answer(reply.translate(_FLIPPED)))

        self._end.start(unmasked)

    def silent(self) -> list[int]:
        return self._end.silent()

    def changes(self) -> list[PeerChange]:
        return self._end.changes()

    def stop(self) -> None:
        self._end.stop()


class MaskedClient:
    """See ClientEnd."""

    def __init__(self, joining: Joining) -> None:
        self._end: ClientEnd = _GRPC.join(joining)
        self.experiment = self._end.experiment

    def enter(self) -> None:
        self._end.enter()

    def request(self, frame: bytes) -> bytes:
        return self._end.request(frame.translate(_FLIPPED)).translate(_FLIPPED)

    def leave(self) -> None:
        self._end.leave()


SPEC = replace(
    _GRPC,
    about="gRPC with flipped bits",
    describe="in separate processes over gRPC with flipped bits",
    serve=MaskedServer,
    join=MaskedClient,
    diagnose=None,
)
