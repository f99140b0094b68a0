"""A gRPC transport with small chunks that are duplicated and reordered."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from channel.core.rng import stream
from splitfl.transport.base.spec import Joining, TransportSpec
from splitfl.transport.base.transport import ClientEnd
from splitfl.transport.grpc.client import GrpcConnector
from splitfl.transport.registry import transport
from splitfl.transport.session.chunk import Kind, unpack
from splitfl.transport.session.client import SessionClient

_TWICE_SHARE: Final = 0.03
_SWAPPED_SHARE: Final = 0.03
_CHUNK_BYTES: Final = 700


def unreliable_grpc(seed: int, life: int) -> TransportSpec:
    """The unreliable gRPC transport of a client's `life`-th process."""

    def join(joining: Joining) -> ClientEnd:
        def rng(direction: str) -> np.random.Generator:
            return stream(seed, "soak", "road", direction, joining.client, life)

        connector = UnreliableConnector(
            GrpcConnector(joining.address, joining.credentials), rng("out"), rng("in")
        )
        return SessionClient(connector, joining.address, joining.client, None, joining.timeout_s)

    return replace(transport("grpc"), join=join)


class UnreliableConnector:
    """A Connector that randomly duplicates chunks, and swaps two chunks of a message."""

    chunk_bytes = _CHUNK_BYTES
    silence = "no answer"
    window_bytes: int | None = None

    def __init__(
        self, connector: GrpcConnector, outgoing: np.random.Generator, incoming: np.random.Generator
    ) -> None:
        """One random generator per direction, since each direction has its own thread."""
        self._connector = connector
        self._out, self._in = outgoing, incoming

    def carry(self, take: Callable[[], bytes | None], receive: Callable[[bytes], None]) -> None:
        """See Connector."""
        due: list[bytes | None] = []

        def next_chunk() -> bytes | None:
            if not due:
                first = take()
                due.append(first)
                if first is not None and _is_followed(first) and self._out.random() < _SWAPPED_SHARE:
                    due.insert(0, take())
                elif first is not None and self._out.random() < _TWICE_SHARE:
                    due.append(first)
            return due.pop(0)

        def received(raw: bytes) -> None:
            receive(raw)
            if self._in.random() < _TWICE_SHARE:
                receive(raw)

        self._connector.carry(next_chunk, received)

    def cut(self) -> None:
        """See Connector."""
        self._connector.cut()


def _is_followed(raw: bytes) -> bool:
    """Whether this is a request chunk that is followed by another."""
    chunk = unpack(raw)
    return chunk.kind is Kind.REQUEST and chunk.offset + len(chunk.data) < chunk.total
