"""From settings to the parts of a run: pieces with adapters, shares of the data, methods, links."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from transformers import PretrainedConfig

from splitfl.config import TENSOR, DeviceConfig, RunConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.batch import Batch
from splitfl.data.classes import CheckpointClasses
from splitfl.data.description import Description, describe
from splitfl.data.loader import Batches, padding_token
from splitfl.data.pictures import Pictures
from splitfl.data.samples import Samples
from splitfl.data.share import share
from splitfl.data.task import Task, kind_of, load_evaluation, load_task
from splitfl.data.token_pieces import TokenPieces, check_tokens
from splitfl.federation.aggregators import aggregator
from splitfl.federation.selection import Selection
from splitfl.methods.compatibility import check
from splitfl.methods.parts.auxiliary import Auxiliary
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod
from splitfl.methods.parts.optimiser import refuse_accumulation
from splitfl.methods.registry import as_client, client_method, method, server_method
from splitfl.models.checkpoint.config_file import config_table
from splitfl.models.checkpoint.quantised_checkpoint import is_quantised
from splitfl.models.checkpoint.source import resolve
from splitfl.models.class_names import stored_classes
from splitfl.models.cut import Piece, ranges, refuse_one_block
from splitfl.models.families import (
    FAMILIES,
    IMAGE_CLASSIFICATION,
    LANGUAGE_MODELS,
    block_config,
    count_blocks,
)
from splitfl.models.load import check_quantisation, read_config
from splitfl.models.quantised import check_package, quantisation_of
from splitfl.models.tensor_plan import check_tensor_plan
from splitfl.setup.adapter_codec import encoded_client, encoded_server
from splitfl.setup.codecs import check_codecs
from splitfl.setup.links import check_link
from splitfl.setup.pieces import PieceLoader
from splitfl.setup.samples import MakeRows, check_packing, row_maker, text_maker
from splitfl.wire.codec_meter import CodecMeter


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """A run's inputs, which every process reads itself: settings, task and the clients' data shares.

    Construction makes all checks that are possible before models are loaded. The settings have the
    task's classes. `weights` are checksums of the server's model, if known.
    """

    config: RunConfig
    task: Task
    shares: tuple[tuple[int, ...], ...]
    num_blocks: int
    weights: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig) -> "Experiment":
        """The experiment of these settings; raises ConfigError, DataError or ModelMissing."""
        return cls._of(config)

    @classmethod
    def of_client(
        cls, config: RunConfig, client: int, *, owns_data: bool, weights: Mapping[str, str]
    ) -> "Experiment":
        """A client's experiment on another machine; if it `owns_data`, all training samples are its own.

        Raises as `of` does; loading its pieces raises ConfigError for weights with other checksums.
        """
        return replace(cls._of(config, owner=client if owns_data else None), weights=weights)

    @classmethod
    def of_evaluation(cls, config: RunConfig) -> "Experiment":
        """An experiment that evaluates on all data in `task.data`, with the classes of the settings."""
        folder = resolve(config.model.name)
        task = load_evaluation(config.task, folder)
        model = read_config(folder, task.kind, config.model.attention, pad_token_id=0)
        return cls(config=config, task=task, shares=(), num_blocks=count_blocks(model))

    def with_settings(self, config: RunConfig) -> "Experiment":
        """The same task with other settings, checked as by `of`, without reading the data again."""
        named = replace(config.task, labels=config.task.labels or self.config.task.labels)
        is_same = named == self.config.task and config.model == self.config.model
        return self._of(config, self.task if is_same else None)

    @classmethod
    def _of(cls, config: RunConfig, task: Task | None = None, owner: int | None = None) -> "Experiment":
        if config.auto.budget != "none" and not config.auto.chosen:
            raise ConfigError("auto.budget must be resolved before a run: see splitfl.controller.budget")
        method(config.method.name)
        aggregator(config.federation.aggregator)
        device_of(config.client)
        device_of(config.server)
        check_link(config)
        Selection.of(config)
        kind, folder = kind_of(config.task), resolve(config.model.name)
        config_table(folder)
        model = read_config(folder, kind, config.model.attention, pad_token_id=0)
        check_codecs(config, getattr(block_config(model), "hidden_size", None))
        num_blocks = count_blocks(model)
        refuse_one_block(num_blocks)
        check(config, kind, num_blocks, model.model_type)
        _check_quantisation(folder, model, config)
        if config.server.shard == TENSOR:
            check_tensor_plan(model, config.server.ranks)
        ranges(num_blocks, config.partition.cut, config.partition.tail_blocks)
        if kind != IMAGE_CLASSIFICATION:
            _check_length(config, model)
        task = task or load_task(config.task, _classes(folder, kind, config), folder)
        config = replace(config, task=replace(config.task, labels=task.label_names))
        check_packing(task, model.model_type)
        shares = _shares(config, task) if owner is None else _all_of(task, owner, config.federation.clients)
        if isinstance(task.train, TokenPieces):
            check_tokens(task.train, shares, config.train.batch_size, config.task.max_length)
        return cls(config=config, task=task, shares=shares, num_blocks=num_blocks)

    def total_steps(self) -> int | None:
        """The server's steps in the whole run; None if epochs have lengths that only clients know."""
        auxiliary = self.config.method.find(Auxiliary)
        interval = auxiliary.upload_interval if auxiliary else 1
        steps = method(self.config.method.name).local_steps(self.config)
        return self.config.federation.rounds * sum(-(-own // interval) for own in steps) or None

    def client_method(self, client: int, meter: CodecMeter | None = None) -> ClientMethod:
        """This client's side of the method, with its piece and its data; `meter` measures adapter codecs."""
        return self.client_method_with(self.client_pieces(client), self.batches(client), meter)

    def client_method_with(
        self, pieces: Pieces, batches: Batches, meter: CodecMeter | None = None
    ) -> ClientMethod:
        """The side of the client of these batches, with pieces from elsewhere."""
        config, steps = as_client(self.config, batches.client), steps_of(self.config, batches.client, batches)
        return encoded_client(client_method(config, pieces, batches, steps), config, pieces, meter=meter)

    def check_client(self, batches: Batches) -> None:
        """Raises ConfigError where the client of these batches has too few steps in a round."""
        refuse_accumulation(self.config.train, steps_of(self.config, batches.client, batches))

    def client_pieces(self, client: int) -> PieceLoader:
        """Loads the pieces of this client, with its own cut and ranks."""
        return replace(self.pieces(self.config.client), config=as_client(self.config, client))

    def server_method(self, meter: CodecMeter | None = None) -> ServerMethod:
        """The server's side of the method, with its piece, if it has one; `meter` as for clients."""
        pieces = self.pieces(self.config.server)
        server = server_method(self.config, pieces)

        def pieces_of(config: RunConfig) -> PieceLoader:
            return replace(pieces, config=config)

        return encoded_server(server, self.config, pieces_of, meter=meter)

    def whole(self) -> Piece:
        """The unsplit model with the same adapters, on the server's device."""
        return self.pieces(self.config.server).whole()

    def pieces(self, device: DeviceConfig) -> PieceLoader:
        """The loader of the pieces of the side with this device."""
        return PieceLoader(
            config=self.config,
            task=self.task,
            num_blocks=self.num_blocks,
            device=device_of(device),
            weights=self.weights,
        )

    def batches(self, client: int, make_rows: MakeRows | None = None) -> Batches:
        """The batches of a client's data; `make_rows` is that of `row_maker`, if already called."""
        return self._batches(self._own(client), client, make_rows)

    def row_maker(self) -> MakeRows:
        """How samples become the rows of batches; see `samples.row_maker`."""
        return row_maker(self.task, self.config, resolve(self.config.model.name))

    def held_out(self) -> Iterator[Batch]:
        """The batches of the held-out data."""
        return self._batches(self.task.held_out, -1).held_out(self.config.eval.batch_size)

    def description(self, *, tokens: bool = True) -> Description:
        """A description of the data as read; counts `tokens` of texts on request."""
        samples = self.task.train if len(self.task.train) else self.task.held_out
        count = None
        if tokens and self.task.kind != IMAGE_CLASSIFICATION:
            assert not isinstance(samples, Pictures)
            count = text_maker(self.task, self.config, resolve(self.config.model.name))(samples).count
        return describe(self.task, count, self.config.task.max_length, self.shares)

    def data_digest(self, client: int | None = None) -> str:
        """A digest of all samples, classes and shares, or of one client's training samples."""
        found = hashlib.blake2b(repr(self.task.label_names).encode(), digest_size=16)
        train, held_out = self.task.train, self.task.held_out
        if client is not None:
            parts = [self._own(client)]
        else:
            parts = [train, held_out]
            found.update(repr(self.shares).encode())
        for part in parts:
            found.update(part.keys.tobytes())
            found.update(b"" if part.labels is None else part.labels.tobytes())
        return found.hexdigest()

    def _own(self, client: int) -> Samples:
        return self.task.train.take(np.array(self.shares[client], dtype=np.int64))

    def _batches(self, samples: Samples, client: int, make_rows: MakeRows | None = None) -> Batches:
        rows = (make_rows or self.row_maker())(samples)
        train = self.config.train
        return Batches(rows, batch_size=train.batch_size, seed=train.seed, client=client)


def _check_quantisation(folder: Path, model: PretrainedConfig, config: RunConfig) -> None:
    """Raises CutError for a model that cannot be quantised so, ConfigError without its package."""
    wanted = quantisation_of(config.model)
    check_quantisation(folder, model, wanted)
    if wanted and not is_quantised(model):
        check_package(wanted.format)


def _classes(folder: Path, kind: str, config: RunConfig) -> CheckpointClasses | None:
    """The checkpoint's classes, if the task has classes and the settings do not name them."""
    if kind in LANGUAGE_MODELS or config.task.labels:
        return None
    names, is_trained = stored_classes(folder, kind, config.model.attention)
    return CheckpointClasses(names=names, is_trained=is_trained and not config.model.new_classifier)


def _shares(config: RunConfig, task: Task) -> tuple[tuple[int, ...], ...]:
    """The indices of every client's training samples."""
    federation = config.federation
    shares = share(
        task.train,
        federation.clients,
        federation.partition,
        federation.dirichlet_alpha,
        config.train.seed,
    )
    for client, indices in enumerate(shares):
        if not len(indices):
            raise DataError(f"client {client} of {federation.clients} would have no data")
    return tuple(tuple(int(index) for index in indices) for indices in shares)


def _all_of(task: Task, owner: int, clients: int) -> tuple[tuple[int, ...], ...]:
    """Assigns all training samples to this client; the others' data are on other machines."""
    everything = tuple(range(len(task.train)))
    return tuple(everything if client == owner else () for client in range(clients))


def _check_length(config: RunConfig, model: PretrainedConfig) -> None:
    """Raises ConfigError for texts longer than the model's positions; RoBERTa's start after the padding's."""
    longest, why = getattr(block_config(model), "max_position_embeddings", None), ""
    if longest is not None and FAMILIES[model.model_type].offsets_positions:
        unused = padding_token(resolve(config.model.name)) + 1
        longest, why = longest - unused, f" ({longest} positions, of which {unused} are for padding)"
    if longest is not None and config.task.max_length > longest:
        raise ConfigError(
            f"task.max_length must be at most the model's {longest}{why}, got {config.task.max_length}"
        )


def steps_of(config: RunConfig, client: int, batches: Batches) -> int:
    """The steps of this client's rounds: those of the method, or one pass over its data."""
    return method(config.method.name).local_steps(config)[client] or len(batches)


def device_of(device: DeviceConfig) -> str:
    """The torch device of these settings on this machine; raises ConfigError without CUDA."""
    if device.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device must be cpu on this machine, which has no CUDA, got {device.device!r}")
    return device.device
