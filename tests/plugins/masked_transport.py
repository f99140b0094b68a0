"""A transport of another package: gRPC with bits of every byte flipped, so that both ends must be its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from splitfl.config import TransportConfig, group
from splitfl.core.errors import ConfigError
from splitfl.transport.base.spec import Joining
from splitfl.transport.base.transport import Answer, ClientEnd, Handler, PeerChange, ServerEnd
from splitfl.transport.grpc.spec import GrpcSettings
from splitfl.transport.registry import transport

_ALL = 0xFF
_GRPC = transport("grpc")


@dataclass(frozen=True, kw_only=True)
class MaskedSettings:
    """The bits in `mask` are flipped; clients are told by the experiment."""

    mask: int = _ALL
    grpc: GrpcSettings = group(GrpcSettings)

    def __post_init__(self) -> None:
        if not 0 < self.mask <= _ALL:
            raise ConfigError(f"transport.mask must lie in 1..{_ALL}, got {self.mask}")

    @property
    def table(self) -> bytes:
        """What each byte becomes."""
        return bytes(byte ^ self.mask for byte in range(_ALL + 1))


class MaskedServer:
    """See ServerEnd."""

    def __init__(self, config: TransportConfig, clients: int) -> None:
        self._end: ServerEnd = _GRPC.serve(config, clients)
        self._table = config.of(MaskedSettings).table

    @property
    def address(self) -> str:
        return self._end.address

    def offer(self, experiment: Mapping[str, Any]) -> None:
        self._end.offer(experiment)

    def missing(self) -> list[int]:
        return self._end.missing()

    def start(self, handler: Handler) -> None:
        table = self._table

        def unmasked(client: int, frame: bytes, answer: Answer) -> None:
            handler(client, frame.translate(table), lambda reply: answer(reply.translate(table)))

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
        self._table = MaskedSettings(mask=self.experiment.get("transport", {}).get("mask", _ALL)).table

    def enter(self) -> None:
        self._end.enter()

    def request(self, frame: bytes) -> bytes:
        return self._end.request(frame.translate(self._table)).translate(self._table)

    def leave(self) -> None:
        self._end.leave()


SPEC = replace(
    _GRPC,
    about="gRPC with flipped bits",
    describe="in separate processes over gRPC with flipped bits",
    serve=MaskedServer,
    join=MaskedClient,
    settings=MaskedSettings,
    diagnose=None,
)
