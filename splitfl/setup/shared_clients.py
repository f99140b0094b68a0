"""The client methods of one process, which share all that training does not change.

A piece is loaded once for each cut and adapter, its frozen tensors and the tokenizer once; see `SharedPiece`.
"""

from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import Any

from torch import nn

from splitfl.adapters.shared_piece import OwnTensors, SharedPiece
from splitfl.core.messages import Message, Reply
from splitfl.core.state import State
from splitfl.core.stored_state import StoredState
from splitfl.data.loader import Batches
from splitfl.methods.parts.method import ClientMethod, ClientRound
from splitfl.models.cut import Piece, frozen_in, share_frozen
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from splitfl.wire.codec_meter import CodecMeter


class SharedClients:
    """Makes the client methods of an experiment for one thread; `batches` are the data of each client."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        make_rows = experiment.row_maker()
        self.batches: Callable[[int], Batches] = cache(lambda client: experiment.batches(client, make_rows))
        self._loaded = _Loaded()
        self._checked: set[Hashable] = set()

    def method(self, client: int, meter: CodecMeter | None = None) -> ClientMethod:
        """This client's side of the method: the same bits as `Experiment.client_method`.

        It is built for each round that the client takes part in. The data are read now, and pieces of a new
        cut or adapter are loaded now; raises as `Experiment.client_method` does.
        """
        loader = self._experiment.client_pieces(client)
        batches = self.batches(client)
        self._experiment.check_client(batches)

        def build() -> BuiltMethod:
            pieces = _ClientPieces(loader, self._loaded)
            return self._experiment.client_method_with(pieces, batches, meter), pieces.used

        settings = loader.config.partition, loader.config.adapter
        if settings not in self._checked:
            self._checked.add(settings)
            build()
        return SharedMethod(build)


BuiltMethod = tuple[ClientMethod, list[tuple[SharedPiece, OwnTensors]]]
"""A client's method, and the shared pieces that it uses with its own tensors in them."""


class SharedMethod:
    """A client's method that exists during a round; between rounds only its state is kept.

    Its tensors are in the shared pieces whenever it computes.
    """

    def __init__(self, build: Callable[[], BuiltMethod]) -> None:
        self._build = build
        self._built: BuiltMethod | None = None
        self._stored: StoredState | None = None  # between rounds; None: the initial state
        self._flops = 0.0

    def round(self, round_index: int) -> ClientRound:
        steps = self._entered().round(round_index)
        reply: Reply | None = None
        while True:
            self._entered()
            try:
                message: Message = next(steps) if reply is None else steps.send(reply)
            except StopIteration:
                self._stored = StoredState(self._entered().state())
                self._flops = self.take_flops()
                self._built = None
                return
            reply = yield message

    def take_flops(self) -> float:
        spent, self._flops = self._flops, 0.0
        return spent + (self._built[0].take_flops() if self._built is not None else 0.0)

    def state(self) -> State:
        return self._entered().state() if self._stored is None else self._stored.load()

    def restore(self, state: State) -> None:
        self._built, self._stored = None, StoredState(state)

    def _entered(self) -> ClientMethod:
        """The method, built if necessary, with its tensors in the pieces."""
        if self._built is None:
            self._built = self._build()
            if self._stored is not None:
                self._built[0].restore(self._stored.load())
                self._stored = None
        method, used = self._built
        for piece, own in used:
            piece.give(own)
        return method


class _ClientPieces:
    """The pieces of one client, with its own tensors in place; see Pieces."""

    def __init__(self, loader: PieceLoader, loaded: "_Loaded") -> None:
        self._loader = loader
        self._loaded = loaded
        self.used: list[tuple[SharedPiece, OwnTensors]] = []

    def head(self, cut: int | None = None, *, is_bare: bool = False) -> Piece:
        return self._piece(self._loader.head, cut, is_bare=is_bare)

    def body(self, cut: int | None = None) -> Piece:
        return self._piece(self._loader.body, cut)

    def tail(self) -> Piece:
        return self._piece(self._loader.tail)

    def auxiliary(self) -> Piece:
        return self._piece(self._loader.auxiliary)

    def whole(self) -> Piece:
        return self._piece(self._loader.whole)

    def _piece(self, load: Callable[..., Piece], *args: Any, **kwargs: Any) -> Piece:
        config, position = self._loader.config, len(self.used)
        key = (load.__name__, args, tuple(kwargs.items()), config.partition, config.adapter, position)
        shared = self._loaded.piece(key, partial(load, *args, **kwargs))
        own = shared.initial()
        shared.give(own)
        self.used.append((shared, own))
        return shared.piece


class _Loaded:
    """The pieces loaded so far, by what they depend on, and their frozen parameters by name."""

    def __init__(self) -> None:
        self._pieces: dict[Hashable, SharedPiece] = {}
        self._frozen: dict[str, nn.Parameter] = {}

    def piece(self, key: Hashable, load: Callable[[], Piece]) -> SharedPiece:
        """The piece of this key, loaded on first use."""
        if key not in self._pieces:
            piece = load()
            share_frozen(self._frozen, piece)
            self._frozen = frozen_in(piece) | self._frozen
            self._pieces[key] = SharedPiece(piece)
        return self._pieces[key]
