"""Records when each message was sent and received, on the clocks of the two machines.

Both ends of a transport append JSON lines to a file of their own. A client writes a line for each reply, the
server one for each answer; `client` and `digest`, a checksum of the request, identify a request at both ends.
Times are Unix times in seconds: `sent_s` and `received_s` on the client's clock, `arrived_s` and
`answered_s` on the server's.
"""

import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from splitfl.core.errors import ConfigError
from splitfl.core.json_text import dumps
from splitfl.transport.base.spec import Joining, TransportSpec
from splitfl.transport.base.transport import Answer, ClientEnd, Handler
from splitfl.wire import Frame

Now = Callable[[], float]


class MessageTimes:
    """A file of message times, to which lines are appended. Raises ConfigError if it cannot be written."""

    def __init__(self, path: Path, now: Now = time.time) -> None:
        self.now, self._path, self._lock = now, path, threading.Lock()
        try:
            path.touch()
        except OSError as error:
            raise ConfigError(f"cannot write the message times to {path}: {error.strerror}") from None

    def served(self, handler: Handler) -> Handler:
        """The server's handler, which also records when each request arrived and was answered."""

        def handle(client: int, frame: bytes, answer: Answer) -> None:
            arrived_s, digest = self.now(), _digest(frame)

            def recorded(reply: bytes) -> None:
                self._write(client=client, digest=digest, arrived_s=arrived_s, answered_s=self.now())
                answer(reply)

            handler(client, frame, recorded)

        return handle

    def joined(self, spec: TransportSpec) -> TransportSpec:
        """The transport, whose clients also record when they sent each request and received its reply.

        Raises ConfigError for one whose frames cross a radio beside it.
        """
        if spec.describe_link is not None:
            raise ConfigError("message times are those of transports whose frames cross no radio beside them")
        return replace(spec, join=lambda joining: _RecordedEnd(spec.join(joining), joining, self))

    def exchanged(self, client: int, frame: bytes, reply: bytes, sent_s: float) -> None:
        """Records a client's request, sent at `sent_s`, and its reply, received now."""
        received_s, request = self.now(), Frame(frame)
        self._write(
            client=client,
            digest=_digest(frame),
            kind=request.kind,
            round=request.envelope.round,
            bytes_up=len(frame),
            bytes_down=len(reply),
            sent_s=sent_s,
            received_s=received_s,
        )

    def _write(self, **row: Any) -> None:
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(dumps(row) + "\n")


class _RecordedEnd:
    """A client's end that records its requests."""

    def __init__(self, end: ClientEnd, joining: Joining, times: MessageTimes) -> None:
        self.experiment = end.experiment
        self._end, self._client, self._times = end, joining.client, times

    def enter(self) -> None:
        self._end.enter()

    def request(self, frame: bytes) -> bytes:
        sent_s = self._times.now()
        reply = self._end.request(frame)
        self._times.exchanged(self._client, frame, reply, sent_s)
        return reply

    def leave(self) -> None:
        self._end.leave()


def _digest(frame: bytes) -> str:
    return f"{zlib.crc32(frame):08x}"
