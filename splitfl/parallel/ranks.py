"""The process group of a body on several ranks, of which rank 0 alone decides what is computed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import DistError, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from splitfl.core.errors import PeerLost
from splitfl.parallel.launch import Launch

START_S: Final = 1800.0
"""How long ranks wait for each other, in seconds, while some read their data."""
_SETTINGS, _READY = "settings", "ready"
_DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64)
_MAX_AXES: Final = 6


class Ranks:
    """Collective operations on the CPU, over gloo; each raises PeerLost if a rank does not take part.

    All ranks call them in the same order.
    """

    def __init__(self, launch: Launch, store: Store, timeout_s: float, device: str) -> None:
        """Enters the group when all ranks are ready to; `device` is that of the blocks."""
        self.rank, self.size, self.device = launch.rank, launch.world_size, device
        self._timeout_s = timeout_s
        backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
        with self.answering():  # first the slow start, then the group, whose timeout is shorter
            store.set(f"{_READY}/{self.rank}", "")
            store.wait([f"{_READY}/{rank}" for rank in range(self.size)], timedelta(seconds=START_S))
            dist.init_process_group(
                backend,
                store=PrefixStore("group", store),
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=timeout_s),
            )

    @property
    def is_last(self) -> bool:
        """Whether this is the rank with the last blocks."""
        return self.rank == self.size - 1

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raises PeerLost in place of torch's errors about a rank that has ended or does not answer."""
        try:
            yield
        except (RuntimeError, DistError) as error:
            if not isinstance(error, DistError) and "gloo" not in str(error).lower():
                raise
            raise PeerLost(
                f"a rank of the server's body has ended, or took no part for {self._timeout_s:g} s "
                "(server.collective_timeout_s); torchrun ... -m experiments resume RUN continues the run"
            ) from error

    def shared(self, data: bytes = b"") -> bytes:
        """The bytes of rank 0, on every rank."""
        size = torch.tensor([len(data)])
        with self.answering():
            dist.broadcast(size, 0)
            content = torch.empty(int(size), dtype=torch.uint8)
            if self.rank == 0:
                content = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)[: len(data)]
            if len(content):
                dist.broadcast(content, 0)
        return content.numpy().tobytes()

    def gathered(self, number: int) -> list[int]:
        """One integer of each rank, on every rank."""
        found = [torch.empty(1, dtype=torch.int64) for _ in range(self.size)]
        with self.answering():
            dist.all_gather(found, torch.tensor([number]))
        return [int(one) for one in found]

    def fill(self, tensor: Tensor, source: int) -> None:
        """Copies a rank's tensor into that of all others, bit for bit; both are of one shape and dtype."""
        content = tensor.detach().cpu().contiguous()
        if content.numel():
            with self.answering():
                dist.broadcast(content.view(-1).view(torch.uint8), source)
            if self.rank != source:
                with torch.no_grad():
                    tensor.copy_(content)

    def spread(self, tensor: Tensor | None, source: int) -> Tensor:
        """A rank's tensor of any shape, on every rank."""
        header = _header(tensor) if tensor is not None else torch.empty(_MAX_AXES + 3, dtype=torch.int64)
        self.fill(header, source)
        content = tensor if tensor is not None else _allocated(header)
        self.fill(content, source)
        return content

    def send(self, tensor: Tensor, to: int) -> None:
        """Sends a tensor to one rank, with its shape and whether it needs a gradient."""
        with self.answering():
            dist.send(_header(tensor), to)
            dist.send(tensor.detach().cpu().contiguous(), to)

    def receive(self, source: int) -> Tensor:
        """The tensor that a rank sent."""
        header = torch.empty(_MAX_AXES + 3, dtype=torch.int64)
        with self.answering():
            dist.recv(header, source)
            content = _allocated(header)
            dist.recv(content, source)
        return content.to(self.device).requires_grad_(bool(header[0]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError, DistError):  # a rank may be gone
            dist.destroy_process_group()


def store_of(launch: Launch) -> Store:
    """The store that torchrun's agent holds for all ranks, without the keys of ranks before a restart."""
    timeout = timedelta(seconds=START_S)
    found = rendezvous("env://", rank=launch.rank, world_size=launch.world_size, timeout=timeout)
    store, _, _ = next(iter(found))
    assert isinstance(store, Store)
    return PrefixStore(f"splitfl/{launch.restarts}", store)


def publish(store: Store, settings: str) -> None:
    """Gives the settings to all other ranks, which wait for them."""
    store.set(_SETTINGS, settings)


def published(store: Store) -> str:
    """The settings of rank 0. Raises PeerLost if there are none within `START_S`."""
    try:
        store.wait([_SETTINGS], timedelta(seconds=START_S))
        return store.get(_SETTINGS).decode()
    except (RuntimeError, DistError) as error:
        raise PeerLost(f"rank 0 sent no settings within {START_S:g} s") from error


def _header(tensor: Tensor) -> Tensor:
    """Whether it needs a gradient, its dtype, its number of axes and their lengths."""
    shape = [*tensor.shape, *(0,) * (_MAX_AXES - tensor.ndim)]
    return torch.tensor([int(tensor.requires_grad), _DTYPES.index(tensor.dtype), tensor.ndim, *shape])


def _allocated(header: Tensor) -> Tensor:
    _, dtype, axes, *shape = header.tolist()
    return torch.empty(shape[:axes], dtype=_DTYPES[dtype])
