"""The client methods of one process, which share all that training does not change.

A piece is loaded once for each cut and adapter, its frozen tensors and the tokenizer once; see `SharedPiece`.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from torch import nn

from splitfl.adapters.shared_piece import OwnTensors, SharedPiece
from splitfl.core.messages import Message, Reply
from splitfl.core.state import State
from splitfl.methods.parts.method import ClientMethod, ClientRound
from splitfl.models.cut import Piece, frozen_in, share_frozen
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader


class SharedClients:
    """Makes the client methods of an experiment for one thread."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._make_rows = experiment.row_maker()
        self._loaded = _Loaded()

    def check(self, client: int) -> None:
        """Raises for the client's data as `method` would, without building it."""
        self._experiment.check_client(self._experiment.batches(client, self._make_rows))

    def method(self, client: int) -> ClientMethod:
        """This client's side of the method: the same bits as `Experiment.client_method`."""
        experiment = self._experiment
        pieces = _ClientPieces(experiment.client_pieces(client), self._loaded)
        batches = experiment.batches(client, self._make_rows)
        return SharedMethod(experiment.client_method_with(pieces, batches), pieces.used)


class SharedMethod:
    """A client's method whose tensors are in the shared pieces whenever it computes."""

    def __init__(self, method: ClientMethod, used: list[tuple[SharedPiece, OwnTensors]]) -> None:
        self._method = method
        self._used = used
        self.take_flops = method.take_flops

    def round(self, round_index: int) -> ClientRound:
        steps = self._method.round(round_index)
        reply: Reply | None = None
        while True:
            self._enter()
            try:
                message: Message = next(steps) if reply is None else steps.send(reply)
            except StopIteration:
                return
            reply = yield message

    def state(self) -> State:
        self._enter()
        return self._method.state()

    def restore(self, state: State) -> None:
        self._enter()
        self._method.restore(state)

    def _enter(self) -> None:
        for piece, own in self._used:
            piece.give(own)


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
