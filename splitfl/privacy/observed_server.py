"""A method's server whose messages are recorded: the one place where probes see a run."""

from collections.abc import Sequence

from splitfl.core.messages import Activation, Message
from splitfl.core.state import State
from splitfl.methods.parts.method import BatchServer, ServerMethod, ServerReply, Turn
from splitfl.privacy.recorder import MessageRecorder


class ObservedServer:
    """A server of any method; each message is recorded as it was received, with the reply to it."""

    def __init__(self, method: ServerMethod, recorder: MessageRecorder) -> None:
        self._method, self._recorder = method, recorder
        self.commit, self.end_round, self.trained = method.commit, method.end_round, method.trained

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        computed = self._method.compute(turn, message)
        self._recorder.exchanged(turn, message, computed.reply)
        return computed

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Activation]) -> list[ServerReply]:
        """See BatchServer."""
        assert isinstance(self._method, BatchServer), "messages are served together if the method is able to"
        computed = self._method.compute_batch(turns, messages)
        for turn, message, reply in zip(turns, messages, computed, strict=True):
            self._recorder.exchanged(turn, message, reply.reply)
        return computed

    def state(self) -> State:
        return self._method.state()

    def restore(self, state: State) -> None:
        self._method.restore(state)
