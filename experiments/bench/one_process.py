"""Client and server in one process: the product's step over the unsplit step and the bare split's."""

from collections.abc import Callable

from experiments.bench.interleaved import Contestant, contest
from experiments.bench.product import Product
from experiments.bench.prototype import prototype
from experiments.bench.ratio import Figure, Target, at_most, pair_ratios
from experiments.bench.setting import Setting
from experiments.bench.unsplit import unsplit


def one_process(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """The product in one process, without a network."""
    samples = setting.steps * setting.batch
    contestants = {
        "unsplit": Contestant(train=unsplit, samples=samples),
        "product": Contestant(train=Product(), samples=samples),
        "prototype": Contestant(train=prototype, samples=samples),
    }
    if not setting.is_quick:
        contestants |= {
            "unsplit-keeping": Contestant(train=unsplit, samples=samples, keeps_memory=True),
            "prototype-keeping": Contestant(train=prototype, samples=samples, keeps_memory=True),
        }
    result = contest(setting, contestants, progress)
    product_s = result.wall_s("product")

    def figure(what: str, other: str, target: Target | None = None) -> Figure:
        ratios = pair_ratios(product_s, result.wall_s(other))
        return Figure(what=f"time, product / {what}", ratios=ratios, target=target)

    figures = [
        figure("unsplit", "unsplit", at_most(1.00)),
        figure("prototype", "prototype", at_most(1.03)),
    ]
    if not setting.is_quick:
        figures += [figure("unsplit*", "unsplit-keeping"), figure("prototype*", "prototype-keeping")]
    return figures
