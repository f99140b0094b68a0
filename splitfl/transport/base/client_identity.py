"""Rejects frames whose sender is another client than that of their connection."""

import logging
from collections.abc import Callable

from splitfl.core.errors import WireError
from splitfl.transport.base.transport import Answer, Handler
from splitfl.wire import Envelope, Refusal, encode
from splitfl.wire.frame import sender

log = logging.getLogger(__name__)


def only_own(handle: Callable[[bytes, Answer], None]) -> Handler:
    """A handler that passes on a client's own frames, and invalid frames for `handle` to reject.

    A frame with another client's index is refused to its sender; the run is not affected.
    """

    def checked(client: int, frame: bytes, answer: Answer) -> None:
        try:
            named = sender(frame)
        except WireError:
            named = client
        if named == client:
            handle(frame, answer)
            return
        reason = f"client {client} sent a message in the name of client {named}"
        log.warning("refused: %s", reason)
        answer(encode(Refusal(reason=reason), Envelope(client=client, round=-1, lap=-1)))

    return checked
