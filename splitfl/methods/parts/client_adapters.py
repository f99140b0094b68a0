"""The clients' adapters on the server: received, averaged once a round, sent to the clients."""

from collections.abc import Callable

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Adapter, Begin, Done, Message
from splitfl.core.state import State
from splitfl.federation.averager import Averager, Start, needs_start
from splitfl.federation.over_the_air import over_the_air
from splitfl.federation.server_optimiser import ServerOptimiser
from splitfl.methods.parts.method import ServerReply, Turn, unexpected
from splitfl.methods.parts.perturbed_parameters import values_of
from splitfl.models.cut import Piece


class ClientAdapters:
    """Answers the first and last message of a client's round: the averaged tensors out, its update in."""

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
        optimiser: ServerOptimiser | None = None,
    ) -> "ClientAdapters":
        """For clients that train the piece `own`, and `above`, whose tensors have `prefix` in messages.

        `optimiser` replaces that of the settings. The pieces are loaded only where aggregation needs the
        initial values.
        """
        federation, start = config.federation, Start()
        if optimiser is not None or needs_start(federation):
            trained = values_of(own())
            ranked = frozenset(name for name in trained if federation.client_ranks and ".lora_" in name)
            if above is not None:
                trained |= {f"{prefix}{name}": value for name, value in values_of(above()).items()}
            tensors = {name: value.cpu().clone() for name, value in trained.items()}
            start = Start(tensors=tensors, ranked=ranked, ranks=federation.client_ranks)
        averager = Averager(federation, start, over_the_air(config), optimiser)
        return cls(config.method.name, averager)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The averaged tensors after the last round, by their names in messages; empty before the first."""
        return self._averager.tensors

    def changes_since(self, turn: Turn, message: Begin) -> Adapter | None:
        """The tensors changed since the version in the client's Begin, None if there are none."""
        return self._averager.since(message.version, turn.client)

    def answer(self, turn: Turn, message: Message) -> ServerReply:
        """The reply to a Begin and to an upload, which is its `change`.

        Raises WireError for other messages, and for an upload of an unknown version or of other tensors.
        """
        done = Done()
        match message:
            case Adapter():
                self._averager.check(message)
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

    def receive(self, update: Adapter) -> None:
        """Adds a client's update, or the server's own part, to the mean of this round."""
        self._averager.receive(update)

    def end_round(self) -> None:
        """Averages the updates received in this round into the next version."""
        self._averager.end_round()

    def state(self) -> State:
        return self._averager.state()

    def restore(self, state: State) -> None:
        self._averager.restore(state)
