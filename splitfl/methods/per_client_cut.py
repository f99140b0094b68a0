"""`sfl-v2` with clients cut at different depths: one body, run from each client's cut on.

A block between two cuts is held by the clients cut above it and, for clients cut below it, by the server. At
the end of a round its adapters are averaged over all holders, weighted by samples: the server's copy counts
with the samples of the clients whose activations it processed. Tensors that the aggregator freezes in a round
are frozen in the body too, so that the mean is exact. With one client a step equals the unsplit model's,
wherever it is cut.
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


class PerClientCutServer:
    """Trains the body from each client's cut on; the client is that of `sfl-v2`."""

    def __init__(
        self,
        body: ServerModel,
        entries: Mapping[int, Piece],
        cuts: Sequence[int],
        client_adapters: ClientAdapters,
        rule: Aggregator,
    ) -> None:
        """`entries` has the body from each cut on, made of the body's tensors; `cuts` is by client."""
        self._body = body
        self._entries = entries
        self._cuts = cuts
        self._client_adapters = client_adapters
        self._rule = rule
        self._samples_by_cut: Counter[int] = Counter()  # of this round, by the sender's cut
        self._begin(0)

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return self._train_step(turn, message)
        answer = self._client_adapters.answer(turn, message)
        if isinstance(answer.reply, Adapter):
            held = {n: v for n, v in answer.reply.tensors.items() if self._is_held(n, turn.client)}
            return replace(answer, reply=replace(answer.reply, tensors=held))
        return answer

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._client_adapters.receive(change)
        step = change if isinstance(change, BodyStep) else None
        if reply is not None and step is not None:
            self._samples_by_cut[self._cut(turn)] += reply.samples
        self._body.commit(turn, step)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        for update in self._own(round_index):
            self._client_adapters.receive(update)
        self._client_adapters.end_round()
        shared = {
            name: value
            for name, value in self._client_adapters.tensors.items()
            if name in self._body.trained()
        }
        self._body.load(shared)
        self._samples_by_cut.clear()
        self._begin(round_index + 1)

    def trained(self) -> Mapping[str, Tensor]:
        return self._client_adapters.tensors | self._body.trained()

    def state(self) -> State:
        held = under("body", self._body.state()) | under("heads", self._client_adapters.state())
        return held | {"round": whole(self._round)}

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._client_adapters.restore(part(state, "heads"))
        self._samples_by_cut.clear()
        self._begin(number_in(state, "round"))

    def _cut(self, turn: Turn) -> int:
        """The cut of the message's sender."""
        return self._cuts[turn.client]

    def _train_step(self, turn: Turn, message: Activation) -> ServerReply:
        return answer_activation(self._body, turn, message, self._entries[self._cut(turn)])

    def _begin(self, round_index: int) -> None:
        self._round = round_index
        highest = max(self._cuts)
        self._body.train_only(
            lambda name: self._block(name) >= highest or self._rule.trains(name, round_index)
        )

    def _own(self, round_index: int) -> list[Adapter]:
        """The server's updates of the blocks between each cut and the next, one update for each."""
        found = []
        for lower, upper in pairwise(sorted({*self._entries, max(self._cuts)})):
            samples = sum(n for cut, n in self._samples_by_cut.items() if cut <= lower)
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
        """The index of a tensor's block; infinity for tensors above all blocks."""
        index = block_index(self._body.piece.family, name)
        return float("inf") if index is None else index


def share_parameters(body: Piece, entry: Piece) -> Piece:
    """Replaces parameters of `entry` by those of `body` with the same names; returns `entry`."""
    own = dict(body.model.named_parameters())
    for prefix, module in entry.model.named_modules():
        for name, value in module._parameters.items():
            other = own.get(f"{prefix}.{name}" if prefix else name)
            if value is not None and other is not None:
                module._parameters[name] = other
    return entry


def refuse_cuts(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for cuts out of range, and for settings that exclude `federation.client_cuts`."""
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
            f"partition.cut must be the lowest of federation.client_cuts, where the server's body begins: "
            f"set it to {lowest}, got {config.partition.cut}"
        )
    head, body = config.adapter.head, config.adapter.body
    if head != body or value_of(head, "ranks") or trains_all(head):
        raise ConfigError(
            "adapter.head and adapter.body must be the same with federation.client_cuts, since clients and "
            "the server hold the same blocks, without ranks per block, and of a kind that adds adapters"
        )
    for setting, got, must in (
        ("federation.client_ranks", federation.client_ranks, ()),
        ("federation.robust", federation.robust, "none"),
        ("federation.server_optimiser", federation.server_optimiser, "none"),
        ("analog.sum_adapters", config.analog.sum_adapters, False),
        ("method.in_flight", config.method.in_flight, 1),
        ("method.server_batch", config.method.server_batch, 1),
    ):
        if got != must:
            raise ConfigError(f"{setting} must be {must!r} with federation.client_cuts, got {got!r}")
    if federation.aggregator not in ("rolora", "ffa", "mean"):
        raise ConfigError(
            "federation.aggregator must be 'rolora', 'ffa' or 'mean' with federation.client_cuts, got "
            f"{federation.aggregator!r}, whose residuals only the clients hold"
        )
    if at_own_pace(federation):
        raise ConfigError(
            f"federation.client_cuts does not support federation.schedule {federation.schedule!r}: blocks "
            "that the server holds too are averaged when all clients have finished a round"
        )


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side of `sfl-v2` with `federation.client_cuts`."""
    return PerClientCutServer(*server_parts(pieces, config, set(config.federation.client_cuts)))


def server_parts(
    pieces: Pieces, config: RunConfig, cuts: Set[int]
) -> tuple[ServerModel, dict[int, Piece], Sequence[int], ClientAdapters, Aggregator]:
    """The arguments of `PerClientCutServer`, with the body from each of these cuts on."""
    body, client_adapters = ServerModel.of(pieces.body(), config), ClientAdapters.of(config, pieces.head)
    entries = {cut: share_parameters(body.piece, pieces.body(cut)) for cut in sorted(cuts)}
    rule = aggregator(config.federation.aggregator)
    return body, entries, config.federation.client_cuts, client_adapters, rule
