"""The clients' adapters on the server: taken in, averaged once a round, handed out."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Adapter, Begin, Done, Message
from splitfl.core.state import State
from splitfl.federation.averager import Averager, Start, needs_start
from splitfl.federation.over_the_air import over_the_air
from splitfl.methods.parts.method import ServerReply, Turn, unexpected
from splitfl.methods.parts.perturbed_parameters import values_of
from splitfl.models.cut import Piece


class ClientAdapters:
    """How a round begins and ends wherever clients learn: what has changed goes down, their work comes up."""

    def __init__(self, method: str, averager: Averager) -> None:
        self._method = method
        self._averager = averager

    @classmethod
    def of(
        cls,
        config: RunConfig,
        own: Callable[[], Piece],
        above: Callable[[], Piece] | None = None,
        prefix: str = "",
    ) -> "ClientAdapters":
        """Of a run whose clients train `own`, and `above` too; both are loaded only where a start counts."""
        federation, start = config.federation, Start()
        if needs_start(federation):
            trained = values_of(own())
            ranked = frozenset(name for name in trained if federation.client_ranks and ".lora_" in name)
            if above is not None:
                trained |= {f"{prefix}{name}": value for name, value in values_of(above()).items()}
            tensors = {name: value.cpu().clone() for name, value in trained.items()}
            start = Start(tensors=tensors, ranked=ranked, ranks=federation.client_ranks)
        return cls(config.method.name, Averager(federation, start, over_the_air(config)))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the rounds so far have come to."""
        return self._averager.tensors

    def changes_since(self, turn: Turn, message: Begin) -> Adapter | None:
        """What has changed since the version that a client names as it begins."""
        return self._averager.since(message.version, turn.client)

    def answer(self, turn: Turn, message: Message) -> ServerReply:
        """The answer to a beginning and to an upload; WireError for anything else."""
        done = Done()
        match message:
            case Adapter():
                return ServerReply(
                    reply=done,
                    losses=message.losses,
                    samples=message.samples,
                    staleness=self._averager.staleness(message),
                    change=message,
                )
            case Begin():
                return ServerReply(reply=self.changes_since(turn, message) or done)
        raise unexpected(self._method, message)

    def take(self, reply: ServerReply | None) -> Any:
        """Keeps an upload for the mean; hands on any other change."""
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._averager.receive(change)
            return None
        return change

    def receive(self, update: Adapter) -> None:
        """Keeps the server's own part for the mean."""
        self._averager.receive(update)

    def end_round(self) -> None:
        """The uploads become the next version."""
        self._averager.end_round()

    def state(self) -> State:
        """See Stateful."""
        return self._averager.state()

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._averager.restore(state)
