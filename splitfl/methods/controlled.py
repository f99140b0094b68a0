"""`sfl-v2` whose clients are told anew in every round what to do: by which method their head learns, or that
it stands still, where it ends, how many ranks of it learn, how what they send is rounded.

All of these methods have one body, which learns from the activations that come, and one head, whose mean is
taken when a round ends over those who learnt: by `hybrid`, too, clients send it in, since whoever learnt by
another method has no scalars to send. What stands in for the body in `cse-fsl` is averaged with the heads of
those who had it. What a client does by each is the `local_update` of the method's specification.

A client holds the deepest head that it may be given, once. In a round it runs the first blocks of it, up to
the plan's cut; the server enters its body there, as among clients that are cut at different depths (see
`per_client_cut`). Ranks that do not learn in a round stay as they are, so with an aggregator that averages
one factor at a time the mean is exact: an update without a rank leaves it where it was. With one plan for all
rounds this is its method with these `federation.client_cuts`.
"""

from collections.abc import Container, Generator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from splitfl.adapters.residuals import A, B, above, rank_axis
from splitfl.config import RunConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import Activation, Adapter, Begin, Done, Message, Plan, Skip
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import Aggregator
from splitfl.methods.parts.auxiliary import PREFIX, split_auxiliary, with_prefix
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.local_update import LocalParts, LocalUpdate, LocalUpdateSpec, local_steps
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.perturbed_parameters import values_of
from splitfl.methods.parts.server_model import ServerModel, answer_activation
from splitfl.methods.per_client_cut import PerClientCutServer, server_parts, share_parameters
from splitfl.models.cut import Piece
from splitfl.models.families import block_index


class ControlledClient:
    """Runs as much of its head as it is told, and learns as much of that, by the method that it is told."""

    def __init__(
        self,
        trainer: ClientTrainer,
        heads: Mapping[int, Piece],
        updates: Mapping[tuple[str, int], LocalUpdate],
        specs: Mapping[str, LocalUpdateSpec],
        rates: Mapping[str, float],
        batches: Batches,
        steps: int,
    ) -> None:
        """`heads` are those up to each cut that a plan may name, all of the trainer's own tensors.

        `updates` are by method and cut; by a method that is in `rates` the head learns at that rate.
        """
        self._trainer = trainer
        self._heads = heads
        self._updates = updates
        self._specs = specs
        self._rates = rates
        self._batches = batches
        self._steps = steps
        self.take_flops = trainer.take_flops
        self.state = trainer.state
        self.restore = trainer.restore

    def round(self, round_index: int) -> ClientRound:
        """Where the plan never comes, the whole round is skipped: another one would meet the wrong body."""
        reply = yield self._trainer.begin(round_index, self._steps + 1)
        plan = reply.plan if isinstance(reply, Done | Adapter) else None
        if plan is None:
            for _ in range(self._steps + 1):
                yield Skip()
            return
        update, head = self._update(plan), self._heads[plan.cut]
        self._trainer.rank = plan.rank
        self._trainer.start_round(reply, round_index, self._rates.get(plan.method))
        update.begin(round_index, plan.rank)
        samples = yield from local_steps(
            update, head, self._batches, self._steps, round_index, in_place_of_upload=Skip()
        )
        sent = self._trainer.upload(round_index, samples)
        yield replace(sent, tensors=dict(self._sent(sent.tensors, plan)))

    def _update(self, plan: Plan) -> LocalUpdate:
        for what, got, known in (
            ("cuts", plan.cut, sorted(self._heads)),
            ("methods", plan.method, sorted(self._specs)),
        ):
            if got not in known:
                raise WireError(f"a plan must name one of the {what} {', '.join(map(str, known))}, got {got}")
        return self._updates[plan.method, plan.cut]

    def _sent(self, tensors: Mapping[str, Tensor], plan: Plan) -> Generator[tuple[str, Tensor], None, None]:
        """Of what this client holds, what has learnt."""
        spec = self._specs[plan.method]
        if not spec.learns:
            return
        for name, value in tensors.items():
            if name.startswith(PREFIX):
                if spec.needs_auxiliary:
                    yield name, value
                continue
            block = block_index(self._trainer.piece.family, name)
            if block is None or block < plan.cut:
                is_ranked = name.endswith((A, B)) and value.shape[rank_axis(name)] > plan.rank
                yield name, value.narrow(rank_axis(name), 0, plan.rank).contiguous() if is_ranked else value


class ControlledServer(PerClientCutServer):
    """Enters the body where each ticket's plan says, and hands the plan out as a round begins."""

    def __init__(
        self,
        body: ServerModel,
        entries: Mapping[int, Piece],
        held: Sequence[int],
        client_adapters: ClientAdapters,
        rule: Aggregator,
        start: Mapping[str, Tensor],
        gradient_methods: Container[str],
    ) -> None:
        """`held` says how deep each client's head is at most, `start` what all heads begin with.

        By the methods in `awaiting` clients learn from the gradient that is sent down.
        """
        super().__init__(body, entries, held, client_adapters, rule)
        self._start = start
        self._gradient_methods = gradient_methods

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Skip():
                return ServerReply(reply=Done())
            case Adapter():
                return super().compute(turn, self._whole(message))
        answer = super().compute(turn, message)
        if isinstance(message, Begin) and isinstance(answer.reply, Done | Adapter):
            return replace(answer, reply=replace(answer.reply, plan=_plan(turn)))
        return answer

    def trained(self) -> Mapping[str, Tensor]:
        return split_auxiliary(self._client_adapters.tensors)[0] | self._body.trained()

    def _cut(self, turn: Turn) -> int:
        return _plan(turn).cut

    def _train_step(self, turn: Turn, message: Activation) -> ServerReply:
        plan = _plan(turn)
        return answer_activation(
            self._body,
            turn,
            message,
            self._entries[plan.cut],
            wants_gradient=plan.method in self._gradient_methods,
        )

    def _whole(self, update: Adapter) -> Adapter:
        """The update with the ranks that its client left as they were."""
        tensors = {}
        for name, value in update.tensors.items():
            known = self._client_adapters.tensors.get(name, self._start.get(name))
            if known is None:
                raise WireError(f"an update names {name!r}, which no head has")
            tensors[name] = value
            if name.endswith((A, B)):
                axis = rank_axis(name)
                tensors[name] = torch.cat([value, *above({name: known}, value.shape[axis])], dim=axis)
        return replace(update, tensors=tensors)


def _plan(turn: Turn) -> Plan:
    assert turn.plan is not None, "the server_loop plans every turn of such a run"
    return turn.plan


def client(
    pieces: Pieces, batches: Batches, steps: int, config: RunConfig, specs: Mapping[str, LocalUpdateSpec]
) -> ClientMethod:
    """The head up to each cut that a plan may name, and the local update of each of the methods for each."""
    auto, own = config.auto, config.partition.cut
    auxiliary = pieces.auxiliary() if _need_auxiliary(specs) else None
    trainer = ClientTrainer.of(pieces.head(), config, auxiliary, PREFIX)
    heads = {cut: share_parameters(trainer.piece, pieces.head(cut)) for cut in auto.cuts if cut < own}
    heads[own] = trainer.piece
    rates = dict(zip(auto.methods, auto.head_lrs, strict=False))
    updates = {
        (name, cut): spec.make(
            LocalParts(
                trainer=trainer,
                head=head,
                auxiliary=auxiliary,
                client=batches.client,
                config=config,
                head_lr=rates.get(name),
            )
        )
        for cut, head in heads.items()
        for name, spec in specs.items()
    }
    return ControlledClient(trainer, heads, updates, specs, rates, batches, steps)


def server(pieces: Pieces, config: RunConfig, specs: Mapping[str, LocalUpdateSpec]) -> ServerMethod:
    """The server's side, with what all heads begin with."""
    deepest = max(config.federation.client_cuts)
    held = values_of(pieces.head(deepest))
    if _need_auxiliary(specs):
        held |= with_prefix(values_of(pieces.auxiliary()))
    start = {name: value.cpu().clone() for name, value in held.items()}
    gradient_methods = {name for name, spec in specs.items() if spec.awaits_gradient}
    entries = server_parts(pieces, config, {cut for cut in config.auto.cuts if cut <= deepest})
    return ControlledServer(*entries, start, gradient_methods)


def _need_auxiliary(specs: Mapping[str, LocalUpdateSpec]) -> bool:
    return any(spec.needs_auxiliary for spec in specs.values())
