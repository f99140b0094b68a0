"""gRPC to a server, on which a client's parcels are small, and come twice or in another order."""

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


def rough(seed: int, life: int) -> TransportSpec:
    """The gRPC transport as a client has it in its so manieth life."""

    def join(joining: Joining) -> ClientEnd:
        def chance(way: str) -> np.random.Generator:
            return stream(seed, "soak", "road", way, joining.client, life)

        road = Rough(GrpcConnector(joining.address, joining.credentials), chance("out"), chance("in"))
        return SessionClient(road, joining.address, joining.client, None, joining.timeout_s)

    return replace(transport("grpc"), join=join)


class Rough:
    """See Road: each way, a chunk now and then goes twice; of a message, two change places."""

    chunk_bytes = _CHUNK_BYTES
    silence = "no answer"
    window_bytes: int | None = None

    def __init__(self, road: GrpcConnector, out: np.random.Generator, back: np.random.Generator) -> None:
        """A stream of chance for each way, which is worked on by a thread of its own."""
        self._connector = road
        self._out, self._in = out, back

    def carry(self, take: Callable[[], bytes | None], hear: Callable[[bytes], None]) -> None:
        """See Road."""
        due: list[bytes | None] = []

        def taken() -> bytes | None:
            if not due:
                first = take()
                due.append(first)
                if first is not None and _is_followed(first) and self._out.random() < _SWAPPED_SHARE:
                    due.insert(0, take())
                elif first is not None and self._out.random() < _TWICE_SHARE:
                    due.append(first)
            return due.pop(0)

        def heard(raw: bytes) -> None:
            hear(raw)
            if self._in.random() < _TWICE_SHARE:
                hear(raw)

        self._connector.carry(taken, heard)

    def cut(self) -> None:
        """See Road."""
        self._connector.cut()


def _is_followed(raw: bytes) -> bool:
    """Whether this is a piece of a message of which more is there to be taken."""
    chunk = unpack(raw)
    return chunk.kind is Kind.REQUEST and chunk.offset + len(chunk.data) < chunk.total
