"""`sfl-v2`: basic LoRA on both sides of the cut, one shared body.

SplitFed's second version (Thapa et al., AAAI'22) with low-rank adapters, as SplitLoRA
has it (Lin et al., arXiv 2407.00952). Per step one activation goes up and one gradient
comes down; per round each client's adapter goes up and the federation's comes down.
"""

# B batch, T tokens, D hidden, N real tokens of a batch

from collections.abc import Generator, Mapping

from torch import Tensor

from splitfl.config import MethodConfig
from splitfl.core.messages import Activation, Control, Gradient, Message, Reply
from splitfl.core.state import State, part, under
from splitfl.data.loader import Batches
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer, pack, unpack
from splitfl.methods.parts.method import ClientRound, ServerReply, Turn
from splitfl.methods.parts.server_model import ServerModel
from splitfl.methods.parts.split_pass import SplitPass
from splitfl.models.cut import Piece


class SflClient:
    """Runs the head; learns from the gradient that comes back."""

    def __init__(self, learner: ClientTrainer, batches: Batches, steps: int, settings: MethodConfig) -> None:
        self._learner = learner
        self._passes = SplitPass(learner, settings)
        self._batches = batches
        self._num_steps = steps
        self.take_flops = learner.take_flops
        self.state = learner.state
        self.restore = learner.restore

    def round(self, round_index: int) -> ClientRound:
        return self._learner.round(round_index, self._num_steps + 1, self._steps(round_index))

    def _steps(self, round_index: int) -> Generator[Message, Reply, int]:
        learner, head, samples = self._learner, self._learner.piece, 0
        for step in range(self._num_steps):
            batch = self._batches.batch(round_index * self._num_steps + step).to(head.model.device)
            hidden_BTD = self._passes.forth(batch)
            context = head.context_of(batch.inputs)
            reply = yield Activation(
                ids_B=batch.ids_B,
                hidden=pack(hidden_BTD, context.get("mask")),
                context=context,
                labels=batch.labels,
            )
            if isinstance(reply, Gradient):  # a lost one costs this step, no more
                self._passes.back(unpack(reply.grad.to(hidden_BTD.device), context.get("mask")))
                learner.step()
                samples += len(batch.ids_B)
        return samples


class SflServer:
    """Runs the body on every client's activations in turn; averages the heads' adapters."""

    def __init__(self, body: ServerModel, heads: ClientAdapters) -> None:
        self._body = body
        self._heads = heads

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return answer(self._body, ticket, message)
        return self._heads.answer(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        self._body.commit(ticket.position, self._heads.take(outcome))

    def end_round(self, round_index: int) -> None:
        self._heads.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._heads.tensors | self._body.trained()

    def state(self) -> State:
        return under("body", self._body.state()) | under("heads", self._heads.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._heads.restore(part(state, "heads"))


def answer(
    body: ServerModel,
    ticket: Turn,
    message: Activation,
    entry: Piece | None = None,
    *,
    is_waited_for: bool = True,
) -> ServerReply:
    """The body's step on a client's activations, and the gradient that goes back; see `ServerModel.compute`.

    To a client that does not wait for a gradient none goes.
    """
    assert message.hidden is not None
    assert message.labels is not None
    mask = message.context.get("mask")
    hidden_BTD = unpack(message.hidden, mask).to(body.piece.model.device)
    step = body.compute(
        ticket.position,
        hidden_BTD,
        message.context,
        message.labels,
        wants_hidden_grad=is_waited_for,
        entry=entry,
    )
    reply: Message = Control(ask="done", round=ticket.round)
    if step.hidden_grad is not None:
        reply = Gradient(ids_B=message.ids_B, grad=pack(step.hidden_grad, mask).cpu())
    return ServerReply(
        reply=reply,
        flops=step.flops,
        losses=(step.loss,),
        samples=len(message.ids_B),
        change=step,
    )
