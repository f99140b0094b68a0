"""One client over PyTorch RPC, in wall time and in the CPU time of both processes."""

from collections.abc import Callable

from experiments.bench.contest import Contestant, Result, contest
from experiments.bench.product import Product
from experiments.bench.prototype_rpc import PrototypeRpc
from experiments.bench.ratio import Figure, Target, at_most, pair_ratios
from experiments.bench.setting import Setting
from experiments.bench.unsplit import unsplit


def over_rpc(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """The product over PyTorch RPC with one client."""
    samples = setting.steps * setting.batch
    contestants = {
        "unsplit": Contestant(play=unsplit, samples=samples),
        "rpc-product": Contestant(play=Product(road="rpc"), samples=samples),
        "rpc-prototype": Contestant(play=PrototypeRpc(), samples=samples),
    }
    if not setting.is_quick:
        contestants |= {
            "unsplit-keeping": Contestant(play=unsplit, samples=samples, keeps_memory=True),
            "rpc-prototype-keeping": Contestant(
                play=PrototypeRpc(keeps_memory=True), samples=samples, keeps_memory=True
            ),
        }
    result = contest(setting, contestants, progress)
    figures = [
        *_both(result, "unsplit", at_most(1.02)),
        *_both(result, "rpc-prototype", at_most(1.03)),
    ]
    if not setting.is_quick:
        figures += [*_both(result, "unsplit-keeping", None), *_both(result, "rpc-prototype-keeping", None)]
    return figures


def _both(result: Result, other: str, target: Target | None) -> list[Figure]:
    name, is_keeping = other.removesuffix("-keeping"), other.endswith("-keeping")
    note = ", with the product's allocator setting" if is_keeping else ""
    return [
        Figure(
            what=f"wall time of product / {name}{note}",
            ratios=pair_ratios(result.wall_s("rpc-product"), result.wall_s(other)),
            target=target,
        ),
        Figure(
            what=f"CPU time of product / {name}{note}",
            ratios=pair_ratios(result.cpu_s("rpc-product"), result.cpu_s(other)),
            target=target,
        ),
    ]
