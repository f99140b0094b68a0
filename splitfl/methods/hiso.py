"""`hiso`: as `decomfl`, with every direction shortened where the loss is steep.

HiSo (Li et al., ICLR'26, arXiv 2506.02370, and the authors' public DeComFL code). Each
element has a curvature H, 1 at first. Directions are u / sqrt(H), so a step goes by
-lr / P * sum of v_p u_p / sqrt(H), a slope found along each. When a round has ended
everybody squares the estimate g = mean of v_p u_p / sqrt(H) of the clients' last steps,
weighed as they are, and sets H = s H + (1 - s) g^2 (s is `method.hessian_smooth`): what is
sent are the scalars of `decomfl`, nothing more. With s = 1 this is `decomfl`.

We depart from the paper as `decomfl` does (directions are signs, and each client's own),
and in that a client which missed so many rounds that tensors are fewer numbers than
scalars gets H with them. With signs (v u)^2 is the same for every element, so g must be a
mean over more than one direction to say anything of single ones.
"""

# P perturbations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from splitfl.config import RunConfig, above, group
from splitfl.core.errors import ConfigError
from splitfl.core.state import part, under
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import Aggregator, aggregator
from splitfl.federation.server_optimiser import ServerOptimiser, server_optimiser
from splitfl.methods import decomfl
from splitfl.methods.decomfl import DecomflClient, DecomflServer
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod
from splitfl.methods.parts.perturbed_parameters import Directions, PerturbedParameters, values_of
from splitfl.methods.parts.rates import Decay, constant, head_decay
from splitfl.methods.parts.references import DECOMFL, LORA
from splitfl.methods.parts.scalar_log import ScalarLog
from splitfl.methods.parts.zeroth_order_client import Estimate, ZerothOrderClient, refuse_estimate

CURVATURE: Final = "curvature"


@dataclass(frozen=True, kw_only=True)
class HisoSettings:
    """`hessian_smooth` says how slowly a curvature changes (1: never)."""

    estimate: Estimate = group(Estimate)
    hessian_smooth: float = 0.95

    def __post_init__(self) -> None:
        above("method.hessian_smooth", self.hessian_smooth, 0.0)
        if not self.hessian_smooth <= 1.0:
            raise ConfigError(f"method.hessian_smooth must be at most 1.0, got {self.hessian_smooth}")


class HisoWalk(PerturbedParameters):
    """A walk along directions that a curvature shortens, element by element."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        aggregator: Aggregator,
        seed: int,
        clients: int,
        lr: float,
        smooth: float,
        decay: Decay = constant,
        optimiser: ServerOptimiser | None = None,
    ) -> None:
        super().__init__(tensors, aggregator, seed, clients, lr, decay, optimiser)
        self._smooth = smooth
        self._curvature = {name: torch.ones_like(tensor) for name, tensor in tensors.items()}

    def draw(self, client: int, round_index: int, step: int, perturbation: int) -> Directions:
        """One direction of this client's step: u / sqrt(H)."""
        drawn = super().draw(client, round_index, step, perturbation)
        return {name: signs / self._curvature[name].sqrt() for name, signs in drawn.items()}

    def move(self, directions: Directions, scale: float) -> None:
        """Adds `scale` times these directions, with two roundings on whatever device."""
        with torch.no_grad():
            for name, u in directions.items():
                self.tensors[name].add_(u * scale)

    def round(self, round_index: int, taken: Mapping[tuple[int, int], Tensor]) -> None:
        """All clients' steps, and what their last ones say of the curvature."""
        last = {client: (client, step) for client, step in taken}
        estimate = {name: torch.zeros_like(self.tensors[name]) for name in self.names(round_index)}
        for client, step in last.values():
            for perturbation, slope in enumerate(taken[client, step].tolist()):
                share = slope / len(taken[client, step])
                for name, u in self.draw(client, round_index, step, perturbation).items():
                    estimate[name].add_(u * share)
        super().round(round_index, taken)
        for name, g in estimate.items():
            self._curvature[name].mul_(self._smooth).add_(g.square() * (1 - self._smooth))

    def ways(self, rounds: Iterable[int]) -> tuple[object, ...]:
        """See Walk."""
        return *super().ways(rounds), self._smooth

    def memory(self) -> dict[str, Tensor]:
        """The curvature, a snapshot, and what an optimiser remembers."""
        curvature = {name: value.clone() for name, value in self._curvature.items()}
        return super().memory() | under(CURVATURE, curvature)

    def remember(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Takes the curvature and the optimiser's memory among these tensors; hands back the others."""
        for name, value in part(tensors, CURVATURE).items():
            self._curvature[name].copy_(value)
        others = {name: value for name, value in tensors.items() if not name.startswith(f"{CURVATURE}.")}
        return super().remember(others)


def refuse_one_direction(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError where the curvature could only be the same everywhere."""
    if config.federation.clients * config.method.of(Estimate).perturbations == 1:
        raise ConfigError(
            "method.perturbations must be at least 2 with the method 'hiso' and a single client, got 1: the "
            "square of one direction of signs is the same for every element"
        )


def _walk(values: Mapping[str, Tensor], config: RunConfig) -> HisoWalk:
    federation, train = config.federation, config.train
    rule, smooth = aggregator(federation.aggregator), config.method.of(HisoSettings).hessian_smooth
    moved_by = server_optimiser(federation.server_optimiser, federation.server_lr)
    lr, falls = train.head_lr, head_decay(config)
    return HisoWalk(values, rule, train.seed, federation.clients, lr, smooth, falls, moved_by)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side: that of `decomfl` along shortened directions."""
    whole = pieces.whole()
    estimate, moving = config.method.of(Estimate), _walk(values_of(whole), config)
    walker = ZerothOrderClient(whole, batches.client, estimate, moving)
    return DecomflClient(walker, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, which has no model."""
    start = {name: value.cpu() for name, value in values_of(pieces.whole()).items()}
    perturbations = config.method.of(Estimate).perturbations
    return DecomflServer(ScalarLog.along(_walk(start, config), config, perturbations))


_HISO = """@inproceedings{li2026converge,
  title = {Converge Faster, Talk Less: {Hessian}-Informed Federated Zeroth-Order Optimization},
  author = {Li, Zhe and Ying, Bicheng and Liu, Zidong and Dong, Chaosheng and Yang, Haibo},
  booktitle = {International Conference on Learning Representations},
  year = {2026}
}"""

SPEC = dataclasses.replace(
    decomfl.SPEC,
    about="no cut: as decomfl, along directions that are shorter where the loss is steep",
    bibtex=(_HISO, DECOMFL, LORA),
    client=client,
    server=server,
    settings=HisoSettings,
    refusals=(refuse_estimate, refuse_one_direction),
)
