"""The server of a run whose clients have radios and processes of their own."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from channel.core.closing import Closing
from channel.core.link import Delivery, Transfer
from splitfl.config import RunConfig
from splitfl.core.errors import SplitflError, WireError
from splitfl.core.messages import Join, Leave
from splitfl.server.session_router import refusal
from splitfl.transport.base.transport import Answer, Handler
from splitfl.transport.radio.spec import RadioSettings
from splitfl.wire import Frame
from splitfl.wire.row_split import NO_ROWS, Mask, split
from testbed.radio.tokens.ends import ASK, SENT, heard, node_of, received
from testbed.radio.tokens.node import TokenNode
from testbed.radio.tokens.records import RECORD, Record, joined, unpacked
from testbed.radio.tokens.sending import Sending, delivery_of
from testbed.radio.tokens.turns import SERVER, AirTurns

_LOST: Final = b""


def open_server_radio(config: RunConfig) -> "TokenServer":
    """The server's radio. Raises ConfigError for settings that it does not support."""
    own = config.transport.of(RadioSettings)
    return TokenServer(node_of(config, 0), own, config.transport.join_timeout_s, config.federation.clients)


class TokenServer(Closing):
    """Implements ServerRadio. A reply counts as arrived with all its tokens: the client alone knows which.

    Clients that leave are answered once all have left: samples pass only while all radios take part.
    """

    def __init__(
        self, opens: Callable[[], TokenNode], settings: RadioSettings, timeout_s: float, clients: int
    ) -> None:
        """Opens its node once there are requests. No wait for the air lasts longer than `timeout_s`."""
        self._turns = AirTurns(timeout_s)
        self._opens, self._timeout_s = opens, timeout_s
        self._opened: TokenNode | None = None
        self._arrived: dict[int, tuple[Sending, Mask | None]] = {}
        self._replied: set[int] = set()
        self._clients, self._settings = clients, settings
        self._records: dict[int, Record] = {}
        self._leaving: dict[int, Callable[[], None]] = {}

    def handler(self, handle: Handler) -> Handler:
        """See ServerRadio."""
        self._opened = self._opens()

        def by_radio(client: int, request: bytes, answer: Answer) -> None:
            if request.startswith(RECORD):
                answer(self._recorded(client, request))
                return
            if not request.startswith((ASK, SENT)):
                self._turns.end(client)  # of a process that was killed amid its message
                self._without_radio(client, request, answer, handle)
                return
            try:
                if request == ASK:
                    self._turns.begin(client)
                    self._node.forget(client + 1)
                    answer(ASK)
                    return
                frame = self._frame(client, request)
            except SplitflError as error:
                answer(refusal(error))
                return
            finally:
                if request != ASK:
                    self._turns.end(client)

            def reply(data: bytes) -> None:
                answer(SENT if client in self._replied else data)

            self._replied.discard(client)
            handle(client, frame, reply)

        return by_radio

    def carry(self, transfer: Transfer, frame: bytes, sent_N: Mask | None = None) -> tuple[Delivery, bytes]:
        """See Carrier."""
        if transfer.direction == "up":
            sending, rows_N = self._arrived.pop(transfer.client)
            delivery = delivery_of(transfer, sending, self._node.rate_hz, rows_N)
            return delivery, _LOST if sending.is_lost else frame
        is_whole = transfer.recovery == "acknowledged"
        reliable, row_UN = (frame, NO_ROWS) if is_whole else split(frame, sent_N)
        self._turns.begin(SERVER)
        try:
            sending = self._node.send(transfer.client + 1, reliable, row_UN, self._timeout_s)
        finally:
            self._turns.end(SERVER)
        if not sending.is_lost:
            self._replied.add(transfer.client)
        rows_N = None if is_whole else np.ones(len(row_UN) if sent_N is None else sent_N.size, dtype=np.bool_)
        return delivery_of(transfer, sending, self._node.rate_hz, rows_N, sent_N), frame

    def record(self) -> Record | None:
        """What all nodes recorded of the waveform; None unless all clients have said so before they left."""
        if self._opened is None or len(self._records) < self._clients:
            return None
        return joined(self._settings, self._node.rate_hz, self._node.record(), self._records)

    def latest(self) -> list[dict[str, Any]]:
        """The last row of each uplink."""
        return [] if self._opened is None else self._opened.latest()

    def close(self) -> None:
        """Ends its radio, and all waits for it."""
        self._turns.close()
        if self._opened is not None:
            self._opened.close()

    @property
    def _node(self) -> TokenNode:
        assert self._opened is not None, "a handler comes before frames"
        return self._opened

    def _recorded(self, client: int, request: bytes) -> bytes:
        try:
            self._records[client] = unpacked(request, client, self._node.record())
        except SplitflError as error:
            return refusal(error)
        return RECORD

    def _without_radio(self, client: int, request: bytes, answer: Answer, handle: Handler) -> None:
        kind = _kind(request)
        if kind == Join.__name__:
            self._let_leave()  # the run is restarted, and does not wait for them
        handle(client, request, partial(self._leaves, client, answer) if kind == Leave.__name__ else answer)

    def _leaves(self, client: int, answer: Answer, reply: bytes) -> None:
        self._leaving[client] = partial(answer, reply)
        if len(self._leaving) == self._clients:
            self._let_leave()

    def _let_leave(self) -> None:
        while self._leaving:
            try:
                _, answer = self._leaving.popitem()
            except KeyError:  # another thread was faster
                return
            answer()

    def _frame(self, client: int, request: bytes) -> bytes:
        """The frame of a request; one that was lost comes with it, to be accounted for."""
        sending, lost = heard(request)
        if sending.is_lost:
            self._node.forget(client + 1)
            self._arrived[client] = sending, None
            return lost
        whole = received(self._node.receive(client + 1, self._timeout_s))
        self._arrived[client] = sending, whole.arrived_N if whole.arrived_N.size else None
        return whole.frame


def _kind(request: bytes) -> str:
    """The kind of a message; empty for what is no frame, which its handler refuses."""
    try:
        return Frame(request).kind
    except WireError:
        return ""
