"""`cse-fsl`: the client learns from an auxiliary's loss, the server from every q-th activation.

CSE-FSL (Mu & Shen, arXiv 2302.05599) with low-rank adapters: head and auxiliary are
trained together, on the client alone; the first batch of every `method.upload_interval`
goes up, and nothing comes down but acknowledgements. The server has one body for all.
Head and auxiliary are averaged once a round.
"""

# B batch, T tokens, D hidden

from collections.abc import Generator, Mapping

from torch import Tensor

from splitfl.data.loader import Batches
from splitfl.messages import Activation, Control, Message, Reply
from splitfl.methods.auxiliary import apart
from splitfl.methods.body import Body
from splitfl.methods.heads import Heads
from splitfl.methods.learner import Learner, pack, unpack
from splitfl.methods.seam import ClientRound, Outcome, Ticket
from splitfl.partition.cut import Piece
from splitfl.state import State, part, under


class CseClient:
    """Runs head and auxiliary; the learner holds both."""

    def __init__(
        self, learner: Learner, auxiliary: Piece, batches: Batches, steps: int, upload_interval: int
    ) -> None:
        self._local = Local(learner, auxiliary, batches, steps, upload_interval)
        self._learner = learner
        self.take_flops = learner.take_flops

    def round(self, round_index: int) -> ClientRound:
        begin = self._learner.begin(round_index, self._local.uploads + 1)
        self._learner.enter((yield begin), round_index)
        samples = yield from self._local.steps(round_index)
        yield self._learner.upload(round_index, samples)

    def state(self) -> State:
        return self._learner.state()

    def restore(self, state: State) -> None:
        self._learner.restore(state)


class Local:
    """A head that learns from its auxiliary's loss, and shows the server every q-th activation."""

    def __init__(
        self, learner: Learner, auxiliary: Piece, batches: Batches, steps: int, upload_interval: int
    ) -> None:
        self._learner = learner
        self._auxiliary = auxiliary
        self._batches = batches
        self._steps = range(steps)
        self._uploaded = self._steps[::upload_interval]

    @property
    def uploads(self) -> int:
        """How many activations go up in a round."""
        return len(self._uploaded)

    def steps(self, round_index: int) -> Generator[Message, Reply, int]:
        """The steps of a round; the samples learnt from."""
        learner, head, samples = self._learner, self._learner.piece, 0
        for step in self._steps:
            batch = self._batches.batch(round_index * len(self._steps) + step).to(head.model.device)
            hidden_BTD = head(batch.inputs, {})
            context = head.context_of(batch.inputs)
            self._auxiliary(hidden_BTD, context, batch.labels).loss.backward()
            learner.step()
            learner.flops += learner.cost(hidden_BTD.shape).step_flops
            learner.flops += learner.cost(hidden_BTD.shape, self._auxiliary).step_flops
            samples += len(batch.ids_B)
            if step in self._uploaded:  # what becomes of it changes nothing here
                hidden = pack(hidden_BTD.detach(), context.get("mask"))
                yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels)
        return samples


class CseServer:
    """Runs the body on whatever comes; averages heads and auxiliaries."""

    def __init__(self, body: Body, upload_interval: int) -> None:
        self._body = body
        self._interval = upload_interval
        self._heads = Heads("cse-fsl")

    def compute(self, ticket: Ticket, message: Message) -> Outcome:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return acknowledge(self._body, ticket, message, self._interval)
        return self._heads.answer(ticket, message)

    def commit(self, ticket: Ticket, outcome: Outcome | None) -> None:
        self._body.commit(ticket.position, self._heads.take(outcome))

    def end_round(self, round_index: int) -> None:
        self._heads.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return apart(self._heads.tensors)[0] | self._body.trained()

    def state(self) -> State:
        return under("body", self._body.state()) | under("heads", self._heads.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._heads.restore(part(state, "heads"))


def acknowledge(body: Body, ticket: Ticket, message: Activation, upload_interval: int) -> Outcome:
    """The body's step on a client's activations, of which the client hears nothing."""
    assert message.hidden is not None
    assert message.labels is not None
    hidden_BTD = unpack(message.hidden, message.context.get("mask")).to(body.piece.model.device)
    step = body.compute(ticket.position, hidden_BTD, message.context, message.labels, wants_hidden_grad=False)
    return Outcome(
        reply=Control(ask="done", round=ticket.round),
        flops=step.flops,
        losses=(step.loss,),
        samples=len(message.ids_B),
        step=(ticket.lap - 1) * upload_interval,
        change=step,
    )
