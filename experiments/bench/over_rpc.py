"""One client over PyTorch RPC: wall time, and CPU time of both processes."""

from collections.abc import Callable

from experiments.bench.interleaved import Contestant, Timings, contest
from experiments.bench.product import Product
from experiments.bench.prototype_rpc import PrototypeRpc
from experiments.bench.ratio import Figure, Target, at_most, pair_ratios
from experiments.bench.setting import Setting
from experiments.bench.unsplit import unsplit


def over_rpc(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """The product over PyTorch RPC with one client."""
    samples = setting.steps * setting.batch
    contestants = {
        "unsplit": Contestant(train=unsplit, samples=samples),
        "rpc-product": Contestant(train=Product(transport="rpc"), samples=samples),
        "rpc-prototype": Contestant(train=PrototypeRpc(), samples=samples),
    }
    if not setting.is_quick:
        contestants |= {
            "unsplit-keeping": Contestant(train=unsplit, samples=samples, keeps_memory=True),
            "rpc-prototype-keeping": Contestant(
                train=PrototypeRpc(keeps_memory=True), samples=samples, keeps_memory=True
            ),
            "rpc-prototype-shared": Contestant(train=PrototypeRpc(transports=("shm", "uv")), samples=samples),
        }
    result = contest(setting, contestants, progress)
    figures = [
        *_both(result, "unsplit", "unsplit", at_most(1.02)),
        *_both(result, "prototype", "rpc-prototype", at_most(1.03)),
    ]
    if not setting.is_quick:
        shared_s, tcp_s = result.cpu_s("rpc-prototype-shared"), result.cpu_s("rpc-prototype")
        figures += [
            *_both(result, "unsplit*", "unsplit-keeping", None),
            *_both(result, "prototype*", "rpc-prototype-keeping", None),
            Figure(what="CPU, prototype over shared memory / over TCP", ratios=pair_ratios(shared_s, tcp_s)),
        ]
    return figures


def _both(result: Timings, what: str, other: str, target: Target | None) -> list[Figure]:
    wall = pair_ratios(result.wall_s("rpc-product"), result.wall_s(other))
    cpu = pair_ratios(result.cpu_s("rpc-product"), result.cpu_s(other))
    return [
        Figure(what=f"wall, product / {what}", ratios=wall, target=target),
        Figure(what=f"CPU, product / {what}", ratios=cpu, target=target),
    ]
