"""Between a transport and the station: no error of one frame goes unanswered or unheard."""

from collections.abc import Callable

from splitfl.core.errors import RejoinRequired, SplitflError
from splitfl.server.server_loop import ServerLoop
from splitfl.wire import Envelope, Refusal, encode

_NOBODY = Envelope(client=-1, round=-1, lap=-1)


class ErrorBoundary:
    """Hands frames to the station; the first failure ends the run for everybody, with its reason."""

    def __init__(self, station: ServerLoop) -> None:
        self.failure: Exception | None = None
        self._station = station

    def handle(self, frame: bytes, answer: Callable[[bytes], None]) -> None:
        """Like the station's, but an error becomes a Refusal to whoever waits."""
        answered = False

        def answer_once(reply: bytes) -> None:
            nonlocal answered
            answered = True
            answer(reply)

        try:
            self._station.handle(frame, answer_once)
        except (
            RejoinRequired
        ) as error:  # its own client's affair; where it is everybody's, `fail` has said so
            if not answered:
                answer(refusal(self.failure or error))
        except Exception as error:  # whatever it is, the peers must not wait for ever
            self.fail(error)
            if not answered:
                answer(refusal(self.failure or error))

    def fail(self, error: Exception) -> None:
        """The run cannot go on; whoever waits for a turn is told."""
        self.failure = self.failure or error
        self._station.fail(self.failure)


def refusal(error: Exception) -> bytes:
    """The frame that tells a client of an error; not for good where the run goes on from an earlier round."""
    return encode(Refusal(reason=reason_of(error), is_final=not isinstance(error, RejoinRequired)), _NOBODY)


def reason_of(error: Exception) -> str:
    """One sentence for a person; other people's errors with their type's name."""
    return str(error) if isinstance(error, SplitflError) else f"{type(error).__name__}: {error}"
