"""The client's side of a run, for every transport: drives a method's generator over a connection."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Protocol, Self

from splitfl.config import EXACT, CodecConfig
from splitfl.core.checkpoint import Checkpoint, CheckpointStore
from splitfl.core.errors import ConfigError, RejoinRequired, RunEnded, WireError
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
)
from splitfl.core.state import not_finite, part, under, without
from splitfl.methods.parts.method import ClientMethod
from splitfl.setup.experiment import Experiment
from splitfl.wire import Envelope, Refusal, decode, encode
from splitfl.wire.codec_meter import CodecMeter
from splitfl.wire.keyed import SentReferences

log = logging.getLogger(__name__)

_UP_TO: Final = "up to"
_DATA: Final = "data"
JOIN_LAP = -1
"""The lap of a `Join`, which is not part of any round."""


class Connection(Protocol):
    """Sends a request and waits for its reply."""

    def request(self, frame: bytes) -> bytes:
        """The reply frame; raises Timeout or PeerLost without one."""


class ClientNode:
    """One client: its method, its message counter and its checkpoints."""

    def __init__(
        self,
        client: int,
        method: ClientMethod,
        checkpoints: CheckpointStore | None = None,
        codec: CodecConfig = EXACT,
        *,
        reports_speed: bool = False,
        data: str = "",
        meter: CodecMeter | None = None,
        keeps_initial: bool = True,
    ) -> None:
        """Saves the state after each round to `checkpoints`, if given.

        `data` is a digest of the client's samples; raises ConfigError if its checkpoints have another.
        `codec` encodes its messages until a plan names another. With `reports_speed`, each `Begin` has the
        FLOP/s measured in the round before. `meter` measures its codecs. `keeps_initial`: training can be
        undone without a checkpoint.
        """
        self.client = client
        self._reports_speed = reports_speed
        self._flops = self._worked_s = 0.0
        self.codec, self._meter = codec, meter
        self.references = SentReferences()
        self._method = method
        self._checkpoints = checkpoints
        self._data = data
        self._check_data()
        self._initial = method.state() if keeps_initial else None
        self._is_not_finite = False
        self._completed = -1  # the last round that it completed, which may be later than its checkpoint
        self._round = self._lap = 0

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        client: int,
        checkpoints: CheckpointStore | None = None,
        make_method: Callable[[int, CodecMeter], ClientMethod] | None = None,
        meter: CodecMeter | None = None,
    ) -> Self:
        """Client `client` of this experiment; its initial state is kept unless it has a `make_method`.

        Several clients may have one `meter`; without, it has its own.
        """
        config, meter = experiment.config, meter or CodecMeter()
        return cls(
            client,
            (make_method or experiment.client_method)(client, meter),
            checkpoints,
            config.codec,
            reports_speed=config.auto.speed == "measured",
            data=experiment.data_digest(client),
            meter=meter,
            keeps_initial=make_method is None,
        )

    def restore(self, round_index: int) -> None:
        """Restores the newest checkpoint at or before this round, or the initial state without one.

        Only optimiser steps since then are lost, and if any are, references: the server sends the parameters.
        """
        checkpoint = self._newest(round_index)
        state = checkpoint.tensors if checkpoint is not None else self._initial
        assert state is not None or self._completed < 0, "the initial state was not kept"
        if state is not None:
            self._method.restore(without(state, "references"))
        self._completed = _completed(checkpoint)
        has_all = self._completed + 1 == round_index
        self.references.restore(part(state or {}, "references") if has_all else {})
        self._method.take_flops()  # not reported: the work is lost

    def save_checkpoint(self, round_index: int) -> None:
        """Saves the state before this round, unless it is not finite."""
        if round_index and self._checkpoints is not None:
            state = self._method.state()
            self._is_not_finite = not_finite(state) is not None
            if not self._is_not_finite:
                state = {**state, **under("references", self.references.state())}
                labels = {_UP_TO: str(self._completed), _DATA: self._data}
                self._checkpoints.put(round_index - 1, state, labels)

    def begin(self, round_index: int) -> tuple[Callable[[Reply], Message | None], Message]:
        """Starts a round: a function from a reply to the next message, and the first message."""
        self.save_checkpoint(round_index)
        generator = self._method.round(round_index)
        self._round, self._lap = round_index, -1

        def resume(reply: Reply) -> Message | None:
            began_s = time.perf_counter()
            try:
                return generator.send(reply)
            except StopIteration:
                self._completed = round_index
                return None
            finally:
                self._worked_s += time.perf_counter() - began_s

        return resume, next(generator)

    def join(self, connection: Connection, *, is_invited: bool = False) -> int:
        """Joins or rejoins the run; restores the state of the round to continue with, and returns that round.

        `is_invited` if the server requested it, which implies that no state was lost.
        """
        self._round, self._lap = 0, JOIN_LAP
        envelope = Envelope(client=self.client, round=self._round, lap=self._lap)
        join = Join(checkpoints=self._restorable(), is_invited=is_invited)
        joined = self.reply(connection.request(encode(join, envelope)))
        if not isinstance(joined, Joined):
            raise WireError(f"client {self.client} sent Join and got {joined!r:.60}")
        self.restore(joined.round)
        return joined.round

    def skip_round(self, round_index: int) -> Message:
        """The message for a round for which this client is not selected."""
        self.save_checkpoint(round_index)
        self._round, self._lap, self._completed = round_index, -1, round_index
        return NotSelected()

    def announce_absence(self, round_index: int, rounds: int) -> Message:
        """The message before `rounds` rounds of absence, from this one on; `join` ends the absence."""
        self.save_checkpoint(round_index)
        self._round, self._lap = round_index, -1
        return Absent(rounds=rounds)

    def leave(self) -> Leave:
        """The message at the end of the run."""
        return Leave(codecs=self._meter.take() if self._meter else ())

    def frame(self, message: Message) -> bytes:
        """The frame of this round's next message."""
        self._lap += 1
        flops = self._method.take_flops()
        self._flops += flops
        if isinstance(message, Begin):
            if self._reports_speed:
                message = self._with_speed(message)
            message = replace(message, is_finite=not self._is_not_finite)
        envelope = Envelope(client=self.client, round=self._round, lap=self._lap, flops=flops)
        return self.references.encode(message, envelope, self.codec, self._meter)

    def _with_speed(self, begin: Begin) -> Begin:
        speed = self._flops / self._worked_s if self._flops and self._worked_s else None
        self._flops = self._worked_s = 0.0
        return replace(begin, flops_per_s=speed)

    def reply(self, frame: bytes) -> Reply:
        """The decoded reply; raises PeerLost for a refusal, WireError for another client's frame."""
        reply, envelope = decode(frame)
        if isinstance(reply, Refusal):
            if reply.is_final:
                raise RunEnded(f"the server ended the run: {reply.reason}")
            raise RejoinRequired(reply.reason)
        if envelope.client != self.client or envelope.lap != self._lap:
            raise WireError(
                f"client {self.client} expected the answer to message {self._lap} and got client "
                f"{envelope.client}'s to message {envelope.lap}"
            )
        plan = reply.plan if isinstance(reply, Done | Adapter) else None
        try:
            self.codec = CodecConfig.at_cut(plan.codec) if plan else self.codec
        except ConfigError as error:
            raise WireError(f"client {self.client} got an invalid plan: {error}") from None
        return self.references.answered(reply)

    def _restorable(self) -> tuple[tuple[int, int], ...]:
        """The readable checkpoints, in the form of `Join.checkpoints`."""
        return tuple((checkpoint.round, _completed(checkpoint)) for checkpoint in self._readable())

    def _newest(self, before: int | None = None) -> Checkpoint | None:
        """The newest readable checkpoint, of a round before `before` if given."""
        return next(self._readable(before), None)

    def _check_data(self) -> None:
        checkpoint = self._newest()
        if checkpoint is not None and checkpoint.metadata.get(_DATA) != self._data:
            assert self._checkpoints is not None
            raise ConfigError(
                f"client {self.client}: the data changed since its state in {self._checkpoints.folder} was "
                "written. Restore the data, or start with another state folder"
            )

    def _readable(self, before: int | None = None) -> Iterator[Checkpoint]:
        """The readable checkpoints, newest first, of rounds before `before` if given."""
        if self._checkpoints is None:
            return
        for at in reversed([at for at in self._checkpoints.rounds() if before is None or at < before]):
            try:
                checkpoint = self._checkpoints.at(at)
            except ConfigError as error:
                log.warning("client %d: %s", self.client, error)
            else:
                yield checkpoint


def completed_before(join: Join, round_index: int) -> int:
    """The last round completed in the checkpoint that a joining client restores for this round, or -1."""
    completed_by = {after: completed for after, completed in join.checkpoints if after < round_index}
    return completed_by[max(completed_by)] if completed_by else -1


def _completed(checkpoint: Checkpoint | None) -> int:
    """The last round completed in this checkpoint, -1 for none."""
    return int(checkpoint.metadata.get(_UP_TO, checkpoint.round)) if checkpoint is not None else -1
