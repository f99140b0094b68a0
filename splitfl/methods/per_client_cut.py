"""`sfl-v2` among clients that are cut at different depths: one body, entered where each client ends.

A block between two cuts is held by the clients that are cut above it and, for those cut below it, by
the server. When a round ends its adapters become the mean over all who hold it, as every tensor's do:
a client counts with its samples, the server with those of the clients whose activations went through
its own copy. What a rule of aggregation keeps still in a round it keeps still there, too, so that the
mean is what the rule says. With one client this is the unsplit model's step, wherever it is cut.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from splitfl.adapters.registry import trains_all
from splitfl.config import RunConfig, value_of
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Adapter, Message
from splitfl.core.state import State, number_in, part, under, whole
from splitfl.federation.aggregators import Aggregator, aggregator
from splitfl.federation.staleness import at_own_pace
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.method import Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.server_model import BodyStep, ServerModel, answer_activation
from splitfl.models.cut import Piece
from splitfl.models.families import block_index


class UnevenServer:
    """Runs the body from each client's cut on; the client is that of `sfl-v2`."""

    def __init__(
        self,
        body: ServerModel,
        entries: Mapping[int, Piece],
        cuts: Sequence[int],
        heads: ClientAdapters,
        rule: Aggregator,
    ) -> None:
        """`entries` are the body from each of the cuts on, with the body's own tensors."""
        self._body = body
        self._entries = entries
        self._cuts = cuts
        self._heads = heads
        self._rule = rule
        self._entered: Counter[int] = Counter()  # samples of this round, by the cut at which they came in
        self._begin(0)

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return self._learn(ticket, message)
        outcome = self._heads.answer(ticket, message)
        if isinstance(outcome.reply, Adapter):
            held = {n: v for n, v in outcome.reply.tensors.items() if self._is_held(n, ticket.client)}
            return replace(outcome, reply=replace(outcome.reply, tensors=held))
        return outcome

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        step = self._heads.take(outcome)
        if outcome is not None and isinstance(step, BodyStep):
            self._entered[self._cut(ticket)] += outcome.samples
        self._body.commit(ticket, step)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        for update in self._own(round_index):
            self._heads.receive(update)
        self._heads.end_round()
        shared = {name: value for name, value in self._heads.tensors.items() if name in self._body.trained()}
        self._body.become(shared)
        self._entered.clear()
        self._begin(round_index + 1)

    def trained(self) -> Mapping[str, Tensor]:
        return self._heads.tensors | self._body.trained()

    def state(self) -> State:
        held = under("body", self._body.state()) | under("heads", self._heads.state())
        return held | {"round": whole(self._round)}

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._heads.restore(part(state, "heads"))
        self._entered.clear()
        self._begin(number_in(state, "round"))

    def _cut(self, ticket: Turn) -> int:
        """Where the head of this message's sender ends."""
        return self._cuts[ticket.client]

    def _learn(self, ticket: Turn, message: Activation) -> ServerReply:
        return answer_activation(self._body, ticket, message, self._entries[self._cut(ticket)])

    def _begin(self, round_index: int) -> None:
        self._round = round_index
        highest = max(self._cuts)
        self._body.train_only(
            lambda name: self._block(name) >= highest or self._rule.trains(name, round_index)
        )

    def _own(self, round_index: int) -> list[Adapter]:
        """The server's part in the blocks between one cut and the next, a part for each."""
        found = []
        for lower, upper in pairwise(sorted({*self._entries, max(self._cuts)})):
            samples = sum(n for cut, n in self._entered.items() if cut <= lower)
            tensors = {
                name: value
                for name, value in self._body.trained().items()
                if lower <= self._block(name) < upper and self._rule.trains(name, round_index)
            }
            found.append(Adapter(version=round_index, samples=samples, tensors=tensors))
        return found

    def _is_held(self, name: str, client: int) -> bool:
        return name not in self._body.trained() or self._block(name) < self._cuts[client]

    def _block(self, name: str) -> float:
        """The block that a tensor is of; above all blocks for what stands on them."""
        index = block_index(self._body.piece.family, name)
        return float("inf") if index is None else index


def enters(body: Piece, entry: Piece) -> Piece:
    """The second piece, with the parameters of the first in the place of its own of the same names."""
    own = dict(body.model.named_parameters())
    for prefix, module in entry.model.named_modules():
        for name, value in module._parameters.items():
            other = own.get(f"{prefix}.{name}" if prefix else name)
            if value is not None and other is not None:
                module._parameters[name] = other
    return entry


def refuse_cuts(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for cuts that cannot be, and for settings that do not go with several."""
    federation, cuts = config.federation, config.federation.client_cuts
    if not cuts:
        return
    for cut in cuts:
        if not 1 <= cut < num_blocks:
            raise ConfigError(
                f"federation.client_cuts must lie in 1..{num_blocks - 1} for a model of {num_blocks} blocks, "
                f"got {cut}"
            )
    lowest = min((*cuts, *(config.auto.cuts if config.auto.every else ())))
    if config.partition.cut != lowest:
        raise ConfigError(
            f"partition.cut is where the server's body begins, at the lowest of federation.client_cuts: "
            f"set it to {lowest}, got {config.partition.cut}"
        )
    head, body = config.adapter.head, config.adapter.body
    if head != body or value_of(head, "ranks") or trains_all(head):
        raise ConfigError(
            "federation.client_cuts lets clients and the server hold the same blocks: adapter.head and "
            "adapter.body must be the same, without ranks of single blocks, and of a kind that adds adapters"
        )
    for setting, got, must in (
        ("federation.client_ranks", federation.client_ranks, ()),
        ("federation.robust", federation.robust, "none"),
        ("federation.server_optimiser", federation.server_optimiser, "none"),
        ("analog.sum_adapters", config.analog.sum_adapters, False),
        ("method.in_flight", config.method.in_flight, 1),
    ):
        if got != must:
            raise ConfigError(f"{setting} must be {must!r} with federation.client_cuts, got {got!r}")
    if federation.aggregator not in ("rolora", "ffa", "mean"):
        raise ConfigError(
            f"federation.client_cuts goes with rolora, ffa and mean, not with federation.aggregator "
            f"{federation.aggregator!r}, whose residuals only the clients hold"
        )
    if at_own_pace(federation):
        raise ConfigError(
            f"federation.client_cuts does not go with federation.schedule {federation.schedule!r}: blocks "
            "that the server holds too are put together when all are done with a round"
        )


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side of `sfl-v2` with `federation.client_cuts`."""
    return UnevenServer(*entered(pieces, config, set(config.federation.client_cuts)))


def entered(
    pieces: Pieces, config: RunConfig, cuts: Set[int]
) -> tuple[ServerModel, dict[int, Piece], Sequence[int], ClientAdapters, Aggregator]:
    """The body, its parts from each of these cuts on, and what else such a server holds."""
    body, heads = ServerModel.of(pieces.body(), config), ClientAdapters.of(config, pieces.head)
    entries = {cut: enters(body.piece, pieces.body(cut)) for cut in sorted(cuts)}
    rule = aggregator(config.federation.aggregator)
    return body, entries, config.federation.client_cuts, heads, rule
