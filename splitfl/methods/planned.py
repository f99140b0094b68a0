"""`sfl-v2` whose clients are told anew in every round what to do: learn or stand still, where their head
ends, how many ranks of it learn, how what they send is rounded.

A client holds the deepest head that it may be given, once. In a round it runs the first blocks of it, up to
the plan's cut; the server enters its body there, as among clients that are cut at different depths (see
`uneven`). Ranks that do not learn in a round stay as they are, so with an aggregator that averages one factor
at a time the mean is exact: who sends no rank leaves it where it was. With one plan for all rounds this is
`sfl-v2` with these `federation.client_cuts`.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from splitfl.config import MethodConfig
from splitfl.data.loader import Batches
from splitfl.errors import WireError
from splitfl.federation.aggregate import Aggregator
from splitfl.low_rank import A, B, rank_axis
from splitfl.messages import Activation, Adapter, Control, Gradient, Message, Reply
from splitfl.methods.body import Body
from splitfl.methods.heads import Heads
from splitfl.methods.learner import Learner, pack, unpack
from splitfl.methods.passes import Passes
from splitfl.methods.plan import Plan
from splitfl.methods.seam import ClientRound, Outcome, Ticket
from splitfl.methods.sfl_v2 import answer
from splitfl.methods.uneven import UnevenServer
from splitfl.partition.cut import Piece
from splitfl.partition.families import block_index


class PlannedClient:
    """Runs as much of its head as it is told, and learns as much of that as it is told."""

    def __init__(
        self,
        learner: Learner,
        heads: Mapping[int, Piece],
        batches: Batches,
        steps: int,
        settings: MethodConfig,
    ) -> None:
        """`heads` are those up to each cut that a plan may name, all of the learner's own tensors."""
        self._learner = learner
        self._heads = heads
        self._passes = {cut: Passes(learner, settings, head) for cut, head in heads.items()}
        self._batches = batches
        self._num_steps = steps
        self.take_flops = learner.take_flops
        self.state = learner.state
        self.restore = learner.restore

    def round(self, round_index: int) -> ClientRound:
        """Where the plan never comes, the whole round is skipped: another one would meet the wrong body."""
        reply = yield self._learner.begin(round_index, self._num_steps + 1)
        plan = Plan.told(reply.values) if isinstance(reply, Control | Adapter) else None
        if plan is None:
            for _ in range(self._num_steps + 1):
                yield Control(ask="skip", round=round_index)
            return
        if plan.cut not in self._heads:
            raise WireError(
                f"a plan must name one of the cuts {', '.join(map(str, self._heads))}, got {plan.cut}"
            )
        self._learner.enter(reply, round_index)
        samples = yield from self._steps(round_index, plan)
        update = self._learner.upload(round_index, samples)
        yield replace(update, tensors={n: v for n, v in self._sent(update.tensors, plan)})

    def _steps(self, round_index: int, plan: Plan) -> Generator[Message, Reply, int]:
        head, passes, learns, samples = self._heads[plan.cut], self._passes[plan.cut], _learns(plan), 0
        for step in range(self._num_steps):
            batch = self._batches.batch(round_index * self._num_steps + step).to(head.model.device)
            hidden_BTD = passes.forth(batch, comes_back=learns)
            context = head.context_of(batch.inputs)
            mask = context.get("mask")
            hidden = pack(hidden_BTD, mask)
            reply = yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels)
            if learns and isinstance(reply, Gradient):
                passes.back(unpack(reply.grad.to(hidden_BTD.device), mask))
                self._learn(plan)
                samples += len(batch.ids_B)
        return samples

    def _learn(self, plan: Plan) -> None:
        """A step, after which the ranks that stand still are what they were before."""
        still = {
            name: _above(value, name, plan.rank)
            for name, value in self._learner.parameters.items()
            if name.endswith((A, B)) and value.shape[rank_axis(name)] > plan.rank
        }
        before = {name: value.detach().clone() for name, value in still.items()}
        self._learner.step()
        with torch.no_grad():
            for name, value in still.items():
                value.copy_(before[name])

    def _sent(self, tensors: Mapping[str, Tensor], plan: Plan) -> Generator[tuple[str, Tensor], None, None]:
        """Of what this client holds, what has learnt."""
        for name, value in tensors.items():
            block = block_index(self._learner.piece.family, name)
            if _learns(plan) and (block is None or block < plan.cut):
                is_ranked = name.endswith((A, B)) and value.shape[rank_axis(name)] > plan.rank
                yield name, value.narrow(rank_axis(name), 0, plan.rank).contiguous() if is_ranked else value


class PlannedServer(UnevenServer):
    """Enters the body where each ticket's plan says, and hands the plan out as a round begins."""

    def __init__(
        self,
        body: Body,
        entries: Mapping[int, Piece],
        held: Sequence[int],
        heads: Heads,
        rule: Aggregator,
        start: Mapping[str, Tensor],
    ) -> None:
        """`held` says how deep each client's head is at most, `start` what all heads begin with."""
        super().__init__(body, entries, held, heads, rule)
        self._start = start

    def compute(self, ticket: Ticket, message: Message) -> Outcome:
        match message:
            case Control(ask="skip"):
                return Outcome(reply=Control(ask="done", round=ticket.round))
            case Adapter():
                return super().compute(ticket, self._whole(message))
        outcome = super().compute(ticket, message)
        if isinstance(message, Control) and isinstance(outcome.reply, Control | Adapter):
            return replace(outcome, reply=replace(outcome.reply, values=_plan(ticket).values()))
        return outcome

    def _cut(self, ticket: Ticket) -> int:
        return _plan(ticket).cut

    def _learn(self, ticket: Ticket, message: Activation) -> Outcome:
        plan = _plan(ticket)
        return answer(self._body, ticket, message, self._entries[plan.cut], is_waited_for=_learns(plan))

    def _whole(self, update: Adapter) -> Adapter:
        """The update with the ranks that its client left as they were."""
        tensors = {}
        for name, value in update.tensors.items():
            known = self._heads.tensors.get(name, self._start.get(name))
            if known is None:
                raise WireError(f"an update names {name!r}, which no head has")
            tensors[name] = value
            if name.endswith((A, B)):
                rank = value.shape[rank_axis(name)]
                tensors[name] = torch.cat([value, _above(known, name, rank)], dim=rank_axis(name))
        return replace(update, tensors=tensors)


def _plan(ticket: Ticket) -> Plan:
    assert ticket.plan is not None, "the station plans every turn of such a run"
    return ticket.plan


def _learns(plan: Plan) -> bool:
    return plan.method != "frozen"


def _above(value: Tensor, name: str, rank: int) -> Tensor:
    """The ranks of a factor from this one on."""
    axis = rank_axis(name)
    return value.narrow(axis, rank, value.shape[axis] - rank)
