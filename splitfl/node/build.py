"""From settings to the parts of a run: pieces with adapters, shares of the data, methods, links."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from channel.link import Link
from splitfl.config import DeviceConfig, RunConfig
from splitfl.data.batch import Batch
from splitfl.data.examples import Examples
from splitfl.data.loader import Batches, tokenizer
from splitfl.data.share import share
from splitfl.data.task import Task, load_task
from splitfl.errors import ConfigError, DataError
from splitfl.federation.aggregate import aggregator
from splitfl.federation.selection import Selection
from splitfl.methods.bounded import Bounded
from splitfl.methods.holes import refuse_holes
from splitfl.methods.registry import as_client, check, method
from splitfl.methods.seam import ClientMethod, ServerMethod
from splitfl.node.links import check_link, own_link
from splitfl.node.pieces import SitePieces
from splitfl.partition.cut import Piece, ranges
from splitfl.partition.load import read_config
from splitfl.partition.source import resolve


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """What every process of a run reads for itself: the model's folder, the task, its shares.

    Making one checks everything that can be checked before anything is loaded or sent.
    """

    config: RunConfig
    task: Task
    shares: tuple[tuple[int, ...], ...]
    num_blocks: int

    @classmethod
    def of(cls, config: RunConfig) -> "Site":
        """Raises ConfigError, DataError or ModelMissing for whatever cannot be run."""
        method(config.method.name)
        aggregator(config.federation.aggregator)
        device_of(config.client)
        device_of(config.server)
        check_link(config)
        Selection.of(config)
        task = load_task(config.task)
        model = read_config(resolve(config.model.name), task.kind, config.model.attention, pad_token_id=0)
        check(config, task.kind, model.num_hidden_layers)
        refuse_holes(config, task.kind)
        ranges(model.num_hidden_layers, config.partition.cut, config.partition.tail_blocks)
        longest = getattr(model, "max_position_embeddings", None)
        if longest is not None and config.task.max_length > longest:
            raise ConfigError(
                f"task.max_length must be at most the model's {longest}, got {config.task.max_length}"
            )
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
                raise DataError(f"client {client} of {federation.clients} would own no data")
        owned = tuple(tuple(int(index) for index in indices) for indices in shares)
        return cls(config=config, task=task, shares=owned, num_blocks=model.num_hidden_layers)

    def total_steps(self) -> int | None:
        """Steps of the server in the whole run; None where only the clients know an epoch's length."""
        federation = self.config.federation
        uploads = -(-federation.local_steps // self.config.method.upload_interval)
        return federation.rounds * federation.clients * uploads or None

    def client_method(self, client: int) -> ClientMethod:
        """This client's side of the method, with its piece and its data."""
        batches = self.batches(client)
        steps = self.config.federation.local_steps or len(batches)
        config = as_client(self.config, client)
        pieces = dataclasses.replace(self._pieces(config.client), config=config)
        return method(config.method.name).client(pieces, batches, steps, config)

    def server_method(self) -> ServerMethod:
        """The server's side of the method, with its piece where it has one."""
        made = method(self.config.method.name).server(self._pieces(self.config.server), self.config)
        return Bounded(made, self.config.train.max_loss)

    def whole(self) -> Piece:
        """The unsplit model with the same adapters, on the server's device."""
        return self._pieces(self.config.server).whole()

    def batches(self, client: int) -> Batches:
        """A client's own data."""
        indices = torch.tensor(self.shares[client]).numpy()
        return self._batches(self.task.train.take(indices), client)

    def held_out(self) -> Iterator[Batch]:
        """The held-out data."""
        return self._batches(self.task.held_out, -1).held_out(self.config.eval.batch_size)

    def link(self) -> Link:
        """The emulated link that every client has to itself, where they do not share a cell."""
        return own_link(self.config)

    def _pieces(self, device: DeviceConfig) -> SitePieces:
        return SitePieces(
            config=self.config, task=self.task, num_blocks=self.num_blocks, device=device_of(device)
        )

    def _batches(self, examples: Examples, client: int) -> Batches:
        return Batches(
            examples,
            tokenizer(resolve(self.config.model.name)),
            kind=self.task.kind,
            max_length=self.config.task.max_length,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            client=client,
        )


def device_of(device: DeviceConfig) -> str:
    """The torch device that these settings mean on this machine."""
    if device.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device.device!r} was asked for and this machine has no CUDA; have cpu")
    return device.device
