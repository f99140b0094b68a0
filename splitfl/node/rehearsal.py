"""A run's whole protocol with pieces that compute nothing: its bytes, times and memory beforehand.

The messages are those of the run itself, sent by the same methods over the same link, so
bytes, packets, airtime, energy and FLOPs are the ledger's own, to the byte. Where what is sent
depends on what was learnt or lost on a lossy link, it is one such run.
"""

from dataclasses import dataclass

from splitfl.adapters import trainable
from splitfl.config import RunConfig
from splitfl.ledger import Ledger
from splitfl.methods.registry import as_client, method
from splitfl.methods.seam import ClientMethod
from splitfl.metrics import Events
from splitfl.node.assemble import station_of
from splitfl.node.build import Site, steps_of
from splitfl.node.client import ClientNode
from splitfl.node.desk import RoundEnd
from splitfl.node.inproc import run_inproc
from splitfl.node.pieces import SitePieces
from splitfl.partition.cut import Piece
from splitfl.partition.hollow import Hollow


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a client's pieces take, in bytes; `saved_bytes` is what autograd keeps of its largest batch."""

    parameter_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    saved_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.parameter_bytes + self.gradient_bytes + self.optimiser_bytes + self.saved_bytes


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a run will have cost: all of its traffic and work, its virtual time, the clients' memory."""

    ledger: Ledger
    virtual_s: float
    clients: tuple[Memory, ...]

    @property
    def client(self) -> Memory:
        """Of the client that needs most."""
        return max(self.clients, key=lambda one: one.total_bytes)


def rehearse(site: Site) -> Rehearsal:
    """Plays the run of these settings without weights; takes little time and trains nothing."""
    config, ledger, watcher = site.config, Ledger(), _Watcher()
    chosen = method(config.method.name)
    pieces, clients = list[_Pieces](), []
    for client in range(config.federation.clients):
        batches, its = site.batches(client), as_client(config, client)
        pieces.append(_Pieces(site, its))
        clients.append(chosen.client(pieces[-1], batches, steps_of(config, client, batches), its))
    with Events(None) as events:
        station = station_of(site, chosen.server(_Pieces(site, config), config), ledger, events, watcher)
        nodes = [ClientNode(at, client, codec=config.codec) for at, client in enumerate(clients)]
        run_inproc(config, nodes, station)
    memory = tuple(_memory(own, client) for own, client in zip(pieces, clients, strict=True))
    return Rehearsal(ledger=ledger, virtual_s=watcher.finish_s, clients=memory)


def _memory(pieces: "_Pieces", client: ClientMethod) -> Memory:
    held = {id(value): value for piece in pieces.made for value in piece.parameters()}.values()
    trained = sum(value.nbytes for piece in pieces.made for value in trainable(piece).values())
    moments = {name: value for name, value in client.state().items() if "moment." in name}
    saved = sum(piece.saved_bytes() for piece in pieces.made)
    return Memory(
        parameter_bytes=sum(value.nbytes for value in held),
        gradient_bytes=trained if saved or moments else 0,
        optimiser_bytes=sum(value.nbytes for value in moments.values()),
        saved_bytes=saved,
    )


class _Pieces:
    """The pieces of one side without their weights; remembers what was made."""

    def __init__(self, site: Site, config: RunConfig) -> None:
        self._real = SitePieces(
            config=config, task=site.task, num_blocks=site.num_blocks, device="cpu", is_hollow=True
        )
        self.made: list[Hollow] = []

    def head(self, *, is_bare: bool = False) -> Piece:
        return self._kept(self._real.head(is_bare=is_bare))

    def body(self, cut: int | None = None) -> Piece:
        return self._kept(self._real.body(cut))

    def tail(self) -> Piece:
        return self._kept(self._real.tail())

    def auxiliary(self) -> Piece:
        return self._kept(self._real.auxiliary())

    def whole(self) -> Piece:
        return self._kept(self._real.whole())

    def _kept(self, piece: Piece) -> Piece:
        self.made.append(Hollow(piece))
        return self.made[-1]


class _Watcher:
    """Hears of a rehearsal."""

    finish_s = 0.0

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Watcher: nobody looks on."""

    def begun(self, round_index: int) -> None:
        """See Watcher: nothing is kept."""

    def ended(self, end: RoundEnd) -> None:
        """See Watcher."""
        self.finish_s = end.finish_s
