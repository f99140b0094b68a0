"""A client speaks for itself only."""

import logging

import pytest

from splitfl.core.messages import Control
from splitfl.transport.base.client_identity import only_own
from splitfl.transport.base.transport import Answer
from splitfl.wire import Envelope, Refusal, decode, encode


def frame_of(client: int) -> bytes:
    return encode(Control(ask="begin", round=0, steps=1), Envelope(client=client, round=0, lap=0))


def heard_of(client: int, frame: bytes) -> tuple[list[bytes], list[bytes]]:
    """What the server hears of this frame, and what its sender is answered."""
    heard: list[bytes] = []
    answers: list[bytes] = []

    def handle(frame: bytes, answer: Answer) -> None:
        heard.append(frame)
        answer(b"yes")

    only_own(handle)(client, frame, answers.append)
    return heard, answers


def test_a_clients_own_frame_is_handed_on() -> None:
    assert heard_of(1, frame_of(1)) == ([frame_of(1)], [b"yes"])


def test_a_frame_in_anothers_name_is_refused_to_its_sender_alone(caplog: pytest.LogCaptureFixture) -> None:
    heard, (answer,) = heard_of(1, frame_of(0))
    refusal, envelope = decode(answer)
    assert heard == []
    assert refusal == Refusal(reason="client 1 sent a message in the name of client 0")
    assert envelope.client == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_what_is_no_frame_is_left_to_whoever_handles_frames() -> None:
    assert heard_of(1, b"noise") == ([b"noise"], [b"yes"])
