"""`sfl-v2` whose clients are told anew in every round what to do: by which method their head learns, or that
it stands still, where it ends, how many ranks of it learn, how what they send is rounded.

All of these methods have one body, which learns from the activations that come, and one head, whose mean is
taken when a round ends over those who learnt: by `hybrid`, too, clients send it in, since whoever learnt by
another method has no scalars to send. What stands in for the body in `cse-fsl` is averaged with the heads of
those who had it. See `ways` for what a client does by each.

A client holds the deepest head that it may be given, once. In a round it runs the first blocks of it, up to
the plan's cut; the server enters its body there, as among clients that are cut at different depths (see
`uneven`). Ranks that do not learn in a round stay as they are, so with an aggregator that averages one factor
at a time the mean is exact: who sends no rank leaves it where it was. With one plan for all rounds this is
its method with these `federation.client_cuts`.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from splitfl.adapters.residuals import A, B, above, rank_axis
from splitfl.config import RunConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import Activation, Adapter, Begin, Done, Message, Plan, Reply, Skip
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import Aggregator
from splitfl.methods.cse_fsl import Backprop
from splitfl.methods.local_updates import ByAuxiliary, ByGradient, FrozenHead, LocalUpdate, ZerothOrder
from splitfl.methods.parts.auxiliary import PREFIX, apart, with_prefix
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.perturbed_parameters import values_of, walk
from splitfl.methods.parts.plan import AUXILIARY, HEARS, STILL
from splitfl.methods.parts.server_model import ServerModel, answer_activation
from splitfl.methods.parts.split_pass import SplitPass
from splitfl.methods.parts.zeroth_order_client import ZerothOrderClient
from splitfl.methods.per_client_cut import UnevenServer, entered, enters
from splitfl.models.cut import Piece
from splitfl.models.families import block_index


class PlannedClient:
    """Runs as much of its head as it is told, and learns as much of that, in the way that it is told."""

    def __init__(
        self,
        learner: ClientTrainer,
        heads: Mapping[int, Piece],
        ways: Mapping[tuple[str, int], LocalUpdate],
        rates: Mapping[str, float],
        batches: Batches,
        steps: int,
    ) -> None:
        """`heads` are those up to each cut that a plan may name, all of the learner's own tensors.

        `ways` are by method and cut; by a method that is in `rates` the head learns at that rate.
        """
        self._learner = learner
        self._heads = heads
        self._ways = ways
        self._rates = rates
        self._batches = batches
        self._steps = range(steps)
        self.take_flops = learner.take_flops
        self.state = learner.state
        self.restore = learner.restore

    def round(self, round_index: int) -> ClientRound:
        """Where the plan never comes, the whole round is skipped: another one would meet the wrong body."""
        reply = yield self._learner.begin(round_index, len(self._steps) + 1)
        plan = reply.plan if isinstance(reply, Done | Adapter) else None
        if plan is None:
            for _ in range(len(self._steps) + 1):
                yield Skip()
            return
        way = self._way(plan)
        self._learner.rank = plan.rank
        self._learner.enter(reply, round_index, self._rates.get(plan.method))
        way.begins(plan, round_index)
        samples = yield from self._talk(way, self._heads[plan.cut], round_index)
        update = self._learner.upload(round_index, samples)
        yield replace(update, tensors=dict(self._sent(update.tensors, plan)))

    def _way(self, plan: Plan) -> LocalUpdate:
        for what, got, known in (
            ("cuts", plan.cut, sorted(self._heads)),
            ("methods", plan.method, sorted({name for name, _ in self._ways})),
        ):
            if got not in known:
                raise WireError(f"a plan must name one of the {what} {', '.join(map(str, known))}, got {got}")
        return self._ways[plan.method, plan.cut]

    def _talk(self, way: LocalUpdate, head: Piece, round_index: int) -> Generator[Message, Reply, int]:
        """The steps of a round; the samples learnt from."""
        samples = 0
        for step in self._steps:
            batch = self._batches.batch(round_index * len(self._steps) + step).to(head.model.device)
            context = head.context_of(batch.inputs)
            hidden = way.shows(batch, context, round_index, step)
            if step % way.upload_interval:
                reply = yield Skip()
            else:
                reply = yield Activation(
                    ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels
                )
            samples += len(batch.ids_B) * way.hears(reply, context)
        return samples

    def _sent(self, tensors: Mapping[str, Tensor], plan: Plan) -> Generator[tuple[str, Tensor], None, None]:
        """Of what this client holds, what has learnt."""
        if plan.method == STILL:
            return
        for name, value in tensors.items():
            if name.startswith(PREFIX):
                if plan.method == AUXILIARY:
                    yield name, value
                continue
            block = block_index(self._learner.piece.family, name)
            if block is None or block < plan.cut:
                is_ranked = name.endswith((A, B)) and value.shape[rank_axis(name)] > plan.rank
                yield name, value.narrow(rank_axis(name), 0, plan.rank).contiguous() if is_ranked else value


class PlannedServer(UnevenServer):
    """Enters the body where each ticket's plan says, and hands the plan out as a round begins."""

    def __init__(
        self,
        body: ServerModel,
        entries: Mapping[int, Piece],
        held: Sequence[int],
        heads: ClientAdapters,
        rule: Aggregator,
        start: Mapping[str, Tensor],
    ) -> None:
        """`held` says how deep each client's head is at most, `start` what all heads begin with."""
        super().__init__(body, entries, held, heads, rule)
        self._start = start

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Skip():
                return ServerReply(reply=Done())
            case Adapter():
                return super().compute(ticket, self._whole(message))
        outcome = super().compute(ticket, message)
        if isinstance(message, Begin) and isinstance(outcome.reply, Done | Adapter):
            return replace(outcome, reply=replace(outcome.reply, plan=_plan(ticket)))
        return outcome

    def trained(self) -> Mapping[str, Tensor]:
        return apart(self._heads.tensors)[0] | self._body.trained()

    def _cut(self, ticket: Turn) -> int:
        return _plan(ticket).cut

    def _learn(self, ticket: Turn, message: Activation) -> ServerReply:
        plan = _plan(ticket)
        return answer_activation(
            self._body, ticket, message, self._entries[plan.cut], is_waited_for=plan.method in HEARS
        )

    def _whole(self, update: Adapter) -> Adapter:
        """The update with the ranks that its client left as they were."""
        tensors = {}
        for name, value in update.tensors.items():
            known = self._heads.tensors.get(name, self._start.get(name))
            if known is None:
                raise WireError(f"an update names {name!r}, which no head has")
            tensors[name] = value
            if name.endswith((A, B)):
                axis = rank_axis(name)
                tensors[name] = torch.cat([value, *above({name: known}, value.shape[axis])], dim=axis)
        return replace(update, tensors=tensors)


def _plan(ticket: Turn) -> Plan:
    assert ticket.plan is not None, "the server_loop plans every turn of such a run"
    return ticket.plan


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The head up to each cut that a plan may name, and a local update for each of the methods."""
    auto, settings, own = config.auto, config.method, config.partition.cut
    auxiliary = pieces.auxiliary() if AUXILIARY in auto.methods else None
    learner = ClientTrainer.of(pieces.head(), config, auxiliary, PREFIX)
    heads = {cut: enters(learner.piece, pieces.head(cut)) for cut in auto.cuts if cut < own}
    heads[own] = learner.piece
    rates = dict(zip(auto.methods, auto.head_lrs, strict=False))
    updates: dict[tuple[str, int], LocalUpdate] = {}
    for cut, head in heads.items():
        passes = SplitPass(learner, settings, head)
        for name in auto.methods:
            match name:
                case "sfl-v2":
                    updates[name, cut] = ByGradient(learner, passes)
                case "cse-fsl":
                    assert auxiliary is not None
                    learn = Backprop(learner, auxiliary, settings, head)
                    updates[name, cut] = ByAuxiliary(learn, settings.upload_interval)
                case "hybrid":
                    moving = walk(values_of(head), config, rates.get(name))
                    walker = ZerothOrderClient(head, batches.client, settings, moving)
                    updates[name, cut] = ZerothOrder(learner, walker, moving)
                case "frozen":
                    updates[name, cut] = FrozenHead(passes)
    return PlannedClient(learner, heads, updates, rates, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with what all heads begin with."""
    deepest = max(config.federation.client_cuts)
    held = values_of(pieces.head(deepest))
    if AUXILIARY in config.auto.methods:
        held |= with_prefix(values_of(pieces.auxiliary()))
    start = {name: value.cpu().clone() for name, value in held.items()}
    return PlannedServer(*entered(pieces, config, {cut for cut in config.auto.cuts if cut <= deepest}), start)
