"""The server's batches of clients, in one process: samples/s over the unsplit step of equal batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from experiments.bench.baselines.unsplit import unsplit
from experiments.bench.interleaved import Contestant, Rest, contest
from experiments.bench.product import Product
from experiments.bench.ratio import Figure, at_least, pair_ratios
from experiments.bench.setting import Setting

_CPU_CLIENTS: Final = 2
_GPU_CLIENTS: Final = 64


@dataclass(frozen=True, kw_only=True)
class _Unsplit:
    """A contestant: the unsplit model with the samples of several clients in each step."""

    clients: int

    def __call__(self, setting: Setting, blocks: int, rest: Rest) -> None:
        unsplit(replace(setting, batch=self.clients * setting.batch), blocks, rest)


def server_batch(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Two clients, or 64 on a GPU, against the unsplit model at the same total batch."""
    clients = _CPU_CLIENTS if setting.device == "cpu" else _GPU_CLIENTS
    setting = _with_texts(setting, clients)
    samples = clients * setting.steps * setting.batch

    contestants = {
        "unsplit": Contestant(train=_Unsplit(clients=clients), samples=samples, maths="unsplit"),
        "one-batch": _product(clients, clients, samples),
    }
    if not setting.is_quick:
        contestants["one-by-one"] = _product(clients, 1, samples)
    result = contest(setting, contestants, progress)

    def figure(what: str, product: str) -> Figure:
        ratios = pair_ratios(result.wall_s("unsplit"), result.wall_s(product))  # wall_s is per sample
        return Figure(what=f"samples/s, {clients} clients, {what} / unsplit", ratios=ratios)

    target = at_least(0.95 if setting.device == "cpu" else 0.8)
    figures = [replace(figure("one batch", "one-batch"), target=target)]
    return figures if setting.is_quick else [*figures, figure("a step each", "one-by-one")]


def _with_texts(setting: Setting, clients: int) -> Setting:
    """The setting with texts for as many clients; it has those of two."""
    if clients == _CPU_CLIENTS:
        return setting
    more = replace(setting, folder=setting.folder / "server-batch", batch=clients // 2 * setting.batch)
    return replace(more.prepare(), batch=setting.batch)


def _product(clients: int, server_batch: int, samples: int) -> Contestant:
    train = Product(clients=clients, server_batch=server_batch)
    return Contestant(train=train, samples=samples, maths=f"{clients} clients, batches of {server_batch}")
