"""`fsl-sage`: as `cse-fsl`, with auxiliary models that are aligned with the server's gradients.

FSL-SAGE (Nair et al., ICML'25, arXiv 2505.23182) with low-rank adapters. The server keeps each client's last
uploads and one auxiliary model per client. At the start of a client's second round and of every l-th round
after it (`method.align_interval`) the server computes the true gradients at these uploads, aligns the
client's auxiliary with them, at the body's learning rate, and sends it. The client trains its head with the
gradient that the auxiliary estimates, and uploads the head only. A lost auxiliary is sent again with the
reply to the next Begin.

Departure from the paper: an auxiliary is first aligned as soon as an upload of its client has been received,
starting from the current values of the body's tensors that it has too.
"""

# B batch, T tokens, D hidden

import dataclasses
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from splitfl.adapters.inject import overwrite, trainable
from splitfl.config import RunConfig, at_least, group
from splitfl.core.messages import Activation, Adapter, Begin, Done, Message
from splitfl.core.state import State, copied, listed, number_in, numbered, part, tensor_in, under, whole
from splitfl.data.loader import Batches
from splitfl.methods import cse_fsl
from splitfl.methods.cse_fsl import AuxiliaryUpdate, BackpropagationStep
from splitfl.methods.parts.auxiliary import AlignmentSample, Auxiliary, align, split_auxiliary, with_prefix
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.joint_step import answer_activations
from splitfl.methods.parts.local_update import local_steps, num_uploads
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.server_model import BodyStep, ServerModel
from splitfl.methods.parts.split_pass import Backpropagation
from splitfl.models.cut import Piece, frozen_in, share_frozen
from splitfl.models.token_rows import unpack


@dataclass(frozen=True, kw_only=True)
class SageSettings:
    """The auxiliary is aligned with the server's gradients every `align_interval` rounds.

    An alignment makes `align_passes` passes over a client's last `align_batches` uploads.
    """

    auxiliary: Auxiliary = group(Auxiliary)
    align_interval: int = 1
    align_passes: int = 5
    align_batches: int = 8
    backpropagation: Backpropagation = group(Backpropagation)

    def __post_init__(self) -> None:
        at_least("method.align_interval", self.align_interval, 1)
        at_least("method.align_passes", self.align_passes, 1)
        at_least("method.align_batches", self.align_batches, 1)


class SageClient:
    """Trains the head with the gradients of an auxiliary model that the server aligns."""

    def __init__(
        self, trainer: ClientTrainer, auxiliary: Piece, batches: Batches, steps: int, settings: SageSettings
    ) -> None:
        self._auxiliary = trainable(auxiliary)
        auxiliary.requires_grad_(False)
        local_step = BackpropagationStep(trainer, auxiliary, settings.backpropagation)
        self._update = AuxiliaryUpdate(local_step, settings.auxiliary.upload_interval)
        self._batches = batches
        self._steps = steps
        self._trainer = trainer
        self._aligned_round = 0
        self.take_flops = trainer.take_flops

    def round(self, round_index: int) -> ClientRound:
        begin = self._trainer.begin(round_index, num_uploads(self._update, self._steps) + 1)
        reply = yield dataclasses.replace(begin, aligned_round=self._aligned_round)
        if isinstance(reply, Adapter):
            own, aligned = split_auxiliary(reply.tensors)
            reply = dataclasses.replace(reply, tensors=own)
            if aligned:
                overwrite(self._auxiliary, aligned)
                self._aligned_round = round_index
        self._trainer.start_round(reply, round_index)
        head = self._trainer.piece
        samples = yield from local_steps(self._update, head, self._batches, self._steps, round_index)
        yield self._trainer.upload(round_index, samples)

    def state(self) -> State:
        held = under("learner", self._trainer.state()) | under("auxiliary", copied(self._auxiliary))
        return held | {"aligned_in": whole(self._aligned_round)}

    def restore(self, state: State) -> None:
        self._trainer.restore(part(state, "learner"))
        overwrite(self._auxiliary, part(state, "auxiliary"))
        self._aligned_round = number_in(state, "aligned_in")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Uploaded:
    message: Activation
    step: BodyStep | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Aligned:
    tensors: dict[str, Tensor]


class SageServer:
    """Trains the body on uploads, aligns the auxiliaries with it, averages the client adapters."""

    def __init__(
        self,
        body: ServerModel,
        client_adapters: ClientAdapters,
        auxiliary: Piece,
        clients: int,
        settings: SageSettings,
        lr: float,
    ) -> None:
        share_frozen(frozen_in(body.piece), auxiliary)
        self._body = body
        self._scratch = auxiliary
        self._settings = settings
        self._lr = lr
        self._client_adapters = client_adapters
        self._auxiliaries = [_snapshot(auxiliary) for _ in range(clients)]
        self._aligned_round = [0] * clients
        self._uploads = [deque[Activation](maxlen=settings.align_batches) for _ in range(clients)]

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return self.compute_batch([turn], [message])[0]
            case Begin():
                return self._begin(turn, message)
        return self._client_adapters.answer(turn, message)

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Activation]) -> list[ServerReply]:
        interval = self._settings.auxiliary.upload_interval
        answers = answer_activations(self._body, turns, messages, wants_gradient=False, interval=interval)
        return [
            dataclasses.replace(answer, change=_Uploaded(message=message, step=answer.change))
            for message, answer in zip(messages, answers, strict=True)
        ]

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._client_adapters.receive(change)
        if isinstance(change, _Uploaded):
            self._uploads[turn.client].append(change.message)
        if isinstance(change, _Aligned):
            self._auxiliaries[turn.client] = change.tensors
            self._aligned_round[turn.client] = turn.round
        self._body.commit(turn, change.step if isinstance(change, _Uploaded) else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._client_adapters.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._client_adapters.tensors | self._body.trained()

    def state(self) -> State:
        clients = [
            {"aligned_in": whole(self._aligned_round[client]), **under("auxiliary", copied(tensors))}
            | under("upload", listed([_as_state(upload) for upload in self._uploads[client]]))
            for client, tensors in enumerate(self._auxiliaries)
        ]
        held = under("body", self._body.state()) | under("heads", self._client_adapters.state())
        return held | under("client", listed(clients))

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._client_adapters.restore(part(state, "heads"))
        for client, client_state in numbered(part(state, "client")).items():
            self._aligned_round[client] = number_in(client_state, "aligned_in")
            self._auxiliaries[client] = part(client_state, "auxiliary")
            self._uploads[client].clear()
            uploads = numbered(part(client_state, "upload")).values()
            self._uploads[client].extend(_as_upload(upload) for upload in uploads)

    def _begin(self, turn: Turn, message: Begin) -> ServerReply:
        """The changed client adapters, and the auxiliary if it is newer than the client's."""
        aligned_in = self._aligned_round[turn.client]
        change, flops = None, 0.0
        is_due = not aligned_in or turn.round - aligned_in >= self._settings.align_interval
        if is_due and self._uploads[turn.client]:
            change, flops = self._align(turn)
        changes = self._client_adapters.changes_since(turn, message)
        tensors = dict(changes.tensors) if changes else {}
        if change is not None:
            tensors |= with_prefix(change.tensors)
        elif aligned_in > message.aligned_round:
            tensors |= with_prefix(self._auxiliaries[turn.client])
        version = changes.version if changes else message.version
        done = Done()
        reply = Adapter(version=version, tensors=tensors) if tensors else done
        return ServerReply(reply=reply, flops=flops, change=change)

    def _align(self, turn: Turn) -> tuple[_Aligned, float]:
        """The client's auxiliary, aligned with the current body, and the FLOPs."""
        device, flops = self._body.piece.model.device, 0.0
        samples = []
        for upload in self._uploads[turn.client]:
            assert upload.hidden is not None
            assert upload.labels is not None
            context = {name: tensor.to(device) for name, tensor in upload.context.items()}
            hidden_BTD = unpack(upload.hidden.to(device), context.get("mask"))
            labels = upload.labels.to(device)
            step = self._body.compute(turn.position, hidden_BTD, context, labels, wants_hidden_grad=True)
            assert step.hidden_grad is not None
            flops += step.flops
            samples.append(
                AlignmentSample(
                    hidden_BTD=hidden_BTD, context=context, labels=labels, grad_BTD=step.hidden_grad
                )
            )
        overwrite(trainable(self._scratch), self._auxiliaries[turn.client])
        if not self._aligned_round[turn.client]:
            overwrite(trainable(self._scratch), self._shared())
        flops += align(self._scratch, samples, self._settings.align_passes, self._lr)
        return _Aligned(tensors=_snapshot(self._scratch)), flops

    def _shared(self) -> dict[str, Tensor]:
        """The body's tensors that the auxiliary has too, in the same shapes."""
        own = trainable(self._scratch)
        return {
            name: value
            for name, value in self._body.trained().items()
            if name in own and own[name].shape == value.shape
        }


def _snapshot(piece: Piece) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainable(piece).items()}


def _as_state(upload: Activation) -> dict[str, Tensor]:
    assert upload.hidden is not None
    assert upload.labels is not None
    own = {"ids": upload.ids_B, "hidden": upload.hidden, "labels": upload.labels}
    return copied(own | under("context", upload.context))


def _as_upload(state: State) -> Activation:
    return Activation(
        ids_B=tensor_in(state, "ids"),
        hidden=tensor_in(state, "hidden"),
        labels=tensor_in(state, "labels"),
        context=part(state, "context"),
    )


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with an auxiliary model that only the server trains."""
    trainer = ClientTrainer.of(pieces.head(), config)
    return SageClient(trainer, pieces.auxiliary(), batches, steps, config.method.of(SageSettings))


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with one auxiliary model per client."""
    body, clients = ServerModel.of(pieces.body(), config), config.federation.clients
    client_adapters, settings = ClientAdapters.of(config, pieces.head), config.method.of(SageSettings)
    return SageServer(body, client_adapters, pieces.auxiliary(), clients, settings, config.train.body_lr)


_FSLSAGE = """@inproceedings{nair2025fslsage,
  title = {{FSL-SAGE}: Accelerating Federated Split Learning via Smashed Activation Gradient Estimation},
  author = {Nair, Srijith and Lin, Michael and Ju, Peizhong and Talebi, Amirreza and
    Bentley, Elizabeth Serena and Liu, Jia},
  booktitle = {International Conference on Machine Learning},
  year = {2025}
}"""

SPEC = dataclasses.replace(
    cse_fsl.SPEC,
    about="as cse-fsl, with the auxiliary aligned with the server's gradients every l rounds",
    bibtex=(_FSLSAGE, LORA),
    client=client,
    server=server,
    settings=SageSettings,
    shardable="shares the frozen weights of its body with its auxiliary models",
    versioned="sends each client an auxiliary of its own, which has no version to encode differences to",
    dropout=(),  # it aligns with gradients of several steps at once
    local_update=None,
)
