"""Encodes the adapters that cross, around a method that sends and receives whole values.

For each client, both ends hold the adapters of the version that the client has: its initial ones, and what it
decoded since. Only the difference to them is encoded. A reply may be lost, so the server holds both the
version that a client had and the one sent to it, until the client's next `Begin` names one. A client with
another version, such as one that restarted from an older checkpoint, gets whole values, unencoded. The
CRC-32 of the decoded values refuses any other disagreement.

An upload has the difference of the trained values to those held, plus, with error feedback, the error of the
client's last upload that arrived (Seide et al., Interspeech'14; Karimireddy et al., arXiv 1901.09847), times
`codec.error_decay` (SparseLoCo, arXiv 2508.15706). It stays with the client, in float32, in its state. The
way down needs none: the next difference has the error of the one before.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from splitfl.adapters.inject import trainable
from splitfl.config import CodecConfig, RunConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import LOST, Adapter, AdapterDelta, Begin, Done, Message, Reply
from splitfl.core.state import State, copied, numbered, part, tensor_in, under
from splitfl.methods.parts.auxiliary import PREFIX, Auxiliary
from splitfl.methods.parts.method import (
    Batched,
    BatchServer,
    ClientMethod,
    ClientRound,
    Pieces,
    ServerMethod,
    ServerReply,
    Turn,
)
from splitfl.methods.registry import as_client, method
from splitfl.wire.adapter_encoder import AdapterEncoder, Tensors
from splitfl.wire.codec_meter import CodecMeter

log = logging.getLogger(__name__)


def initial_tensors(config: RunConfig, pieces: Pieces) -> dict[str, Tensor]:
    """The tensors that a client trains at the start, on the CPU, by their names in messages."""
    piece = pieces.whole() if "body" in method(config.method.name).holds else pieces.head()
    found: dict[str, Tensor] = dict(trainable(piece))
    if config.partition.tail_blocks:
        found |= trainable(pieces.tail())
    if config.method.find(Auxiliary):
        found |= under(PREFIX.removesuffix("."), trainable(pieces.auxiliary()))
    return copied(found)


class EncodingClient:
    """A client of any method whose adapters are encoded."""

    def __init__(
        self,
        method: ClientMethod,
        held: Tensors,
        codec: CodecConfig,
        *,
        is_estimate: bool = False,
        meter: CodecMeter | None = None,
    ) -> None:
        """`held` are its initial adapters; `meter` measures uploads."""
        self._method = method
        self._held = dict(held)
        self._up = _encoder(codec.adapter_up, is_estimate=is_estimate)
        self._down = _encoder(codec.adapter_down, is_estimate=is_estimate)
        self._feedback = codec.error_decay if codec.error_feedback else 0.0
        self._meter = meter
        self._error: dict[str, Tensor] = {}
        self._version = 0
        self.take_flops = method.take_flops

    def round(self, round_index: int) -> ClientRound:
        steps = self._method.round(round_index)
        message = next(steps)
        while True:
            if isinstance(message, Begin):
                self._version = message.version
            error: Tensors = {}
            if isinstance(message, Adapter) and self._up:
                message, error = self._encoded(self._up, message)
            reply = yield message
            if reply is not LOST:
                self._error |= error
            try:
                message = steps.send(self._received(reply))
            except StopIteration:
                return

    def state(self) -> State:
        codec = under("held", copied(self._held)) | under("error", copied(self._error))
        return under("method", self._method.state()) | under("codec", codec)

    def restore(self, state: State) -> None:
        self._method.restore(part(state, "method"))
        self._held = part(state, "codec.held")
        self._error = part(state, "codec.error")

    def _encoded(self, encoder: AdapterEncoder, update: Adapter) -> tuple[AdapterDelta, Tensors]:
        """The message of an upload, and the error that the next one corrects."""
        made = encoder.sent(
            self._held, update.tensors, self._error, version=update.version, base=self._version
        )
        if self._meter:
            self._meter.rows("adapter_up", made.rows, encoder.codec)
        sent = replace(made.delta, samples=update.samples, losses=update.losses)
        error = {name: self._feedback * value for name, value in made.error.items()}
        return sent, error if self._feedback else {}

    def _received(self, reply: Reply) -> Reply:
        if isinstance(reply, AdapterDelta):
            if self._down is None or reply.base != self._version:
                raise WireError(
                    f"got adapters relative to version {reply.base}, must be relative to {self._version}"
                )
            tensors = self._down.received(self._held, reply)
            reply = Adapter(version=reply.version, tensors=tensors, first_batch=reply.first_batch)
        if isinstance(reply, Adapter):
            self._version = reply.version
            self._held = _replaced(self._held, reply.tensors)
        return reply


@dataclass(frozen=True, kw_only=True, eq=False)
class _Begun:
    """The change of a reply to a `Begin`: what the client may hold from now on, by version."""

    held: Mapping[int, Tensors]
    change: Any


class EncodingServer:
    """A server of any method whose adapters are encoded, with what each client holds."""

    def __init__(
        self,
        method: ServerMethod,
        held: Sequence[Tensors],
        codec: CodecConfig,
        *,
        is_estimate: bool = False,
        meter: CodecMeter | None = None,
    ) -> None:
        """`held` are the initial adapters of each client; `meter` measures what is sent to them."""
        self._method = method
        self._meter = meter
        self._initial = held
        self._up = _encoder(codec.adapter_up, is_estimate=is_estimate)
        self._down = _encoder(codec.adapter_down, is_estimate=is_estimate)
        self._held: list[Mapping[int, Tensors]] = [{0: tensors} for tensors in held]
        # By what a client holds and the version sent, with what is held, so that its id is not used again.
        self._sent: dict[tuple[int, int], tuple[Tensors, AdapterDelta, Tensors]] = {}
        self.trained = method.trained

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Batched]) -> list[ServerReply]:
        """See BatchServer: these messages have no adapters."""
        assert isinstance(self._method, BatchServer), "messages are served together if the method is able to"
        return self._method.compute_batch(turns, messages)

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Begin():
                return self._begin(turn, message)
            case AdapterDelta() if self._up:
                update = self._decoded(self._up, turn, message)
                return self._method.compute(turn, update) if update else ServerReply(reply=Done())
            case Adapter() if self._up:
                raise WireError(f"client {turn.client} must encode its adapters by {self._up.codec!r}")
        return self._method.compute(turn, message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        if reply is not None and isinstance(reply.change, _Begun):
            self._held[turn.client] = reply.change.held
            reply = replace(reply, change=reply.change.change)
        self._method.commit(turn, reply)

    def end_round(self, round_index: int) -> None:
        self._method.end_round(round_index)
        self._sent.clear()

    def state(self) -> State:
        """Tensors that several clients hold are kept once."""
        places: dict[int, int] = {}
        tensors: list[Tensor] = []
        tables = {}
        for client, versions in enumerate(self._held):
            for version, held in versions.items():
                for name in sorted(held):
                    if id(held[name]) not in places:
                        places[id(held[name])] = len(tensors)
                        tensors.append(held[name])
                numbers = [places[id(held[name])] for name in sorted(held)]
                tables[f"{client}.{version}"] = torch.tensor(numbers, dtype=torch.int64)
        kept = copied({str(at): tensor for at, tensor in enumerate(tensors)})
        codec = under("tensor", kept) | under("held", tables)
        return under("method", self._method.state()) | under("codec", codec)

    def restore(self, state: State) -> None:
        self._method.restore(part(state, "method"))
        tensors = part(state, "codec.tensor")
        for client, tables in numbered(part(state, "codec.held")).items():
            names = sorted(self._initial[client])
            self._held[client] = {
                int(version): {
                    name: tensor_in(tensors, str(at)) for name, at in zip(names, table.tolist(), strict=True)
                }
                for version, table in tables.items()
            }
        self._sent.clear()

    def _begin(self, turn: Turn, message: Begin) -> ServerReply:
        """The method's reply, encoded for a client whose adapters are known; else all values, unencoded."""
        held = self._held[turn.client].get(message.version)
        answer = self._method.compute(turn, message if held is not None else replace(message, version=0))
        reply, known = answer.reply, {} if held is None else {message.version: held}
        if isinstance(reply, Adapter):
            if self._down and held is not None:
                reply, known[reply.version] = self._encoded(self._down, held, reply, message.version)
            else:
                before = self._initial[turn.client] if held is None else held
                known[reply.version] = _replaced(before, reply.tensors)
        elif held is None:
            raise WireError(
                f"client {turn.client} has adapters of version {message.version}, which the server never sent"
            )
        return replace(answer, reply=reply, change=_Begun(held=known, change=answer.change))

    def _encoded(
        self, encoder: AdapterEncoder, held: Tensors, reply: Adapter, base: int
    ) -> tuple[AdapterDelta, Tensors]:
        """The message to a client that holds these tensors, and what it holds then.

        They are computed once for all clients that hold the same.
        """
        key = (id(held), reply.version)
        if key not in self._sent:
            sent = encoder.sent(held, reply.tensors, {}, version=reply.version, base=base)
            self._sent[key] = held, sent.delta, {**held, **sent.tensors}
            if self._meter:
                self._meter.rows("adapter_down", sent.rows, encoder.codec)
        _, delta, after = self._sent[key]
        return replace(delta, first_batch=reply.first_batch), after

    def _decoded(self, encoder: AdapterEncoder, turn: Turn, delta: AdapterDelta) -> Adapter | None:
        """The upload; None, with a warning, if the whole values that its client needed were lost."""
        held = self._held[turn.client].get(delta.base)
        if held is None:
            log.warning("ignored an update of client %d from unknown version %d", turn.client, delta.base)
            return None
        tensors = encoder.received(held, delta)
        return Adapter(version=delta.version, tensors=tensors, samples=delta.samples, losses=delta.losses)


def encoded_client(
    client: ClientMethod,
    config: RunConfig,
    pieces: Pieces,
    *,
    is_estimate: bool = False,
    meter: CodecMeter | None = None,
) -> ClientMethod:
    """The client with these settings' adapter codecs, if any; `config` and `pieces` are the client's."""
    if not config.codec.encodes_adapters:
        return client
    held = initial_tensors(config, pieces)
    return EncodingClient(client, held, config.codec, is_estimate=is_estimate, meter=meter)


def encoded_server(
    server: ServerMethod,
    config: RunConfig,
    pieces_of: Callable[[RunConfig], Pieces],
    *,
    is_estimate: bool = False,
    meter: CodecMeter | None = None,
) -> ServerMethod:
    """The server with these settings' adapter codecs, if any; `pieces_of` has a client's pieces."""
    if not config.codec.encodes_adapters:
        return server
    own = [as_client(config, client) for client in range(config.federation.clients)]
    tensors = {one: initial_tensors(one, pieces_of(one)) for one in dict.fromkeys(own)}
    held = [tensors[one] for one in own]
    return EncodingServer(server, held, config.codec, is_estimate=is_estimate, meter=meter)


def _encoder(codec: str, *, is_estimate: bool) -> AdapterEncoder | None:
    return AdapterEncoder(codec=codec, is_estimate=is_estimate) if codec != "none" else None


def _replaced(held: Tensors, tensors: Tensors) -> dict[str, Tensor]:
    """The tensors held with those received; others, such as a model of the server's, are not uploaded."""
    return {**held, **{name: value.cpu() for name, value in tensors.items() if name in held}}
