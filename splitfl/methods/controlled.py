"""`sfl-v2` under a controller, which assigns each client a plan for every round.

A plan has the method that trains the head (or freezes it), the cut, the number of trained ranks, and the
codec. All of these methods have one body, trained on the activations received, and one head, averaged at the
end of a round over the clients that trained it: clients with `hybrid` upload it too, since replays of scalars
would miss the updates of other methods. The auxiliary model of `cse-fsl` is averaged over the clients that
used it. The local training of each method is the `local_update` of its specification.

A client holds its deepest possible head once and runs the blocks below the plan's cut; the server runs the
body from there on, as for clients cut at different depths (see `per_client_cut`). Ranks that a plan does not
train keep their values, so the mean is exact with an aggregator that averages one factor at a time. With the
same plan in all rounds this equals its method with these `federation.client_cuts`.
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
    """Runs and trains its head up to the cut and rank, and with the method, of each round's plan."""

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
        """`heads` has the head for each possible cut, made of the trainer's tensors.

        `updates` are by method and cut; `rates` are the head's learning rates of methods with their own.
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
        """Skips the whole round if the plan is lost: the server would run the body from another cut."""
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
        """The tensors, and ranks of them, that the plan trained."""
        spec = self._specs[plan.method]
        if not spec.trains_head:
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
    """Runs the body from the cut of each turn's plan, and sends the plan at the start of a round."""

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
        """`held` has the deepest cut of each client, `start` the initial tensors of the heads.

        Clients with one of the `gradient_methods` receive the gradient at the cut.
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
        """The update, completed by the current values of the ranks that the client did not train."""
        tensors = {}
        for name, value in update.tensors.items():
            known = self._client_adapters.tensors.get(name, self._start.get(name))
            if known is None:
                raise WireError(f"an update must name tensors of the heads, got {name!r}")
            tensors[name] = value
            if name.endswith((A, B)):
                axis = rank_axis(name)
                tensors[name] = torch.cat([value, *above({name: known}, value.shape[axis])], dim=axis)
        return replace(update, tensors=tensors)


def _plan(turn: Turn) -> Plan:
    assert turn.plan is not None, "a controlled run has a plan for every turn"
    return turn.plan


def client(
    pieces: Pieces, batches: Batches, steps: int, config: RunConfig, specs: Mapping[str, LocalUpdateSpec]
) -> ClientMethod:
    """The client's side: a head for each possible cut, and a local update for each method and cut."""
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
    """The server's side, with the initial tensors of the heads."""
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
