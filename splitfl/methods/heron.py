"""`heron`: as `cse-fsl`, with a client without backpropagation.

HERON-SFL (Kou et al., arXiv 2601.09076) with low-rank adapters. Head and auxiliary take zeroth-order steps
together, from finite differences of the auxiliary's loss along P perturbations; the activations of the first
of every `method.upload_interval` batches, from before its step, are uploaded, and the server takes a
first-order step from them. The downlink carries acknowledgements only; head and auxiliary are averaged once a
round. Departure from the paper: perturbations are signs.
"""

# B batch, T tokens, D hidden, P perturbations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.config import RunConfig, group
from splitfl.core.errors import ConfigError
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods import cse_fsl
from splitfl.methods.cse_fsl import AuxiliaryUpdate
from splitfl.methods.parts import spec
from splitfl.methods.parts.auxiliary import PREFIX, Auxiliary, refuse_auxiliary, with_prefix
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.directional_derivatives import central_difference, forward_difference
from splitfl.methods.parts.local_update import AveragedClient
from splitfl.methods.parts.method import ClientMethod, Pieces
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, perturbed_parameters, values_of
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.zeroth_order_client import Estimate, refuse_estimate
from splitfl.models.cut import Piece


@dataclass(frozen=True, kw_only=True)
class HeronSettings:
    """The auxiliary model, and the gradient estimator over it and the head."""

    auxiliary: Auxiliary = group(Auxiliary)
    estimate: Estimate = group(Estimate)


class ZerothOrderStep:
    """One zeroth-order step on the auxiliary's loss; `perturbed` holds the tensors of head and auxiliary."""

    def __init__(
        self,
        trainer: ClientTrainer,
        auxiliary: Piece,
        perturbed: PerturbedParameters,
        client: int,
        settings: Estimate,
    ) -> None:
        self._trainer = trainer
        self._auxiliary = auxiliary
        self._perturbed = perturbed
        self._client = client
        self._settings = settings

    def __call__(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        hidden_BTD, value = self._evaluate(batch, context)

        def loss() -> Tensor:
            return self._evaluate(batch, context)[1]

        mu, derivatives = self._settings.mu, []
        for perturbation in range(self._settings.perturbations):
            u = self._perturbed.draw(self._client, round_index, step, perturbation)
            is_central = self._settings.derivative == "central"
            found = (
                central_difference(self._perturbed, u, mu, loss)
                if is_central
                else forward_difference(self._perturbed, u, mu, loss, value)
            )
            derivatives.append(found)
        self._perturbed.step(self._client, round_index, step, torch.stack(derivatives).cpu())
        return hidden_BTD

    def _evaluate(self, batch: Batch, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The hidden state (B, T, D) and the auxiliary's loss at the current parameters, without a graph."""
        trainer = self._trainer
        for piece in (trainer.piece, self._auxiliary):
            trainer.flops += trainer.cost(batch.shape, piece).forward_flops
        with torch.no_grad():
            hidden_BTD = trainer.piece(batch.inputs, {})
            loss = self._auxiliary(hidden_BTD, context, batch.labels).loss
        assert isinstance(hidden_BTD, Tensor)
        assert isinstance(loss, Tensor)
        return hidden_BTD, loss


def refuse_jvp(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for forward mode, which differentiates a single piece."""
    if config.method.of(Estimate).derivative == "jvp":
        raise ConfigError(
            "method.derivative must be 'difference' or 'central' with the method 'heron', whose loss "
            "depends on two pieces, got 'jvp'"
        )


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with an auxiliary model that is perturbed with the head."""
    auxiliary = pieces.auxiliary()
    trainer = ClientTrainer.of(pieces.head(), config, auxiliary, PREFIX)
    perturbed = perturbed_parameters(values_of(trainer.piece) | with_prefix(values_of(auxiliary)), config)
    settings = config.method.of(HeronSettings)
    local_step = ZerothOrderStep(trainer, auxiliary, perturbed, batches.client, settings.estimate)
    update = AuxiliaryUpdate(local_step, settings.auxiliary.upload_interval)
    return AveragedClient(trainer, update, batches, steps)


_HERON = """@article{kou2026lean,
  title = {Lean Clients, Full Accuracy: Hybrid Zeroth- and First-Order Split Federated Learning},
  author = {Kou, Zhoubin and Chen, Zihan and Yang, Jing and Shen, Cong},
  journal = {arXiv preprint arXiv:2601.09076},
  year = {2026}
}"""

SPEC = dataclasses.replace(
    cse_fsl.SPEC,
    about="as cse-fsl, with forward passes only on the client",
    bibtex=(_HERON, LORA),
    client=client,
    settings=HeronSettings,
    single_pass=spec.NOT_ONCE,
    backpropagates=False,
    dropout=(),
    local_update=None,
    refusals=(refuse_auxiliary, refuse_estimate, refuse_jvp),
)
