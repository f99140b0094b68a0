"""The client's side of every road: drives a method's generator over a connection."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final, Protocol, Self

from splitfl.config import EXACT, CodecConfig
from splitfl.core.checkpoint import Checkpoint, CheckpointStore
from splitfl.core.errors import ConfigError, PeerLost, RejoinRequired, RunEnded, WireError
from splitfl.core.messages import (
    Absent,
    Adapter,
    Begin,
    Done,
    Join,
    Joined,
    Leave,
    Message,
    NotSelected,
    Reply,
    RunOver,
)
from splitfl.core.state import not_finite
from splitfl.methods.parts.method import ClientMethod
from splitfl.methods.parts.plan import codec_config
from splitfl.setup.experiment import Experiment
from splitfl.wire import Envelope, Refusal, decode, encode

log = logging.getLogger(__name__)

_UP_TO: Final = "up to"
_DATA: Final = "data"
JOIN_LAP = -1
"""The lap of the question with which round to go on, which is no part of any round."""


class Connection(Protocol):
    """One request, one reply, a timeout."""

    def request(self, frame: bytes) -> bytes:
        """The server's answer; Timeout or PeerLost where none comes."""


def is_over(reply: Reply) -> bool:
    """Whether a client that begins a round is told that there are no more."""
    return isinstance(reply, RunOver)


class ClientNode:
    """One client: its method and its count of messages."""

    def __init__(
        self,
        client: int,
        method: ClientMethod,
        shelf: CheckpointStore | None = None,
        codec: CodecConfig = EXACT,
        *,
        tells_speed: bool = False,
        data: str = "",
    ) -> None:
        """What it is after each round is kept on `shelf`, if there is one.

        `data` is a digest of its samples: ConfigError where the shelf's are of others. `codec` rounds what
        it sends, until a plan names another. Where it `tells_speed`, each round begins with the FLOP/s at
        which it has worked in the one before.
        """
        self.client = client
        self._tells_speed = tells_speed
        self._flops = self._worked_s = 0.0
        self.codec = codec
        self._method = method
        self._shelf = shelf
        self._data = data
        self._refuse_other_data()
        self._first = method.state()
        self._is_spoilt = False
        self._up_to = -1  # the last round that it has been through: what it keeps may be older than when
        self._round = 0
        self._lap = 0

    @classmethod
    def of(cls, site: Experiment, client: int, shelf: CheckpointStore | None = None) -> Self:
        """A client of a run of these settings."""
        config = site.config
        is_measured = config.auto.speed == "measured"
        return cls(
            client,
            site.client_method(client),
            shelf,
            config.codec,
            tells_speed=is_measured,
            data=site.data_digest(client),
        )

    def go_to(self, round_index: int) -> None:
        """Becomes what it was when this round began, or at the last time before that it has kept.

        What the federation has learnt since then the server tells it; what is lost are steps of its
        own optimiser.
        """
        kept = self._newest(round_index)
        self._method.restore(kept.tensors if kept is not None else self._first)
        self._up_to = _up_to(kept)
        self._method.take_flops()  # of what goes on without this client nobody hears

    def keep(self, round_index: int) -> None:
        """Keeps what it is before this round, unless that is not finite."""
        if round_index and self._shelf is not None:
            state = self._method.state()
            self._is_spoilt = not_finite(state) is not None
            if not self._is_spoilt:
                self._shelf.put(round_index - 1, state, {_UP_TO: str(self._up_to), _DATA: self._data})

    def begin(self, round_index: int) -> tuple[Callable[[Reply], Message | None], Message]:
        """Starts a round: what to resume it with a reply, and its first message."""
        self.keep(round_index)
        generator = self._method.round(round_index)
        self._round, self._lap = round_index, -1

        def resume(reply: Reply) -> Message | None:
            began_s = time.perf_counter()
            try:
                return generator.send(reply)
            except StopIteration:
                self._up_to = round_index
                return None
            finally:
                self._worked_s += time.perf_counter() - began_s

        return resume, next(generator)

    def join(self, connection: Connection, *, is_told: bool = False) -> int:
        """Asks with which round this client goes on, and becomes what it was when that began.

        `is_told` where the server has told it to, and knows so that nobody is lost.
        """
        self._round, self._lap = 0, JOIN_LAP
        envelope = Envelope(client=self.client, round=self._round, lap=self._lap)
        ask = Join(checkpoints=self._kept(), is_invited=is_told)
        told = self.reply(connection.request(encode(ask, envelope)))
        if not isinstance(told, Joined):
            raise WireError(f"client {self.client} asked where to go on and got {told!r:.60}")
        self.go_to(told.round)
        return told.round

    def sit_out(self, round_index: int) -> Message:
        """What to say instead of a round for which this client is not selected."""
        self.keep(round_index)
        self._round, self._lap, self._up_to = round_index, -1, round_index
        return NotSelected()

    def leave_for(self, round_index: int, rounds: int) -> Message:
        """What to say before so many rounds without this client, from this one on; `join` ends them."""
        self.keep(round_index)
        self._round, self._lap = round_index, -1
        return Absent(rounds=rounds)

    def frame(self, message: Message) -> bytes:
        """The next message of this round as it travels."""
        self._lap += 1
        flops = self._method.take_flops()
        self._flops += flops
        if isinstance(message, Begin):
            if self._tells_speed:
                message = self._with_speed(message)
            if self._is_spoilt:
                message = replace(message, is_finite=False)
        envelope = Envelope(client=self.client, round=self._round, lap=self._lap, flops=flops)
        return encode(message, envelope, self.codec)

    def _with_speed(self, begin: Begin) -> Begin:
        speed = self._flops / self._worked_s if self._flops and self._worked_s else None
        self._flops = self._worked_s = 0.0
        return replace(begin, flops_per_s=speed)

    def reply(self, frame: bytes) -> Reply:
        """The server's answer; PeerLost where it refuses, WireError where it is not one to us."""
        reply, envelope = decode(frame)
        if isinstance(reply, Refusal):
            raise (
                RunEnded(f"the server ended the run: {reply.reason}")
                if reply.is_final
                else RejoinRequired(reply.reason)
            )
        if envelope.client != self.client or envelope.lap != self._lap:
            raise WireError(
                f"client {self.client} expected the answer to message {self._lap} and got client "
                f"{envelope.client}'s to message {envelope.lap}"
            )
        plan = reply.plan if isinstance(reply, Done | Adapter) else None
        try:
            self.codec = codec_config(plan) if plan else self.codec
        except ConfigError as error:
            raise WireError(f"client {self.client} got a plan that it cannot follow: {error}") from None
        return reply

    def _kept(self) -> tuple[tuple[int, int], ...]:
        """The checkpoints that it could restore, as a `Join` names them."""
        return tuple((kept.round, _up_to(kept)) for kept in self._readable())

    def _newest(self, before: int | None = None) -> Checkpoint | None:
        """The last it has kept that can be read, after a round before this one if given."""
        return next(self._readable(before), None)

    def _refuse_other_data(self) -> None:
        kept = self._newest()
        if kept is not None and kept.notes.get(_DATA) != self._data:
            assert self._shelf is not None
            raise ConfigError(
                f"client {self.client}: the data changed since its state in {self._shelf.folder} was "
                "written. Restore them, or start without this state"
            )

    def _readable(self, before: int | None = None) -> Iterator[Checkpoint]:
        """What it has kept and can be read, after a round before this one if given, the last first."""
        if self._shelf is None:
            return
        for at in reversed([at for at in self._shelf.rounds() if before is None or at < before]):
            try:
                kept = self._shelf.at(at)
            except ConfigError as error:
                log.warning("client %d: %s", self.client, error)
            else:
                yield kept


def kept_before(join: Join, round_index: int) -> int:
    """The last round that a joining client had completed in the checkpoint that it restores for this round.

    -1 for none.
    """
    kept = {after: completed for after, completed in join.checkpoints if after < round_index}
    return kept[max(kept)] if kept else -1


def _up_to(kept: Checkpoint | None) -> int:
    """The last round that a client had been through when it was kept, -1 for none."""
    return int(kept.notes.get(_UP_TO, kept.round)) if kept is not None else -1


def run_client(
    node: ClientNode,
    connection: Connection,
    rounds: int,
    leave: Callable[[], Leave],
    on_step: Callable[[int, Message], None],
    takes_part: Callable[[int], bool] = lambda round_index: True,
    leaves: Mapping[int, int] | None = None,
) -> None:
    """Takes part in a run of so many rounds from where the server says to its end, then takes leave.

    Only in rounds in which it `takes_part`; where `leaves` names a round it is away for so many from there.
    """
    is_told = False
    while True:
        try:
            for round_index in range(node.join(connection, is_told=is_told), rounds):
                if leaves and round_index in leaves:
                    message = node.leave_for(round_index, leaves[round_index])
                    node.reply(connection.request(node.frame(message)))
                    is_told = True
                    break
                if takes_part(round_index):
                    _take_part(node, connection, round_index, on_step)
                else:
                    node.reply(connection.request(node.frame(node.sit_out(round_index))))
            else:
                break
        except _Over:
            break
        except RejoinRequired as why:
            is_told = True
            log.info("client %d goes back: %s", node.client, why)
    try:
        answer = connection.request(node.frame(leave()))
    except PeerLost:
        return  # the last client's server may be gone before its answer is here
    node.reply(answer)


def _take_part(
    node: ClientNode, connection: Connection, round_index: int, on_step: Callable[[int, Message], None]
) -> None:
    resume, message = node.begin(round_index)
    pending: Message | None = message
    while pending is not None:
        reply = node.reply(connection.request(node.frame(pending)))
        if is_over(reply):
            raise _Over
        on_step(round_index, pending)
        pending = resume(reply)


class _Over(Exception):
    """The run has had its last round."""
