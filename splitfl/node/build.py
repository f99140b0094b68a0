"""From settings to the parts of a run: pieces with adapters, shares of the data, methods, links."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from channel.fixed import FixedLink, Way
from splitfl.config import DeviceConfig, RunConfig, WayConfig
from splitfl.data.batch import Batch
from splitfl.data.examples import Examples
from splitfl.data.loader import Batches, tokenizer
from splitfl.data.share import share
from splitfl.data.task import Task, load_task
from splitfl.errors import ConfigError, DataError
from splitfl.federation.aggregate import aggregator
from splitfl.methods.registry import check, method
from splitfl.methods.seam import ClientMethod, ServerMethod
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
        task = load_task(config.task)
        model = read_config(resolve(config.model.name), task.kind, config.model.attention, pad_token_id=0)
        check(config, task.kind, model.num_hidden_layers)
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
        chosen = method(self.config.method.name)
        return chosen.client(self._pieces(self.config.client), batches, steps, self.config)

    def server_method(self) -> ServerMethod:
        """The server's side of the method, with its piece where it has one."""
        return method(self.config.method.name).server(self._pieces(self.config.server), self.config)

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

    def link(self) -> FixedLink:
        """The emulated link of every client."""
        link = self.config.link
        return FixedLink(
            seed=self.config.train.seed,
            up=_way(link.up),
            down=_way(link.down),
            mtu_bytes=link.mtu_bytes,
            max_tries=link.max_tries,
            retry_s=link.retry_s,
        )

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


def _way(way: WayConfig) -> Way:
    return Way(rate_bps=way.rate_bps, delay_s=way.delay_s, loss_rate=way.loss_rate)
