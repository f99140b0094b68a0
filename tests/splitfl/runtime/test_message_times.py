"""What both ends of a transport record of a message."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from splitfl.core.messages import Leave
from splitfl.runtime.message_times import MessageTimes
from splitfl.transport.base.spec import Joining
from splitfl.transport.base.transport import Answer
from splitfl.transport.registry import transport
from splitfl.wire import Envelope, encode


class Loop:
    """A client's end whose requests a handler answers at once."""

    experiment: dict[str, Any] = {"a": 1}  # noqa: RUF012 (as in the protocol)

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def enter(self) -> None: ...

    def leave(self) -> None: ...

    def request(self, frame: bytes) -> bytes:
        replies: list[bytes] = []
        self._handler(2, frame, replies.append)
        return replies[0]


def test_both_ends_record_a_request_with_the_same_digest_each_on_its_own_clock(tmp_path: Path) -> None:
    theirs, own = itertools.count(500.0), itertools.count(100.0)
    server = MessageTimes(tmp_path / "server", now=lambda: next(theirs))
    client = MessageTimes(tmp_path / "client", now=lambda: next(own))

    def handle(client: int, frame: bytes, answer: Answer) -> None:
        answer(b"reply")

    spec = replace(transport("rpc"), join=lambda joining: Loop(server.served(handle)))
    end = client.joined(spec).join(Joining(address="", client=2, timeout_s=1.0))
    assert end.experiment == {"a": 1}
    frame = encode(Leave(peak_bytes=1, base_bytes=1), Envelope(client=2, round=3, lap=0))
    assert end.request(frame) == b"reply"
    there, here = (json.loads((tmp_path / name).read_text()) for name in ("server", "client"))
    assert there == {"client": 2, "digest": here["digest"], "arrived_s": 500.0, "answered_s": 501.0}
    assert here | {"digest": ""} == {
        "client": 2,
        "digest": "",
        "kind": "Leave",
        "round": 3,
        "bytes_up": len(frame),
        "bytes_down": 5,
        "sent_s": 100.0,
        "received_s": 101.0,
    }


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write the message times to .*: No such file"):
        MessageTimes(tmp_path / "no" / "file")


def test_a_transport_whose_frames_cross_a_radio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="whose frames cross no radio beside them"):
        MessageTimes(tmp_path / "times").joined(transport("radio-nodes"))
