"""One message at a time is on the air, and a process that is killed does not hold it."""

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from splitfl.core.errors import PeerLost, Timeout
from testbed.radio.tokens.turns import SERVER, AirTurns


def test_others_wait_until_a_message_has_ended() -> None:
    turns = AirTurns(timeout_s=10.0)
    turns.begin(1)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(turns.begin, who) for who in (0, SERVER)]
        assert not any(one.done() for one in waiting)
        turns.end(2)  # which does not send
        assert not any(one.done() for one in waiting)
        turns.end(1)
        (first,), _ = wait(waiting, 1.0, FIRST_COMPLETED)
        turns.end((0, SERVER)[waiting.index(first)])
        assert [one.result(1.0) for one in waiting] == [None, None]


def test_a_client_that_was_restarted_amid_its_message_begins_again_but_the_server_never_twice() -> None:
    turns = AirTurns(timeout_s=0.01)
    turns.begin(1)
    turns.begin(1)
    with pytest.raises(Timeout, match=r"client 1 did not end its message within 0.01 s"):
        turns.begin(SERVER)
    turns.end(1)
    turns.begin(SERVER)
    with pytest.raises(Timeout, match="the server did not end its message"):
        turns.begin(SERVER)


def test_closing_ends_all_waits() -> None:
    turns = AirTurns(timeout_s=10.0)
    turns.begin(1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(turns.begin, 0)
        turns.close()
        with pytest.raises(PeerLost, match="the server's radio was closed"):
            waiting.result(1.0)
