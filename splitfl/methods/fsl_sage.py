"""`fsl-sage`: as `cse-fsl`, with an auxiliary that is not trained but aligned to the server's gradients.

FSL-SAGE (Nair et al., ICML'25, arXiv 2505.23182) with low-rank adapters. The server keeps
each client's last uploads and an auxiliary for each. As a client begins its second round and
every l-th one after it (`method.align_interval`) the server finds the true gradients at these uploads, aligns
that client's auxiliary to them, at the body's rate, and sends it down. The client learns from the gradient
that its auxiliary estimates, and only its head goes up. An auxiliary lost on its way is
sent with the answer to the next beginning.

We depart from the paper in how it begins: an auxiliary is aligned for the first time as soon as something of
its client's has come, and starts from the body as it is then, in the tensors that both have.
"""

# B batch, T tokens, D hidden

import dataclasses
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from splitfl.adapters.inject import overwrite, trainable
from splitfl.config import RunConfig, at_least, group
from splitfl.core.messages import Activation, Adapter, Begin, Done, Message
from splitfl.core.state import State, copied, listed, number_in, numbered, part, tensor_in, under, whole
from splitfl.data.loader import Batches
from splitfl.methods import cse_fsl
from splitfl.methods.cse_fsl import AuxiliaryUpdate, Backprop, acknowledge
from splitfl.methods.parts.auxiliary import Auxiliary, Sample, align, apart, with_prefix
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer, unpack
from splitfl.methods.parts.local_update import local_steps, num_uploads
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.server_model import BodyStep, ServerModel
from splitfl.methods.parts.split_pass import Backpropagation
from splitfl.models.cut import Piece, share_frozen


@dataclass(frozen=True, kw_only=True)
class SageSettings:
    """An auxiliary is aligned to the server's gradients every `align_interval` rounds.

    That is by `align_passes` over a client's last `align_batches` uploads.
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
    """Runs head and auxiliary; only the head learns here."""

    def __init__(
        self, learner: ClientTrainer, auxiliary: Piece, batches: Batches, steps: int, settings: SageSettings
    ) -> None:
        self._auxiliary = trainable(auxiliary)
        auxiliary.requires_grad_(False)
        learn = Backprop(learner, auxiliary, settings.backpropagation)
        self._update = AuxiliaryUpdate(learn, settings.auxiliary.upload_interval)
        self._batches = batches
        self._steps = steps
        self._learner = learner
        self._aligned_in = 0
        self.take_flops = learner.take_flops

    def round(self, round_index: int) -> ClientRound:
        begin = self._learner.begin(round_index, num_uploads(self._update, self._steps) + 1)
        reply = yield dataclasses.replace(begin, aligned_round=self._aligned_in)
        if isinstance(reply, Adapter):
            own, aligned = apart(reply.tensors)
            reply = dataclasses.replace(reply, tensors=own)
            if aligned:
                overwrite(self._auxiliary, aligned)
                self._aligned_in = round_index
        self._learner.enter(reply, round_index)
        head = self._learner.piece
        samples = yield from local_steps(self._update, head, self._batches, self._steps, round_index)
        yield self._learner.upload(round_index, samples)

    def state(self) -> State:
        held = under("learner", self._learner.state()) | under("auxiliary", copied(self._auxiliary))
        return held | {"aligned_in": whole(self._aligned_in)}

    def restore(self, state: State) -> None:
        self._learner.restore(part(state, "learner"))
        overwrite(self._auxiliary, part(state, "auxiliary"))
        self._aligned_in = number_in(state, "aligned_in")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Uploaded:
    message: Activation
    step: BodyStep


@dataclass(frozen=True, kw_only=True, eq=False)
class _Aligned:
    tensors: dict[str, Tensor]


class SageServer:
    """Runs the body on whatever comes, aligns the auxiliaries to it, averages the heads."""

    def __init__(
        self,
        body: ServerModel,
        heads: ClientAdapters,
        auxiliary: Piece,
        clients: int,
        settings: SageSettings,
        lr: float,
    ) -> None:
        share_frozen(body.piece, auxiliary)
        self._body = body
        self._scratch = auxiliary
        self._settings = settings
        self._lr = lr
        self._heads = heads
        self._auxiliaries = [_snapshot(auxiliary) for _ in range(clients)]
        self._aligned_in = [0] * clients
        self._uploads = [deque[Activation](maxlen=settings.align_batches) for _ in range(clients)]

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                outcome = acknowledge(self._body, ticket, message, self._settings.auxiliary.upload_interval)
                return dataclasses.replace(outcome, change=_Uploaded(message=message, step=outcome.change))
            case Begin():
                return self._begin(ticket, message)
        return self._heads.answer(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        change = self._heads.take(outcome)
        if isinstance(change, _Uploaded):
            self._uploads[ticket.client].append(change.message)
        if isinstance(change, _Aligned):
            self._auxiliaries[ticket.client] = change.tensors
            self._aligned_in[ticket.client] = ticket.round
        self._body.commit(ticket, change.step if isinstance(change, _Uploaded) else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._heads.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._heads.tensors | self._body.trained()

    def state(self) -> State:
        clients = [
            {"aligned_in": whole(self._aligned_in[client]), **under("auxiliary", copied(tensors))}
            | under("upload", listed([_as_state(upload) for upload in self._uploads[client]]))
            for client, tensors in enumerate(self._auxiliaries)
        ]
        held = under("body", self._body.state()) | under("heads", self._heads.state())
        return held | under("client", listed(clients))

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._heads.restore(part(state, "heads"))
        for client, its in numbered(part(state, "client")).items():
            self._aligned_in[client] = number_in(its, "aligned_in")
            self._auxiliaries[client] = part(its, "auxiliary")
            self._uploads[client].clear()
            uploads = numbered(part(its, "upload")).values()
            self._uploads[client].extend(_as_upload(upload) for upload in uploads)

    def _begin(self, ticket: Turn, message: Begin) -> ServerReply:
        """The heads' news, and the client's auxiliary where it has not had it as it is now."""
        aligned_in = self._aligned_in[ticket.client]
        change, flops = None, 0.0
        is_due = not aligned_in or ticket.round - aligned_in >= self._settings.align_interval
        if is_due and self._uploads[ticket.client]:
            change, flops = self._align(ticket)
        news = self._heads.news(ticket, message)
        tensors = dict(news.tensors) if news else {}
        if change is not None:
            tensors |= with_prefix(change.tensors)
        elif aligned_in > message.aligned_round:
            tensors |= with_prefix(self._auxiliaries[ticket.client])
        version = news.version if news else message.version
        done = Done()
        reply = Adapter(version=version, tensors=tensors) if tensors else done
        return ServerReply(reply=reply, flops=flops, change=change)

    def _align(self, ticket: Turn) -> tuple[_Aligned, float]:
        """This client's auxiliary, aligned to the body as it is now, and the FLOPs it took."""
        device, flops = self._body.piece.model.device, 0.0
        samples = []
        for upload in self._uploads[ticket.client]:
            assert upload.hidden is not None
            assert upload.labels is not None
            context = {name: tensor.to(device) for name, tensor in upload.context.items()}
            hidden_BTD = unpack(upload.hidden.to(device), context.get("mask"))
            labels = upload.labels.to(device)
            step = self._body.compute(ticket.position, hidden_BTD, context, labels, wants_hidden_grad=True)
            assert step.hidden_grad is not None
            flops += step.flops
            samples.append(
                Sample(hidden_BTD=hidden_BTD, context=context, labels=labels, grad_BTD=step.hidden_grad)
            )
        overwrite(trainable(self._scratch), self._auxiliaries[ticket.client])
        if not self._aligned_in[ticket.client]:
            overwrite(trainable(self._scratch), self._shared())
        flops += align(self._scratch, samples, self._settings.align_passes, self._lr)
        return _Aligned(tensors=_snapshot(self._scratch)), flops

    def _shared(self) -> dict[str, Tensor]:
        """The body's tensors that an auxiliary has, too."""
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
    """This client's side, with an auxiliary that only the server trains."""
    learner = ClientTrainer.of(pieces.head(), config)
    return SageClient(learner, pieces.auxiliary(), batches, steps, config.method.of(SageSettings))


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with an auxiliary for each client."""
    body, clients = ServerModel.of(pieces.body(), config), config.federation.clients
    heads, settings = ClientAdapters.of(config, pieces.head), config.method.of(SageSettings)
    return SageServer(body, heads, pieces.auxiliary(), clients, settings, config.train.body_lr)


_FSLSAGE = """@inproceedings{nair2025fslsage,
  title = {{FSL-SAGE}: Accelerating Federated Split Learning via Smashed Activation Gradient Estimation},
  author = {Nair, Srijith and Lin, Michael and Ju, Peizhong and Talebi, Amirreza and
    Bentley, Elizabeth Serena and Liu, Jia},
  booktitle = {International Conference on Machine Learning},
  year = {2025}
}"""

SPEC = dataclasses.replace(
    cse_fsl.SPEC,
    about="as cse-fsl, with the auxiliary aligned to the server's gradients every l rounds",
    bibtex=(_FSLSAGE, LORA),
    client=client,
    server=server,
    settings=SageSettings,
    local_update=None,
)
