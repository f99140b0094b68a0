"""The server's side of a run on the ranks that torchrun started, and the ranks that follow it."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, set_num_threads

from splitfl.config import TENSOR
from splitfl.core.allocator import forget_peak, keep_freed_memory, resident_bytes
from splitfl.core.errors import ConfigError
from splitfl.evaluation.whole_model import Measured, WholeModel
from splitfl.methods.parts.method import ServerMethod
from splitfl.methods.registry import server_method
from splitfl.models.cut import Piece
from splitfl.parallel.crew import Crew, CrewServer, Follower
from splitfl.parallel.crew_model import CrewModel
from splitfl.parallel.launch import Launch
from splitfl.parallel.ranks import Ranks, publish, published, store_of
from splitfl.parallel.sharded_blocks import sharded_body
from splitfl.parallel.stages import staged_body
from splitfl.parallel.tensor_parallel import tensor_parallel_body
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict
from splitfl.setup.pieces import PieceLoader
from splitfl.wire.codec_meter import CodecMeter

BODIES: Mapping[str, Callable[[PieceLoader, Ranks], Piece]] = {
    "fsdp": sharded_body,
    "stages": staged_body,
    TENSOR: tensor_parallel_body,
}


class ManyRanks:
    """The server's side of a run on all ranks, for rank 0; see ServerSide."""

    def __init__(self, experiment: Experiment, crew: Crew) -> None:
        self._experiment, self._crew = experiment, crew
        self._loader = _loader(experiment, crew.ranks)
        self.checksums: Mapping[str, str] = self._loader.checksums()
        self._server: CrewServer | None = None

    def method(self, meter: CodecMeter) -> ServerMethod:
        """A new server's side of the method, on every rank; adapters have no codecs to measure."""
        self._server = None  # before another one takes memory
        self._server = CrewServer(self._crew, lambda: _made(self._experiment, self._loader, self._crew.ranks))
        return self._server

    def model(self) -> WholeModel:
        """The unsplit model with the body of the method."""
        assert self._server is not None
        return _Measured(self.checksums, self._server)

    def memory(self) -> list[Mapping[str, Any]]:
        """A row for each rank above 0."""
        return self._crew.memory(0)


class _Measured:
    """See WholeModel."""

    def __init__(self, checksums: Mapping[str, str], server: CrewServer) -> None:
        self.checksums, self._server = checksums, server

    def held(self) -> dict[str, Tensor]:
        return self._server.model.held()

    def measured(self, trained: Mapping[str, Tensor]) -> Measured:
        return self._server.measured(trained)

    def exported(self) -> Piece:
        return self._server.model.exported()


@contextmanager
def on_ranks(experiment: Experiment, launched: Launch) -> Iterator[ManyRanks]:
    """The server's side on all ranks, while rank 0 runs the experiment. Raises PeerLost if one is lost."""
    if launched.rank:
        raise ConfigError(
            f"a run is started on rank 0, and rank {launched.rank} follows it: it calls "
            "splitfl.runtime.server_side.follows() instead"
        )
    store = store_of(launched)
    publish(store, json.dumps(as_dict(experiment.config)))
    with _entered(experiment, launched, store) as ranks:
        crew = Crew(ranks, experiment.config.server.collective_timeout_s)
        try:
            yield ManyRanks(experiment, crew)
        finally:
            crew.close()


def follow(launched: Launch) -> None:
    """Follows rank 0's run to its end, on a rank above 0. Raises PeerLost if rank 0 is lost."""
    store = store_of(launched)
    experiment = Experiment.of(from_dict(json.loads(published(store))))
    keep_freed_memory()
    forget_peak()
    base_bytes = resident_bytes()
    set_num_threads(experiment.config.server.threads)
    with _entered(experiment, launched, store) as ranks:
        loader = _loader(experiment, ranks)
        Follower(ranks, lambda: _made(experiment, loader, ranks), base_bytes).follow()


def _entered(experiment: Experiment, launched: Launch, store: Any) -> Ranks:
    server, device = experiment.config.server, experiment.pieces(experiment.config.server).device
    own = f"cuda:{launched.local_rank}" if device == "cuda" else device
    return Ranks(launched, store, server.collective_timeout_s, own)


def _loader(experiment: Experiment, ranks: Ranks) -> PieceLoader:
    return dataclasses.replace(experiment.pieces(experiment.config.server), device=ranks.device)


def _made(experiment: Experiment, loader: PieceLoader, ranks: Ranks) -> tuple[ServerMethod, CrewModel]:
    """This rank's method, whose body is shared with the unsplit model."""
    pieces = _CrewPieces(loader, ranks)
    method = server_method(experiment.config, pieces)
    return method, CrewModel(experiment, loader, pieces.bodies[0], ranks)


class _CrewPieces:
    """The pieces of the server's side on this rank; see Pieces."""

    def __init__(self, loader: PieceLoader, ranks: Ranks) -> None:
        self._loader, self._ranks = loader, ranks
        self.bodies: list[Piece] = []
        self.head, self.tail, self.auxiliary = loader.head, loader.tail, loader.auxiliary
        self.whole = loader.whole

    def body(self, cut: int | None = None) -> Piece:
        assert cut is None, "a body on several ranks has one cut"
        self.bodies.append(BODIES[self._loader.config.server.shard](self._loader, self._ranks))
        return self.bodies[-1]
