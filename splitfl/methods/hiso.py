"""`hiso`: as `decomfl`, with perturbations scaled by a diagonal Hessian estimate.

HiSo (Li et al., ICLR'26, arXiv 2506.02370, and the authors' public DeComFL code). Each element has a
curvature H, initially 1. Perturbations are u / sqrt(H), so a step is -lr / P * sum of v_p u_p / sqrt(H). At
the end of a round every node squares the estimate g = mean of v_p u_p / sqrt(H) of the clients' last steps,
with their weights, and sets H = s H + (1 - s) g^2 (s is `method.hessian_smooth`); messages are the scalars of
`decomfl` only. With s = 1 this is `decomfl`.

Departures from the paper: those of `decomfl` (perturbations are signs, and each client's own); a client that
missed so many rounds that the tensors are fewer numbers than the scalars receives H with the tensors. With
signs (v u)^2 is the same for every element, so g must be a mean over several perturbations to differ by
element.
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
from splitfl.methods.parts.optimiser import Decay, constant, head_decay
from splitfl.methods.parts.perturbed_parameters import Perturbation, PerturbedParameters, values_of
from splitfl.methods.parts.references import DECOMFL, LORA
from splitfl.methods.parts.scalar_log import ScalarLog
from splitfl.methods.parts.zeroth_order_client import Estimate, ZerothOrderClient, refuse_estimate

CURVATURE: Final = "curvature"


@dataclass(frozen=True, kw_only=True)
class HisoSettings:
    """The gradient estimator; `hessian_smooth` is the smoothing factor of the Hessian estimate (1: constant)."""

    estimate: Estimate = group(Estimate)
    hessian_smooth: float = 0.95

    def __post_init__(self) -> None:
        above("method.hessian_smooth", self.hessian_smooth, 0.0)
        if not self.hessian_smooth <= 1.0:
            raise ConfigError(f"method.hessian_smooth must be at most 1.0, got {self.hessian_smooth}")


class HessianScaledParameters(PerturbedParameters):
    """Perturbed parameters whose perturbations are divided by the square root of the curvature."""

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

    def draw(self, client: int, round_index: int, step: int, perturbation: int) -> Perturbation:
        """The perturbation of this index in a client's step, u / sqrt(H)."""
        drawn = super().draw(client, round_index, step, perturbation)
        return {name: signs / self._curvature[name].sqrt() for name, signs in drawn.items()}

    def move(self, u: Perturbation, scale: float) -> None:
        """Adds scale * u in place, with two roundings on every device."""
        with torch.no_grad():
            for name, value in u.items():
                self.tensors[name].add_(value * scale)

    def round(self, round_index: int, derivatives: Mapping[tuple[int, int], Tensor]) -> None:
        """Applies all clients' steps, then updates the curvature from the last of each client."""
        last = {client: (client, step) for client, step in derivatives}
        estimate = {name: torch.zeros_like(self.tensors[name]) for name in self.names(round_index)}
        for client, step in last.values():
            for perturbation, derivative in enumerate(derivatives[client, step].tolist()):
                share = derivative / len(derivatives[client, step])
                for name, u in self.draw(client, round_index, step, perturbation).items():
                    estimate[name].add_(u * share)
        super().round(round_index, derivatives)
        for name, g in estimate.items():
            self._curvature[name].mul_(self._smooth).add_(g.square() * (1 - self._smooth))

    def replay_key(self, rounds: Iterable[int]) -> tuple[object, ...]:
        """The settings of the base class, and the smoothing factor."""
        return *super().replay_key(rounds), self._smooth

    def extra_state(self) -> dict[str, Tensor]:
        """A snapshot of the curvature, and the server optimiser's state."""
        curvature = {name: value.clone() for name, value in self._curvature.items()}
        return super().extra_state() | under(CURVATURE, curvature)

    def load_extra_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Restores the curvature and the optimiser's state among these tensors; returns the others."""
        for name, value in part(tensors, CURVATURE).items():
            self._curvature[name].copy_(value)
        others = {name: value for name, value in tensors.items() if not name.startswith(f"{CURVATURE}.")}
        return super().load_extra_state(others)


def refuse_single_perturbation(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for a single perturbation, whose curvature would be the same for every element."""
    if config.federation.clients * config.method.of(Estimate).perturbations == 1:
        raise ConfigError(
            "method.perturbations must be at least 2 with the method 'hiso' and a single client, got 1: the "
            "square of a single perturbation of signs is the same for every element"
        )


def _parameters(values: Mapping[str, Tensor], config: RunConfig) -> HessianScaledParameters:
    federation, train = config.federation, config.train
    rule, smooth = aggregator(federation.aggregator), config.method.of(HisoSettings).hessian_smooth
    optimiser = server_optimiser(federation.server_optimiser, federation.server_lr)
    lr, schedule = train.head_lr, head_decay(config)
    return HessianScaledParameters(
        values, rule, train.seed, federation.clients, lr, smooth, schedule, optimiser
    )


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side: that of `decomfl` with scaled perturbations."""
    whole = pieces.whole()
    estimate, perturbed = config.method.of(Estimate), _parameters(values_of(whole), config)
    zeroth_order = ZerothOrderClient(whole, batches.client, estimate, perturbed)
    return DecomflClient(zeroth_order, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, without a model."""
    start = {name: value.cpu() for name, value in values_of(pieces.whole()).items()}
    perturbations = config.method.of(Estimate).perturbations
    return DecomflServer(
        ScalarLog(config.method.name, _parameters(start, config), config.federation.clients, perturbations)
    )


_HISO = """@inproceedings{li2026converge,
  title = {Converge Faster, Talk Less: {Hessian}-Informed Federated Zeroth-Order Optimization},
  author = {Li, Zhe and Ying, Bicheng and Liu, Zidong and Dong, Chaosheng and Yang, Haibo},
  booktitle = {International Conference on Learning Representations},
  year = {2026}
}"""

SPEC = dataclasses.replace(
    decomfl.SPEC,
    about="no cut: as decomfl, with perturbations scaled by a diagonal Hessian estimate",
    bibtex=(_HISO, DECOMFL, LORA),
    client=client,
    server=server,
    settings=HisoSettings,
    refusals=(refuse_estimate, refuse_single_perturbation),
)
