"""`spry`: no cut; forward-mode differentiation on clients, each with a slice of the adapters.

Spry (Panchal et al., NeurIPS'24). A gradient estimate is more accurate for fewer parameters, so the adapted
modules are divided among the clients, rotated by one every round; other trained tensors are trained by all. A
client sets its gradient to the mean of v_p u_p, exact directional derivatives times perturbations, and takes
an AdamW step. The same group reports better results of checkpointed backpropagation at the same memory (arXiv
2506.21833).
"""

# P perturbations

from dataclasses import dataclass

import torch

from splitfl.adapters.inject import install, trainable
from splitfl.config import RunConfig, at_least
from splitfl.core.messages import LOST
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import aggregator
from splitfl.methods import fedlora
from splitfl.methods.decomfl import loss_of
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.forward_mode import paths, refuse_fused_attention, tangent
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces
from splitfl.methods.parts.optimiser import head_decay
from splitfl.methods.parts.parameter_slices import Slice
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, values_of
from splitfl.methods.parts.references import LORA


@dataclass(frozen=True, kw_only=True)
class SprySettings:
    """A client takes `perturbations` directional derivatives a step."""

    perturbations: int = 4

    def __post_init__(self) -> None:
        at_least("method.perturbations", self.perturbations, 1)


class SpryClient:
    """Finetunes its slice of the model with forward mode; `perturbed` draws perturbations of the slice."""

    def __init__(
        self,
        trainer: ClientTrainer,
        perturbed: PerturbedParameters,
        batches: Batches,
        steps: int,
        perturbations: int,
    ) -> None:
        self.trainer = trainer
        self._perturbed = perturbed
        self._paths = paths(trainer.piece)
        self._batches = batches
        self._steps = steps
        self._perturbations = perturbations
        self.take_flops = trainer.take_flops
        self.state = trainer.state
        self.restore = trainer.restore

    def round(self, round_index: int) -> ClientRound:
        trainer, model = self.trainer, self.trainer.piece
        trainer.start_round((yield trainer.begin(round_index, 1)), round_index)
        before = {name: value.detach().clone() for name, value in trainable(model).items()}
        losses: list[float] = []
        samples = 0
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(model.model.device)
            losses.append(self._estimate(batch, round_index, step))
            trainer.step()
            samples += len(batch.ids_B)
        reply = yield trainer.upload(round_index, samples, tuple(losses))
        if reply is LOST:  # no other client trains this slice, so an update that was lost is undone
            install(model, before)

    def _estimate(self, batch: Batch, round_index: int, step: int) -> float:
        """Sets the gradients of the slice to their estimates; returns the loss."""
        piece, forward = self.trainer.piece, loss_of(batch)
        slice_of_model = trainable(piece)
        values = {self._paths[name]: value.detach() for name, value in slice_of_model.items()}
        grads = {name: torch.zeros_like(value) for name, value in slice_of_model.items()}
        loss = 0.0
        for perturbation in range(self._perturbations):
            u = self._perturbed.draw(self._batches.client, round_index, step, perturbation)
            at, derivative = tangent(piece, forward, values, {self._paths[name]: u[name] for name in u})
            loss = at.item()
            for name, signs in u.items():
                grads[name].add_(signs, alpha=derivative.item() / self._perturbations)
        self.trainer.flops += 2 * self._perturbations * self.trainer.cost(batch.shape).forward_flops
        for name, value in slice_of_model.items():
            value.grad = grads[name]
        return loss


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with the whole model and its slices."""
    whole, train, clients = pieces.whole(), config.train, config.federation.clients
    values = values_of(whole)
    own = Slice(aggregator(config.federation.aggregator), list(values), batches.client, clients)
    perturbed = PerturbedParameters(values, own, train.seed, clients, train.head_lr)
    trainer = ClientTrainer(whole, own, train, decay=head_decay(config))
    return SpryClient(trainer, perturbed, batches, steps, config.method.of(SprySettings).perturbations)


_SPRY = """@inproceedings{panchal2024thinking,
  title = {Thinking Forward: Memory-Efficient Federated Finetuning of Language Models},
  author = {Panchal, Kunjal and Parikh, Nisarg and Choudhary, Sunav and Zhang, Lijun and Brun, Yuriy and
    Guan, Hui},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024}
}"""

SPEC = spec.MethodSpec(
    about="no cut: forward mode on clients, each with a slice of the adapters",
    bibtex=(_SPRY, LORA),
    client=client,
    server=fedlora.server,
    signature=fedlora.SPEC.signature,
    sends={},
    labels="kept",
    settings=SprySettings,
    shared=spec.HEAD | spec.OPTIMISER,
    aggregators=spec.FACTORS,
    holds=("head", "body"),
    asynchronous="the adapters are divided among clients that are in the same round",
    single_pass=spec.NOT_ONCE,
    summable="its clients send slices of their own",
    server_batch=spec.NO_BODY,
    shardable=spec.NO_BODY,
    backpropagates=False,
    forward_mode=True,
    refusals=(refuse_fused_attention,),
    needs=("model.attention=eager",),
)
