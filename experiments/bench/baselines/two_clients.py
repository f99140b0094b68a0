"""Two concurrent clients on two cores: samples/s over the unsplit step on two threads."""

from collections.abc import Callable
from dataclasses import replace

from experiments.bench.baselines.unsplit import unsplit
from experiments.bench.interleaved import Contestant, contest
from experiments.bench.product import Product
from experiments.bench.ratio import Figure, at_least, pair_ratios
from experiments.bench.setting import Setting


def two_clients(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """The product over PyTorch RPC with two concurrent clients."""
    setting = replace(setting, steps=2 * setting.steps, sweeps=-(-3 * setting.sweeps // 4))
    samples = setting.steps * setting.batch
    contestants = {
        "unsplit-2-threads": Contestant(train=unsplit, samples=samples, threads=2),
        "two-in-flight": _product(2, samples),
    }
    if not setting.is_quick:
        contestants |= {
            "one-in-flight": _product(1, samples),
            "one-batch": Contestant(
                train=Product(transport="rpc", clients=2, server_batch=2, server_threads=2),
                samples=2 * samples,
                maths="two clients, one batch",
            ),
            "unsplit-2-threads-keeping": Contestant(
                train=unsplit, samples=samples, threads=2, keeps_memory=True
            ),
        }
    result = contest(setting, contestants, progress)

    def figure(what: str, product: str, other: str) -> Figure:
        ratios = pair_ratios(
            result.wall_s(other), result.wall_s(product)
        )  # wall_s is seconds per sample, so the ratio is inverted
        return Figure(what=f"samples/s, {what}", ratios=ratios)

    main = figure("product / unsplit", "two-in-flight", "unsplit-2-threads")
    figures = [replace(main, target=at_least(0.95))]
    if not setting.is_quick:
        figures += [
            figure("product, one step in flight / unsplit", "one-in-flight", "unsplit-2-threads"),
            figure("product, both in one batch / unsplit", "one-batch", "unsplit-2-threads"),
            figure("product / unsplit*", "two-in-flight", "unsplit-2-threads-keeping"),
        ]
    return figures


def _product(in_flight: int, samples: int) -> Contestant:
    train = Product(transport="rpc", clients=2, in_flight=in_flight)
    return Contestant(train=train, samples=2 * samples, maths=f"two clients, {in_flight} in flight")
